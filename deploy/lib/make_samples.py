#!/usr/bin/env python3
"""Makes the sample documents that are not text: deploy/samples/*.docx and *.pdf.

Run it after changing what they say. The same text always gives the same bytes. Only the standard library is needed.
"""

import os
import zipfile
from xml.sax.saxutils import escape

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "samples")

# (style, text): a heading or a paragraph.
RETENTION = [
    ("Heading1", "Retention of records"),
    ("Normal", "Brindlemark Instruments, finance policy 7, version 3. Owner: the head of finance, Elif Brandt."),
    ("Heading2", "What is kept, and how long"),
    ("Normal", "Invoices, sent and received, are kept for ten years. The time begins with the end of the calendar year "
               "in which the invoice was written. Offers that led to no order are kept for two years."),
    ("Normal", "Calibration certificates are kept for fifteen years, because customers may have to prove to their "
               "authority what a probe measured. Raw measurements of customers are kept for thirty days after they "
               "were delivered, then deleted without a copy."),
    ("Normal", "Applications of people who were not hired are deleted six months after the answer."),
    ("Heading2", "Where"),
    ("Normal", "Paper is not kept. What arrives on paper is scanned within five working days, checked by a second "
               "person, and shredded."),
    ("Heading2", "Exceptions"),
    ("Normal", "A legal hold stops every deletion of the records it names. Only the general counsel sets one, and only "
               "the general counsel lifts it."),
]

# One list of lines per page; a line that starts with # is a heading.
MANUAL = [
    ["#Lagoon probe: operating manual", "",
     "Brindlemark Instruments, edition 5, for firmware 4.1 and newer.", "",
     "The Lagoon probe measures pH, turbidity, dissolved oxygen and temperature in rivers, lakes and tanks.",
     "It works from 0 to 45 degrees Celsius and down to a depth of 30 metres.", "",
     "#What is in the box", "",
     "One probe, one cable of 10 metres, a calibration cup, two wipers, and a storage cap.",
     "Never store the probe dry: keep the storage cap on, with 5 millilitres of storage solution in it."],
    ["#Calibration", "",
     "Calibrate pH every four weeks with two buffers, pH 7.00 first and pH 4.01 second.",
     "Rinse the probe with distilled water in between and wait until the display shows a steady value.",
     "Calibrate oxygen every three months in air saturated with water: put the probe into the",
     "calibration cup with a wet sponge, close the lid loosely and wait for ten minutes.",
     "Turbidity is calibrated by a service centre, once a year."],
    ["#When the light blinks", "",
     "Blue, slowly: the probe sleeps and measures at the interval that was set.",
     "Yellow, twice: the battery has less than 10 percent left, which is about six days.",
     "Red, three times: the wiper is blocked. Remove it with the small key and clean its axis.",
     "Red, steady: water has come in. Take the probe out, do not open it, and call a service centre.", "",
     "#Guarantee", "",
     "The guarantee is 36 months on the probe and 12 months on wipers and membranes."],
]


def make_docx(path, paragraphs):
    """The least that Word opens: content types, relations, styles, the document."""
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    types = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{style}"><w:name w:val="{name}"/></w:style>'
        for style, name in [("Normal", "Normal"), ("Heading1", "heading 1"), ("Heading2", "heading 2")]
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{types}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{types}.styles+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "word/document.xml": f"<w:document {word}><w:body>{body}<w:sectPr/></w:body></w:document>",
        "word/styles.xml": f"<w:styles {word}>{styles}</w:styles>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            archive.writestr(info, head + text)


def make_pdf(path, title, pages):
    """A PDF with one of the fonts that every reader has, one text object per page, and a table of references."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{6 + 2 * index} 0 R" for index in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    for font in ("Helvetica", "Helvetica-Bold"):
        objects.append(f"<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding >>".encode())
    objects.append(f"<< /Title ({title}) >>".encode())
    for index, lines in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            + f"/Contents {7 + 2 * index} 0 R >>".encode()
        )
        content = page_content(lines)
        objects.append(f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream")
    data, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, text in enumerate(objects, start=1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n".encode() + text + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()
    with open(path, "wb") as file:
        file.write(data)


def page_content(lines):
    parts = ["BT", "16 TL", "60 770 Td"]
    for line in lines:
        font = "/F2 14 Tf" if line.startswith("#") else "/F1 11 Tf"
        text = line.lstrip("#").replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        parts += [font, f"({text}) Tj", "T*"]
    return "\n".join(parts + ["ET"]).encode("cp1252")


if __name__ == "__main__":
    make_docx(os.path.join(SAMPLES, "retention-policy.docx"), RETENTION)
    make_pdf(os.path.join(SAMPLES, "lagoon-manual.pdf"), "Lagoon probe: operating manual", MANUAL)
