//! What a command says, and how it ends.
//!
//! Answers go to stdout, as a table for people or as JSON for programs; notes and progress go to
//! stderr. A reader that has gone away ends the program quietly.

use std::io::{self, BufWriter, Stdout, Write};

use quorate_client::wire::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object, or one per line for streams.
    Json,
}

/// A command that did not work: what to say and which code to exit with.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) details: Value,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: json!({}),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message });
        if let (Some(error), Some(details)) = (error.as_object_mut(), self.details.as_object()) {
            error.extend(details.clone());
        }
        json!({ "error": error })
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        let mut details = json!({});
        if let Some(limit) = &body.limit {
            details["limit"] = json!(limit);
        }
        if !body.stored_on.is_empty() {
            details["stored_on"] = json!(body.stored_on);
        }
        Self {
            code: body.code,
            message: body.message,
            details,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader has had enough, as in `quorate keys b | head`.
            std::process::exit(0);
        }
        Self::new(ErrorCode::Internal, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ErrorCode::Internal, format!("{error:#}"))
    }
}

/// Where answers go: to stdout at once, or into the one line that a shell prints per command.
#[derive(Debug)]
pub(crate) struct Out {
    format: Format,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Stdout(BufWriter<Stdout>),
    Kept(Value),
}

impl Out {
    /// Prints.
    pub(crate) fn stdout(format: Format) -> Self {
        let sink = Sink::Stdout(BufWriter::new(io::stdout()));
        Self { format, sink }
    }

    /// Keeps the answer as JSON; see [`kept`](Self::kept).
    pub(crate) fn keeping() -> Self {
        Self {
            format: Format::Json,
            sink: Sink::Kept(json!({})),
        }
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// True if a program gets one answer per command.
    pub(crate) const fn is_kept(&self) -> bool {
        matches!(self.sink, Sink::Kept(_))
    }

    /// What was kept: the answer, or the items of a stream.
    pub(crate) fn kept(self) -> Value {
        match self.sink {
            Sink::Kept(value) => value,
            Sink::Stdout(_) => json!({}),
        }
    }

    /// The whole answer of a command: the object, or the lines made from it.
    pub(crate) fn answer(
        &mut self,
        json: Value,
        lines: impl FnOnce(&Value) -> Vec<String>,
    ) -> Result<(), Failure> {
        match (&mut self.sink, self.format) {
            (Sink::Kept(kept), _) => *kept = json,
            (Sink::Stdout(out), Format::Json) => writeln!(out, "{json}")?,
            (Sink::Stdout(out), Format::Table) => {
                for text in lines(&json) {
                    writeln!(out, "{text}")?;
                }
            }
        }
        self.flush()
    }

    /// Says that the answer is a stream, which may be empty.
    pub(crate) fn begin_items(&mut self) {
        if let Sink::Kept(kept) = &mut self.sink {
            *kept = json!({ "items": [] });
        }
    }

    /// One item of a stream.
    pub(crate) fn item(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match (&mut self.sink, self.format) {
            (Sink::Kept(kept), _) => {
                if let Some(items) = kept["items"].as_array_mut() {
                    items.push(json());
                }
            }
            (Sink::Stdout(out), Format::Json) => writeln!(out, "{}", json())?,
            (Sink::Stdout(out), Format::Table) => writeln!(out, "{}", text())?,
        }
        Ok(())
    }

    /// One line of a stream that is bytes, whatever the format.
    pub(crate) fn item_bytes(
        &mut self,
        bytes: &[u8],
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        if let Sink::Stdout(out) = &mut self.sink {
            out.write_all(bytes)?;
            out.write_all(b"\n")?;
            return Ok(());
        }
        self.item(json, String::new)
    }

    /// Bytes alone, as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.sink {
            Sink::Kept(kept) => bytes_field(kept, "value", bytes),
            Sink::Stdout(out) => out.write_all(bytes)?,
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if let Sink::Stdout(out) = &mut self.sink {
            out.flush()?;
        }
        Ok(())
    }
}

/// Writes one line to stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Tells a person something that is not the answer.
pub(crate) fn note(text: &str) {
    // A note that nobody can read is not worth failing for.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Adds bytes to an object: as text under `name` if they are UTF-8, else as base64.
pub(crate) fn bytes_field(object: &mut Value, name: &str, bytes: &[u8]) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match std::str::from_utf8(bytes) {
        Ok(text) => object[name] = json!(text),
        Err(_) => object[format!("{name}_base64")] = json!(STANDARD.encode(bytes)),
    }
}

/// Bytes for people: text if it is text, else base64 with a mark.
pub(crate) fn show(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => format!("base64:{}", STANDARD.encode(bytes)),
    }
}

/// Bytes as people count them.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB"])
}

#[expect(
    clippy::cast_precision_loss,
    reason = "one digit after the point is shown"
)]
fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let (mut unit, mut scale) = (0, 1);
    while unit + 1 < units.len() && scale * step <= number {
        (unit, scale) = (unit + 1, scale * step);
    }
    let (whole, name) = (number as f64 / scale as f64, units[unit]);
    if unit == 0 || 100.0 <= whole {
        format!("{whole:.0} {name}")
    } else {
        format!("{whole:.1} {name}")
    }
}

/// A time that has passed, by its two largest units.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Unix milliseconds as RFC 3339.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Civil date from days since 1970, after Howard Hinnant's chrono algorithms.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [0, 1023, 1024, 65536 << 10, (1 << 30) + (1 << 29), u64::MAX];
        let shown = [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "64.0 MiB",
            "1.5 GiB",
            "16777216 TiB",
        ];
        assert_eq!(sizes.map(size), shown);
        let times = [59, 61, 3_660, 90_000];
        assert_eq!(times.map(ago), ["59s", "1m01s", "1h01m", "1d01h"]);
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
    }
}
