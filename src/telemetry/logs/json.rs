//! A log line as one JSON object.
//!
//! The subscriber's own formatter parses a span's fields again for every line of a request; here they stay the text that
//! they were made into once.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// `{timestamp, level, target, span, message, …}`: `span` is the innermost one, with its name and fields; the event's
/// fields stand beside.
#[derive(Debug)]
pub(super) struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        // A level and the path of a module have nothing to escape.
        write!(writer, "\",\"level\":\"{}\",\"target\":\"{}\"", metadata.level(), metadata.target())?;
        if let Some(span) = context.lookup_current() {
            write!(writer, ",\"span\":{{\"name\":\"{}\"", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                write_members(&mut writer, &fields.fields)?;
            }
            writer.write_char('}')?;
        }
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        write_members(&mut writer, &fields)?;
        writer.write_str("}\n")
    }
}

/// What stands between an object's braces, after a comma, if anything does.
fn write_members(writer: &mut Writer<'_>, object: &str) -> fmt::Result {
    match object.trim().strip_prefix('{').and_then(|object| object.strip_suffix('}')) {
        Some(members) if !members.trim().is_empty() => write!(writer, ",{members}"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_an_object_with_its_span_and_fields() {
        let lines = logged(|| {
            let span = tracing::info_span!("request", request_id = "a \"b\"\n");
            span.in_scope(|| tracing::warn!(status = 503, error = "down: \\ \u{1}", "query_failed"));
        });
        assert_eq!(lines.len(), 1);
        assert!(chrono::DateTime::parse_from_rfc3339(lines[0]["timestamp"].as_str().unwrap()).is_ok());
        assert_eq!((&lines[0]["level"], &lines[0]["target"]), (&json!("WARN"), &json!(module_path!())));
        assert_eq!(lines[0]["span"], json!({"name": "request", "request_id": "a \"b\"\n"}));
        assert_eq!(
            (&lines[0]["message"], &lines[0]["status"], &lines[0]["error"]),
            (&json!("query_failed"), &json!(503), &json!("down: \\ \u{1}"))
        );
    }

    #[test]
    fn a_line_needs_neither_a_span_nor_fields() {
        let lines = logged(|| {
            tracing::info!("alone");
            tracing::info_span!("bare").in_scope(|| tracing::info!(count = 1));
        });
        assert_eq!((&lines[0]["message"], lines[0].get("span")), (&json!("alone"), None));
        assert_eq!((&lines[1]["span"], &lines[1]["count"]), (&json!({"name": "bare"}), &json!(1)));
    }
}
