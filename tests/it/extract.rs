//! Documents of every kind, made here, read by the real program in its limited child process.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rag_api::document::{Failure, FailureReason};
use rag_api::error::ErrorKind;
use rag_api::ingest::extract::{ExtractRequest, Extracted, Extractor, Limits};
use rag_api::models;
use zip::write::SimpleFileOptions;

use crate::models::config;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rag-api");

fn extractor(limits: Limits) -> Extractor {
    let pdfium = models::pdfium_library(&config()).unwrap();
    Extractor::new(PathBuf::from(PROGRAM), Some(pdfium), limits)
}

async fn read_within(limits: Limits, name: &str, bytes: &[u8]) -> Result<Extracted, Failure> {
    read_as(limits, Some(name), None, bytes).await
}

async fn read_as(
    limits: Limits,
    name: Option<&str>,
    media_type: Option<&str>,
    bytes: &[u8],
) -> Result<Extracted, Failure> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let (filename, media_type) = (name.map(str::to_owned), media_type.map(str::to_owned));
    let request = ExtractRequest { path: file.path().to_owned(), filename, media_type };
    extractor(limits).extract(&request).await.unwrap()
}

async fn read(name: &str, bytes: &[u8]) -> Extracted {
    read_within(Limits::default(), name, bytes).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"))
}

async fn failure(name: &str, bytes: &[u8]) -> FailureReason {
    let outcome = read_within(Limits::default(), name, bytes).await;
    let failure = outcome.err().unwrap_or_else(|| panic!("{name} was read"));
    assert!(failure.detail.contains(';') || failure.detail.contains(','), "says what to do: {}", failure.detail);
    failure.reason
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name)).unwrap()
}

fn zip(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

const TYPES: (&str, &str) = ("[Content_Types].xml", "<Types/>");

fn docx(body: &str, parts: &[(&str, &str)]) -> Vec<u8> {
    let document = format!("<w:document xmlns:w='w' xmlns:r='r'><w:body>{body}</w:body></w:document>");
    zip(&[&[TYPES, ("word/document.xml", document.as_str())], parts].concat())
}

fn paragraph(text: &str) -> String {
    format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")
}

#[tokio::test]
async fn word_documents() {
    let styles = "<w:styles xmlns:w='w'><w:style w:styleId='berschrift1'><w:name w:val='heading 1'/></w:style>\
                  <w:style w:styleId='Mine'><w:basedOn w:val='berschrift1'/></w:style></w:styles>";
    let numbering = "<w:numbering xmlns:w='w'><w:abstractNum w:abstractNumId='4'><w:lvl w:ilvl='0'><w:numFmt w:val='decimal'/>\
                     </w:lvl></w:abstractNum><w:num w:numId='7'><w:abstractNumId w:val='4'/></w:num></w:numbering>";
    let item = |text: &str| {
        format!(
            "<w:p><w:pPr><w:numPr><w:ilvl w:val='0'/><w:numId w:val='7'/></w:numPr></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"
        )
    };
    let body = [
        "<w:p><w:pPr><w:pStyle w:val='Mine'/></w:pPr><w:r><w:t>Retention</w:t></w:r></w:p>".to_owned(),
        "<w:p><w:r><w:t>Kept for </w:t></w:r><w:del><w:r><w:delText>nine</w:delText></w:r></w:del>\
         <w:ins><w:r><w:t>ten years</w:t></w:r></w:ins><w:r><w:footnoteReference w:id='2'/></w:r></w:p>"
            .to_owned(),
        item("first"),
        item("second"),
        format!(
            "<w:tbl><w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr><w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr></w:tbl>",
            paragraph("Kind"),
            paragraph("Years"),
            paragraph("Invoice"),
            paragraph("10")
        ),
    ]
    .concat();
    let header = format!("<w:hdr xmlns:w='w'>{}</w:hdr>", paragraph("Molière &amp; Co"));
    let footnotes =
        format!("<w:footnotes xmlns:w='w'><w:footnote w:id='2'>{}</w:footnote></w:footnotes>", paragraph("by law"));
    let comments = format!(
        "<w:comments xmlns:w='w'><w:comment w:author='Ada'>{}</w:comment></w:comments>",
        paragraph("check this")
    );
    let core = "<cp:coreProperties xmlns:dc='dc' xmlns:cp='cp'><dc:title>Policy</dc:title></cp:coreProperties>";
    let parts = [
        ("word/styles.xml", styles),
        ("word/numbering.xml", numbering),
        ("word/header1.xml", &header),
        ("word/footnotes.xml", &footnotes),
        ("word/comments.xml", &comments),
        ("docProps/core.xml", core),
    ];
    let extracted = read("policy.docx", &docx(&body, &parts)).await;
    assert_eq!(extracted.title.as_deref(), Some("Policy"));
    assert!(extracted.markdown);
    assert_eq!(
        extracted.text,
        "Molière & Co\n\n# Retention\n\nKept for ten years[^2]\n\n1. first\n2. second\n\n| Kind | Years |\n| --- | --- |\n\
         | Invoice | 10 |\n\n[^2]: by law\n\nComment (Ada): check this"
    );
}

#[tokio::test]
async fn presentations_have_a_page_for_each_slide_in_the_order_of_the_show() {
    let slide = |title: &str, body: &str| {
        format!(
            "<p:sld xmlns:p='p' xmlns:a='a'><p:sp><p:nvPr><p:ph type='title'/></p:nvPr><a:p><a:t>{title}</a:t></a:p></p:sp>\
             <p:sp><a:p><a:t>{body}</a:t></a:p></p:sp></p:sld>"
        )
    };
    let show = "<p:presentation xmlns:p='p' xmlns:r='r'><p:sldIdLst><p:sldId id='256' r:id='rId9'/>\
                <p:sldId id='257' r:id='rId2'/></p:sldIdLst></p:presentation>";
    let relations = "<Relationships><Relationship Id='rId2' Type='x/slide' Target='slides/slide1.xml'/>\
                     <Relationship Id='rId9' Type='x/slide' Target='slides/slide2.xml'/></Relationships>";
    let notes = "<p:notes xmlns:p='p' xmlns:a='a'><p:sp><p:ph type='sldNum'/><a:p><a:t>1</a:t></a:p></p:sp>\
                 <p:sp><p:ph type='body'/><a:p><a:t>say hello</a:t></a:p></p:sp></p:notes>";
    let bytes = zip(&[
        TYPES,
        ("ppt/presentation.xml", show),
        ("ppt/_rels/presentation.xml.rels", relations),
        ("ppt/slides/slide1.xml", &slide("End", "thanks")),
        ("ppt/slides/slide2.xml", &slide("Begin", "welcome")),
        (
            "ppt/slides/_rels/slide2.xml.rels",
            "<Relationships><Relationship Id='r1' Type='x/notesSlide' Target='../notesSlides/notesSlide1.xml'/></Relationships>",
        ),
        ("ppt/notesSlides/notesSlide1.xml", notes),
    ]);
    let extracted = read("talk.pptx", &bytes).await;
    assert_eq!(extracted.text, "## Begin\n\nwelcome\n\nsay hello\n\n## End\n\nthanks");
    assert_eq!(extracted.pages, [0, 30]);
}

fn xlsx(strings: &str, sheets: &[&str]) -> Vec<u8> {
    let list =
        (1..=sheets.len()).map(|n| format!("<sheet name='S{n}' sheetId='{n}' r:id='rId{n}'/>")).collect::<String>();
    let workbook = format!(
        "<workbook xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'><sheets>{list}</sheets></workbook>"
    );
    let kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let relations = (1..=sheets.len())
        .map(|n| format!("<Relationship Id='rId{n}' Type='{kind}/worksheet' Target='worksheets/sheet{n}.xml'/>"))
        .collect::<String>();
    let relations = format!("<Relationships>{relations}</Relationships>");
    let root = format!(
        "<Relationships><Relationship Id='r' Type='{kind}/officeDocument' Target='xl/workbook.xml'/></Relationships>"
    );
    let names = (1..=sheets.len()).map(|n| format!("xl/worksheets/sheet{n}.xml")).collect::<Vec<_>>();
    let sheets = sheets
        .iter()
        .map(|rows| format!("<worksheet><dimension ref='A1:C1048576'/><sheetData>{rows}</sheetData></worksheet>"))
        .collect::<Vec<_>>();
    let mut parts = vec![
        TYPES,
        ("_rels/.rels", root.as_str()),
        ("xl/workbook.xml", &workbook),
        ("xl/_rels/workbook.xml.rels", &relations),
        ("xl/sharedStrings.xml", strings),
    ];
    parts.extend(names.iter().map(String::as_str).zip(sheets.iter().map(String::as_str)));
    zip(&parts)
}

#[tokio::test]
async fn workbooks_have_a_page_for_each_sheet() {
    let strings = "<sst><si><t>item</t></si><si><t>price</t></si><si><t>tea</t></si></sst>";
    let first = "<row r='1'><c r='A1' t='s'><v>0</v></c><c r='B1' t='s'><v>1</v></c></row>\
                 <row r='2'><c r='A2' t='s'><v>2</v></c><c r='B2'><v>3.50</v></c></row>";
    let last = "<row r='1048576'><c r='XFD1048576' t='inlineStr'><is><t>far away</t></is></c></row>";
    let extracted = read("prices.xlsx", &xlsx(strings, &[first, last])).await;
    assert_eq!(extracted.text, "## S1\n\nitem\tprice\ntea\t3.5\n\n## S2\n\nfar away");
    assert_eq!(extracted.pages, [0, 27]);
}

#[tokio::test]
async fn open_documents() {
    let office = "xmlns:office='o' xmlns:text='t' xmlns:table='b' xmlns:draw='d'";
    let content = format!(
        "<office:document-content {office}><office:text><text:h text:outline-level='2'>Head</text:h>\
         <text:p>One<text:s text:c='2'/>two<text:note><text:note-citation>1</text:note-citation><text:note-body>\
         <text:p>aside</text:p></text:note-body></text:note></text:p><text:list><text:list-item><text:p>item</text:p>\
         </text:list-item></text:list></office:text></office:document-content>"
    );
    let odt = zip(&[
        ("mimetype", "application/vnd.oasis.opendocument.text"),
        ("content.xml", &content),
        ("META-INF/manifest.xml", "<manifest/>"),
    ]);
    assert_eq!(read("a.odt", &odt).await.text, "## Head\n\nOne  two (aside)\n\n- item");

    let sheet = format!(
        "<office:document-content {office}><office:spreadsheet><table:table table:name='May'><table:table-row>\
         <table:table-cell><text:p>a</text:p></table:table-cell>\
         <table:table-cell table:number-columns-repeated='16383'/></table:table-row>\
         <table:table-row table:number-rows-repeated='1048575'><table:table-cell/></table:table-row></table:table>\
         <table:table table:name='June'><table:table-row><table:table-cell><text:p>b</text:p></table:table-cell>\
         </table:table-row></table:table></office:spreadsheet></office:document-content>"
    );
    let ods = zip(&[
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("content.xml", &sheet),
        ("META-INF/manifest.xml", "<manifest/>"),
    ]);
    let extracted = read("a.ods", &ods).await;
    assert_eq!((extracted.text.as_str(), extracted.pages), ("## May\n\na\n\n## June\n\nb", vec![0, 11]));
}

/// A book of these chapters (name in the package, text) along these links.
fn epub(chapters: &[(&str, &str)], links: &[&str]) -> Vec<u8> {
    let items =
        links.iter().enumerate().map(|(n, link)| format!("<item id='i{n}' href='{link}'/>")).collect::<String>();
    let spine = (0..links.len()).map(|n| format!("<itemref idref='i{n}'/>")).collect::<String>();
    let book = format!(
        "<package xmlns:dc='d'><metadata><dc:title>A book</dc:title></metadata><manifest>{items}</manifest>\
         <spine>{spine}</spine></package>"
    );
    let pages = chapters.iter().map(|(name, text)| {
        let page = format!(
            "<?xml version='1.0'?><!DOCTYPE html PUBLIC 'x' 'http://example.org/x.dtd'><html><head><title/></head>\
             <body><h1>{text}</h1></body></html>"
        );
        (format!("OPS/{name}"), page)
    });
    let pages = pages.collect::<Vec<_>>();
    let container = "<container><rootfiles><rootfile full-path='OPS/book.opf'/></rootfiles></container>";
    let mut parts =
        vec![("mimetype", "application/epub+zip"), ("META-INF/container.xml", container), ("OPS/book.opf", &book)];
    parts.extend(pages.iter().map(|(name, page)| (name.as_str(), page.as_str())));
    zip(&parts)
}

#[tokio::test]
async fn books_are_read_along_their_spine() {
    let book = epub(&[("b.xhtml", "Second"), ("text/a.xhtml", "First")], &["text/a.xhtml", "b.xhtml"]);
    let extracted = read("book.epub", &book).await;
    assert_eq!((extracted.title.as_deref(), extracted.text.as_str()), (Some("A book"), "# First\n\n# Second"));
}

#[tokio::test]
async fn links_of_books_are_decoded() {
    let chapters = [("Čapek.xhtml", "One"), ("a (b).xhtml", "Two"), ("100%25.xhtml", "Three"), ("x y.xhtml", "Four")];
    let links = ["%C4%8Capek.xhtml#top", "a%20%28b%29.xhtml", "100%25.xhtml", "x y.xhtml", "missing.xhtml"];
    assert_eq!(read("book.epub", &epub(&chapters, &links)).await.text, "# One\n\n# Two\n\n# Three\n\n# Four");
    assert_eq!(failure("book.epub", &epub(&chapters, &["missing.xhtml"])).await, FailureReason::Malformed);
    assert_eq!(failure("book.epub", &epub(&chapters, &[])).await, FailureReason::Malformed);
}

#[tokio::test]
async fn mails_with_what_is_attached() {
    let extracted = read("mail.eml", &fixture("forwarded.eml")).await;
    assert_eq!(extracted.title.as_deref(), Some("Quarterly figures – März"));
    for part in
        ["From: Ada <ada@example.org>", "the figures are attached", "| Quarter | Sum |", "Attachment: notes.csv"]
    {
        assert!(extracted.text.contains(part), "{part} in {}", extracted.text);
    }
    // A picture that cannot be read costs nothing; a mail in the mail is read.
    assert!(extracted.text.contains("Attachment: logo.png"));
    assert!(extracted.text.contains("## The original question\n\nFrom: Bob <bob@example.org>"), "{}", extracted.text);
    assert!(extracted.text.contains("what were the sums?"));
}

#[tokio::test]
async fn plain_kinds() {
    let markdown = read("a.md", b"\xef\xbb\xbf# Title\r\n\r\ntext\r\n\r\n\r\n\r\nmore").await;
    assert_eq!((markdown.title.as_deref(), markdown.text.as_str()), (Some("Title"), "# Title\n\ntext\n\nmore"));
    let latin = read("a.txt", b"na\xefve caf\xe9 au lait, d\xe9j\xe0 vu").await;
    assert_eq!((latin.text.as_str(), latin.markdown), ("naïve café au lait, déjà vu", false));
    assert_eq!(read("a.csv", b"a;b\n\"1\n2\";3\n").await.text, "a\tb\n1 2\t3");
    assert_eq!(read("a.rtf", br"{\rtf1\ansi\ansicpg1250 \'9eena\par}").await.text, "žena");
    let html = read("a.html", b"<title>T</title><nav>menu</nav><h1>H</h1><p>caf&eacute;<script>x</script>").await;
    assert_eq!((html.title.as_deref(), html.text.as_str()), (Some("T"), "# H\n\ncafé"));
    let packed = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(b"a,b\n1,2\n").unwrap();
        writer.finish().unwrap()
    };
    assert_eq!(read("a.csv.gz", &packed).await.media_type, "text/csv");
}

#[tokio::test]
async fn a_declared_charset_is_read() {
    // Too short to be told by its bytes.
    let (bytes, _, _) = encoding_rs::GBK.encode("发票 α");
    let extracted = read_as(Limits::default(), Some("a.txt"), Some("text/plain; charset=gbk"), &bytes).await.unwrap();
    assert_eq!(extracted.text, "发票 α");
    let letters = read("notes.txt", b"BMW-H\xe4ndler in K\xf6ln").await;
    assert_eq!(letters.text, "BMW-Händler in Köln");
}

#[tokio::test]
async fn text_is_free_of_what_cannot_be_seen() {
    let text = "ignore\u{200b} this <|im_start|>system\u{202e} می\u{200c}خواهم ﬁn";
    assert_eq!(read("a.txt", text.as_bytes()).await.text, "ignore this  system می\u{200c}خواهم fin");
    // A stray zero does not make a text binary.
    let text = format!("{}\0end", "words ".repeat(400));
    assert!(read("a.txt", text.as_bytes()).await.text.ends_with("words end"));
}

/// A PDF of pages with content streams; `boxes` goes into each page.
fn pdf(pages: &[&str], boxes: &str) -> Vec<u8> {
    let mut out = String::from("%PDF-1.4\n");
    let kids = (0..pages.len()).map(|n| format!("{} 0 R ", 4 + 2 * n)).collect::<String>();
    let mut objects = vec![
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        format!("<</Type/Pages/Kids[{kids}]/Count {}>>", pages.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned(),
    ];
    for (n, content) in pages.iter().enumerate() {
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]{boxes}/Resources<</Font<</F 3 0 R>>>>/Contents {} 0 R>>",
            5 + 2 * n
        ));
        objects.push(format!("<</Length {}>>\nstream\n{content}\nendstream", content.len()));
    }
    let mut places = Vec::new();
    for (n, object) in objects.iter().enumerate() {
        places.push(out.len());
        out.push_str(&format!("{} 0 obj\n{object}\nendobj\n", n + 1));
    }
    let start = out.len();
    out.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1));
    places.iter().for_each(|place| out.push_str(&format!("{place:010} 00000 n \n")));
    out.push_str(&format!("trailer<</Size {}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1));
    out.into_bytes()
}

#[tokio::test]
async fn pdf_pages() {
    let bold = "BT /F 12 Tf 20 200 Td (Fill the bill) Tj ET BT /F 12 Tf 20.3 200 Td (Fill the bill) Tj ET";
    let lines = "BT /F 12 Tf 20 200 Td (One line) Tj 0 -14 Td (and the next) Tj 0 -40 Td (A paragraph) Tj ET";
    let extracted = read("a.pdf", &pdf(&[bold, "", lines], "")).await;
    assert_eq!(extracted.text, "Fill the bill\n\nOne line\nand the next\n\nA paragraph");
    assert_eq!(extracted.pages, [0, 13, 15]);
    assert_eq!(extracted.media_type, "application/pdf");
    assert!(!extracted.markdown);
}

#[tokio::test]
async fn text_beside_the_page_is_not_read() {
    let page =
        "BT /F 12 Tf 20 50 Td (seen) Tj ET BT /F 12 Tf 20 250 Td (unseen) Tj ET BT /F 12 Tf -900 50 Td (unseen) Tj ET";
    assert_eq!(read("a.pdf", &pdf(&[page], "/CropBox[0 0 300 100]")).await.text, "seen");
    assert_eq!(failure("a.pdf", &pdf(&["0 0 m 9 9 l S"], "")).await, FailureReason::NoText);
}

#[tokio::test]
async fn locked_documents() {
    let mut ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    ole.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
    assert_eq!(failure("a.docx", &ole).await, FailureReason::Encrypted);
    let sealed = zip(&[
        ("mimetype", "application/vnd.oasis.opendocument.text"),
        ("content.xml", "noise"),
        ("META-INF/manifest.xml", "<manifest><encryption-data/></manifest>"),
    ]);
    assert_eq!(failure("a.odt", &sealed).await, FailureReason::Encrypted);
    // The flag of an encrypted member, in both of its headers.
    let mut locked = zip(&[("secret.txt", "words")]);
    for magic in [b"PK\x03\x04".as_slice(), b"PK\x01\x02"] {
        let at = locked.windows(4).position(|window| window == magic).unwrap();
        locked[at + if magic[2] == 3 { 6 } else { 8 }] |= 1;
    }
    assert_eq!(failure("a.zip", &locked).await, FailureReason::Encrypted);
}

#[tokio::test]
async fn damaged_and_foreign_files() {
    let whole = docx(&paragraph("text"), &[]);
    assert_eq!(failure("a.docx", &whole[..whole.len() / 2]).await, FailureReason::Malformed);
    assert_eq!(failure("a.docx", &docx("<w:p></w:q>", &[])).await, FailureReason::Malformed);
    assert_eq!(failure("a.pdf", b"").await, FailureReason::Malformed);
    assert_eq!(failure("a.pdf", b"%PDF-1.7\nnothing").await, FailureReason::Malformed);
    assert_eq!(failure("a.xlsx", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").await, FailureReason::Malformed);
    assert_eq!(failure("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").await, FailureReason::Unsupported);
    assert_eq!(failure("a.zip", &zip(&[("a.txt", "text")])).await, FailureReason::Unsupported);
    assert_eq!(failure("a.txt", b" \n\t").await, FailureReason::NoText);
}

#[tokio::test]
async fn bombs() {
    let zeros = "0".repeat(64 << 20);
    assert_eq!(failure("a.docx", &docx(&paragraph(&zeros), &[])).await, FailureReason::TooLarge);
    assert_eq!(failure("a.zip", &zip(&[("a.txt", &zeros)])).await, FailureReason::TooLarge);
    assert_eq!(failure("a.zip", &zip(&[("b.zip", "")])).await, FailureReason::TooLarge);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(zeros.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(failure("a.txt.gz", &gzip).await, FailureReason::TooLarge);
    let mut nested = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    nested.write_all(&gzip).unwrap();
    assert_eq!(failure("a.gz", &nested.finish().unwrap()).await, FailureReason::TooLarge);
    let laughs = "<!DOCTYPE s [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><sst><si><t>&b;</t></si></sst>";
    let row = "<row r='1'><c r='A1' t='s'><v>0</v></c></row>";
    assert_eq!(failure("a.xlsx", &xlsx(laughs, &[row])).await, FailureReason::TooLarge);
}

#[tokio::test]
async fn external_entities_read_as_nothing() {
    let body = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>";
    let document = format!("{body}<w:document xmlns:w='w'>{}</w:document>", paragraph("before &x; after"));
    let extracted = read("a.docx", &zip(&[TYPES, ("word/document.xml", &document)])).await;
    assert_eq!(extracted.text, "before  after");
}

#[tokio::test]
async fn nesting_ends_no_reader() {
    let deep = format!(
        "{}{}{}",
        "<w:tbl><w:tr><w:tc>".repeat(20_000),
        paragraph("deep"),
        "</w:tc></w:tr></w:tbl>".repeat(20_000)
    );
    assert_eq!(read("a.docx", &docx(&deep, &[])).await.text, "deep");
    let html = format!("{}deep", "<div><table><tr><td>".repeat(20_000));
    assert_eq!(read("a.html", html.as_bytes()).await.text, "deep");
}

#[tokio::test]
async fn limits_of_the_child_hold() {
    let reason = |outcome: Result<Extracted, Failure>| outcome.expect_err("it was read").reason;
    let text = "a line of text\n".repeat(7 << 20);
    let small = Limits { memory: 256 << 20, ..Limits::default() };
    assert_eq!(reason(read_within(small, "a.txt", text.as_bytes()).await), FailureReason::TooLarge);
    let short = Limits { max_text_bytes: 100, ..Limits::default() };
    assert_eq!(reason(read_within(short, "a.txt", &text.as_bytes()[..1_000]).await), FailureReason::TooLarge);
    let hasty = Limits { timeout: Duration::ZERO, ..Limits::default() };
    let slow = "<div hidden>".repeat(4 << 20);
    assert_eq!(reason(read_within(hasty, "a.html", slow.as_bytes()).await), FailureReason::Timeout);
}

#[tokio::test]
async fn what_is_ours_is_not_the_documents_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pdf(&[""], "")).unwrap();
    let request = ExtractRequest { path: file.path().to_owned(), filename: None, media_type: None };
    let no_pdfium = Extractor::new(PathBuf::from(PROGRAM), None, Limits::default());
    assert_eq!(no_pdfium.extract(&request).await.unwrap_err().kind(), ErrorKind::Internal);
    let no_program = Extractor::new(PathBuf::from("/no/such/program"), None, Limits::default());
    assert_eq!(no_program.extract(&request).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let missing = ExtractRequest { path: PathBuf::from("/no/such/file"), ..request };
    assert_eq!(no_pdfium.extract(&missing).await.unwrap_err().kind(), ErrorKind::Internal);
}
