//! Workbooks (xlsx, xlsm, xlsb, xls), by calamine: one page per sheet, rows that carry their headers.

use std::collections::BTreeMap;
use std::io::Cursor;

use calamine::{Data, DataRef, DataType, Reader, Sheets, Xlsx, XlsxError, open_workbook_auto_from_rs};

use super::failure::{Reading, encrypted, malformed, too_large};
use super::markdown::Markdown;
use super::package::Package;
use super::read::Draft;
use super::xml;

const MEDIA_TYPE: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

type Rows = BTreeMap<u32, Vec<(u32, String)>>;

pub(super) fn read(bytes: &[u8], max_text_bytes: u64) -> Reading<Draft> {
    if bytes.starts_with(b"PK") {
        let mut package = Package::open(bytes)?;
        if package.has("xl/workbook.xml") {
            let asides = check_parts(&mut package)?;
            return read_xlsx(bytes, asides, max_text_bytes);
        }
    }
    read_other(bytes)
}

/// Unpacks every part that calamine will, within the package's allowance, before calamine does so without one. Gives
/// the texts that stand beside the cells: comments and text boxes.
fn check_parts(package: &mut Package<'_>) -> Reading<Vec<String>> {
    let mut names = package.names().filter(|name| name.ends_with(".xml")).map(str::to_owned).collect::<Vec<_>>();
    names.sort();
    let mut asides = Vec::new();
    for name in names {
        let text = package.xml(&name)?.unwrap_or_default();
        let element = match name.as_str() {
            name if name.starts_with("xl/threadedcomments") => "text",
            name if name.starts_with("xl/comments") => "comment",
            name if name.starts_with("xl/drawings/") => "t",
            _ => continue,
        };
        let texts = xml::texts_of(&text, &name, element)?;
        asides.extend(texts);
    }
    Ok(asides)
}

fn read_xlsx(bytes: &[u8], asides: Vec<String>, max_text_bytes: u64) -> Reading<Draft> {
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(refuse_xlsx)?;
    let mut draft = Draft { media_type: MEDIA_TYPE, markdown: true, paged: true, ..Draft::default() };
    let mut left = max_text_bytes;
    for name in workbook.sheet_names() {
        // Cell by cell: a declared size of a million rows costs nothing, and a cell in the last one neither.
        let mut cells = match workbook.worksheet_cells_reader(&name) {
            Ok(cells) => cells,
            // A chart on a sheet of its own.
            Err(XlsxError::NotAWorksheet(_)) => continue,
            Err(error) => return Err(refuse_xlsx(error)),
        };
        let mut rows = Rows::new();
        while let Some(cell) = cells.next_cell().map_err(refuse_xlsx)? {
            let (row, column) = cell.get_position();
            let text = cell.get_value().shown();
            if !text.trim().is_empty() {
                left = left.checked_sub(text.len() as u64 + 1).ok_or_else(|| too_large("it holds too much text"))?;
                rows.entry(row).or_default().push((column, text));
            }
        }
        draft.pages.push(sheet(&name, rows));
    }
    if let (Some(last), false) = (draft.pages.last_mut(), asides.is_empty()) {
        let mut markdown = Markdown::default();
        asides.iter().for_each(|text| markdown.paragraph(text));
        last.push_str("\n\n");
        last.push_str(&markdown.into_text());
    }
    Ok(draft)
}

/// xls and xlsb. (calamine lays their sheets out in full; the memory limit of the process is the bound.)
fn read_other(bytes: &[u8]) -> Reading<Draft> {
    let mut workbook = open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(refuse)?;
    let media_type = match workbook {
        Sheets::Xls(_) => "application/vnd.ms-excel",
        Sheets::Xlsb(_) => "application/vnd.ms-excel.sheet.binary.macroenabled.12",
        _ => MEDIA_TYPE,
    };
    let mut draft = Draft { media_type, markdown: true, paged: true, ..Draft::default() };
    for name in workbook.sheet_names() {
        let range = workbook.worksheet_range(&name).map_err(refuse)?;
        let mut rows = Rows::new();
        for (row, column, value) in range.used_cells() {
            rows.entry(row as u32).or_default().push((column as u32, value.shown()));
        }
        draft.pages.push(sheet(&name, rows));
    }
    Ok(draft)
}

/// A heading with the sheet's name, then each block of rows that an empty row ends.
fn sheet(name: &str, rows: Rows) -> String {
    let mut markdown = Markdown::default();
    if rows.is_empty() {
        return String::new();
    }
    markdown.heading(2, name);
    let (mut block, mut previous) = (Vec::new(), None);
    for (number, cells) in rows {
        if previous.is_some_and(|previous| number > previous + 1) {
            write_block(&mut markdown, &std::mem::take(&mut block));
        }
        previous = Some(number);
        block.push(cells);
    }
    write_block(&mut markdown, &block);
    markdown.into_text()
}

fn write_block(markdown: &mut Markdown, block: &[Vec<(u32, String)>]) {
    // Only columns that are used become columns, so that a cell far to the right does not widen every row.
    let mut columns = block.iter().flatten().map(|(column, _)| *column).collect::<Vec<_>>();
    columns.sort_unstable();
    columns.dedup();
    if let ([row], true) = (block, columns.len() <= 2) {
        // A line of its own, such as a title over the table.
        let text = row.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ");
        return markdown.paragraph(&text);
    }
    let rows = block
        .iter()
        .map(|cells| {
            let mut row = vec![String::new(); columns.len()];
            for (column, text) in cells {
                if let Ok(place) = columns.binary_search(column) {
                    row[place].clone_from(text);
                }
            }
            row
        })
        .collect::<Vec<_>>();
    markdown.data(&rows);
}

/// A value as a spreadsheet shows it, near enough: whole numbers without a fraction, dates as dates, no errors.
/// (calamine has one type for cells that borrow and one for cells that own.)
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for DataRef<'_> {
    fn shown(&self) -> String {
        match self {
            DataRef::DateTime(date) => moment(*date),
            DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
            DataRef::SharedString(text) => (*text).to_owned(),
            DataRef::String(text) => text.clone(),
            DataRef::Bool(value) => value.to_string().to_uppercase(),
            DataRef::Error(_) | DataRef::Empty => String::new(),
            DataRef::Int(_) | DataRef::Float(_) => self.as_f64().map(number).unwrap_or_default(),
        }
    }
}

impl Shown for Data {
    fn shown(&self) -> String {
        match self {
            Data::DateTime(date) => moment(*date),
            Data::DateTimeIso(text) | Data::DurationIso(text) | Data::String(text) => text.clone(),
            Data::Bool(value) => value.to_string().to_uppercase(),
            Data::Int(_) | Data::Float(_) => self.as_f64().map(number).unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// Fifteen significant digits, as Excel keeps: 0.1 + 0.2 reads 0.3.
fn number(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let rounded = format!("{value:.14e}").parse::<f64>().unwrap_or(value);
    rounded.to_string()
}

fn moment(date: calamine::ExcelDateTime) -> String {
    if date.is_duration() {
        let seconds = (date.as_f64() * 86_400.0).round() as i64;
        return format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }
    let (year, month, day, hour, minute, second, _) = date.to_ymd_hms_milli();
    match (date.as_f64() < 1.0, hour, minute, second) {
        (true, ..) => format!("{hour:02}:{minute:02}:{second:02}"),
        (false, 0, 0, 0) => format!("{year:04}-{month:02}-{day:02}"),
        (false, ..) => format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"),
    }
}

fn refuse_xlsx(error: XlsxError) -> crate::document::Failure {
    match error {
        XlsxError::Password => encrypted(),
        error => malformed(error),
    }
}

fn refuse(error: calamine::Error) -> crate::document::Failure {
    match error {
        calamine::Error::Xls(calamine::XlsError::Password) => encrypted(),
        calamine::Error::Xlsx(error) => refuse_xlsx(error),
        error => malformed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_spreadsheet_shows_them() {
        assert_eq!(number(42.0), "42");
        assert_eq!(number(-0.5), "-0.5");
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(number(1e20), "100000000000000000000");
    }

    #[test]
    fn an_empty_row_parts_blocks_and_far_cells_cost_nothing() {
        let cell = |column, text: &str| (column, text.to_owned());
        let rows = Rows::from([
            (0, vec![cell(0, "Prices")]),
            (2, vec![cell(0, "item"), cell(16_000, "price")]),
            (3, vec![cell(0, "tea"), cell(16_000, "3")]),
        ]);
        assert_eq!(sheet("May", rows), "## May\n\nPrices\n\nitem\tprice\ntea\t3");
    }
}
