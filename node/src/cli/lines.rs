//! Lines of a file as keys and values.
//!
//! jsonl: the whole line is the value, one of its fields the key. tsv: the key, a tab, the value;
//! further tabs belong to the value. Bytes are never changed. Empty lines mean nothing.

use std::{
    io::{self, BufRead},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

/// How a line holds a key and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LineFormat {
    /// A JSON object a line.
    Jsonl,
    /// Key, tab, value.
    Tsv,
}

/// One line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1 on.
    pub(crate) number: u64,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// A line that cannot be stored.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) number: u64,
    pub(crate) message: String,
}

/// Finds keys in lines.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) format: LineFormat,
    /// The field that is the key, for jsonl.
    pub(crate) field: String,
    /// Longest line; no value longer than that could be stored.
    pub(crate) bytes_max: usize,
}

/// What is read is told to.
type Told = mpsc::Sender<io::Result<Result<Line, BadLine>>>;

impl Lines {
    /// Reads all lines on a thread of its own, since reading may block; stops when nobody listens.
    pub(crate) fn read(
        self,
        input: Box<dyn BufRead + Send>,
        read: Arc<AtomicU64>,
    ) -> mpsc::Receiver<io::Result<Result<Line, BadLine>>> {
        let (told, lines) = mpsc::channel(64);
        std::thread::spawn(move || {
            if let Err(error) = self.each(input, &read, &told) {
                let _ = told.blocking_send(Err(error));
            }
        });
        lines
    }

    fn each(
        &self,
        mut input: Box<dyn BufRead + Send>,
        read: &AtomicU64,
        told: &Told,
    ) -> io::Result<()> {
        let mut number = 0;
        loop {
            let mut line = Vec::new();
            let length = read_line(&mut *input, &mut line, self.bytes_max)?;
            if length == 0 {
                return Ok(());
            }
            number += 1;
            read.fetch_add(length, Ordering::Relaxed);
            let most = self.bytes_max;
            let parsed = if most < line.len() {
                Err(format!("the line is longer than {most} bytes"))
            } else if line.trim_ascii().is_empty() {
                continue;
            } else {
                self.parse(line.into())
            };
            let parsed = match parsed {
                Ok((key, value)) => Ok(Line { number, key, value }),
                Err(message) => Err(BadLine { number, message }),
            };
            if told.blocking_send(Ok(parsed)).is_err() {
                return Ok(());
            }
        }
    }

    fn parse(&self, line: Bytes) -> Result<(Bytes, Bytes), String> {
        let key = match self.format {
            LineFormat::Jsonl => self.field_of(&line)?,
            LineFormat::Tsv => {
                let tab = line.iter().position(|byte| *byte == b'\t');
                let tab = tab.ok_or("there is no tab between key and value")?;
                return match line.slice(..tab) {
                    key if key.is_empty() => Err("the key is empty".to_owned()),
                    key => Ok((key, line.slice(tab + 1..))),
                };
            }
        };
        Ok((key, line))
    }

    fn field_of(&self, line: &[u8]) -> Result<Bytes, String> {
        let json: Value =
            serde_json::from_slice(line).map_err(|error| format!("this is no JSON: {error}"))?;
        let object = json.as_object().ok_or("this is no JSON object")?;
        let field = &self.field;
        match object.get(field) {
            Some(Value::String(text)) if text.is_empty() => {
                Err(format!("field {field:?} is empty"))
            }
            Some(Value::String(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Some(Value::Number(number)) => Ok(number.to_string().into()),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                Err(format!("field {field:?} is neither text nor a number"))
            }
            None => Err(format!("there is no field {field:?}")),
        }
    }
}

/// Reads up to a newline and drops it. Of a longer line no more than a byte too many is kept. Says
/// how many bytes were read.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let chunk = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(chunk.len());
        let room = (bytes_max + 1).saturating_sub(line.len());
        line.extend_from_slice(&chunk[..take.min(room)]);
        let used = take + usize::from(end.is_some());
        input.consume(used);
        length += used as u64;
        if end.is_some() || used == 0 {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(format: LineFormat, text: &'static [u8]) -> Vec<Result<(Bytes, Bytes), u64>> {
        let lines = Lines {
            format,
            field: "id".to_owned(),
            bytes_max: 30,
        };
        let read = Arc::new(AtomicU64::new(0));
        let mut told = lines.read(Box::new(text), read.clone());
        let mut found = Vec::new();
        while let Some(line) = told.blocking_recv() {
            let line = line.unwrap();
            found.push(line.map(|l| (l.key, l.value)).map_err(|bad| bad.number));
        }
        assert_eq!(read.load(Ordering::Relaxed), text.len() as u64);
        found
    }

    fn pair(key: &'static str, value: &'static [u8]) -> (Bytes, Bytes) {
        (key.into(), Bytes::from_static(value))
    }

    #[test]
    fn a_json_line_is_kept_as_it_is_and_keyed_by_its_field() {
        let text =
            b" {\"id\": \"a\\u00e9\"} \r\n\n{\"id\":7}\n{\"id\":null}\n[1]\n{\n{\"id\":\"\"}\n\
            {\"id\":\"much too long a line for it\"}\n{\"id\":\"z\"}";
        let expected = [
            Ok(pair("aé", b" {\"id\": \"a\\u00e9\"} \r")),
            Ok(pair("7", b"{\"id\":7}")),
            Err(4),
            Err(5),
            Err(6),
            Err(7),
            Err(8),
            Ok(pair("z", b"{\"id\":\"z\"}")),
        ];
        assert_eq!(all(LineFormat::Jsonl, text), expected);
    }

    #[test]
    fn a_tsv_line_is_split_at_its_first_tab() {
        let text = b"k\tv\tw\nno tab\n\tv\nk\t\n\xff\t\xfe\n";
        let mut found = all(LineFormat::Tsv, text);
        let bytes = found.pop().unwrap().unwrap();
        assert_eq!((&bytes.0[..], &bytes.1[..]), (&b"\xff"[..], &b"\xfe"[..]));
        assert_eq!(
            found,
            [Ok(pair("k", b"v\tw")), Err(2), Err(3), Ok(pair("k", b""))]
        );
    }
}
