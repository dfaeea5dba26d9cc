//! `quorate export`: every value of a bucket, in a form that `import` reads back.
//!
//! jsonl: a value that is a JSON object on one line is printed as it is, any other as an object of
//! key and value. tsv: key, tab, value; what holds a newline, or a tab in its key, does not fit and
//! is told. Siblings are printed one after the other, and told too, since an import makes one
//! value of them.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use quorate_client::{
    Client, Got, Keys, ReadError,
    wire::{ErrorCode, Version},
};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    data::about,
    lines::LineFormat,
    output::{Failure, Out, bytes_field, note, show},
};

/// Reads under way at once.
const WINDOW: usize = 64;
/// How long a read that finds too few replicas is tried again.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(200);

/// Print every value of a bucket.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// The bucket.
    bucket: String,
    /// How a line holds key and value.
    #[arg(long, value_enum, default_value_t = LineFormat::Jsonl)]
    format: LineFormat,
    /// Replicas each read waits for; the bucket's r if not given. With as many as there are, what
    /// a replica has missed is repaired on the way.
    #[arg(long)]
    r: Option<u8>,
}

/// What was found that an import would not bring back as it is.
#[derive(Debug, Default)]
struct Odd {
    siblings: u64,
    wrapped: u64,
    left_out: u64,
}

impl Export {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<u8, Failure> {
        let mut reads: VecDeque<(Bytes, JoinHandle<Result<Got, ReadError>>)> = VecDeque::new();
        let mut keys = client.keys(self.bucket.as_str());
        let mut odd = Odd::default();
        let mut more = true;
        out.begin_items();
        while more || !reads.is_empty() {
            while more && reads.len() < WINDOW {
                match next_key(&mut keys).await? {
                    Some(key) => {
                        let (client, bucket) = (client.clone(), self.bucket.clone());
                        let read = tokio::spawn(read(client, bucket, key.clone(), self.r));
                        reads.push_back((key, read));
                    }
                    None => more = false,
                }
            }
            let Some((key, read)) = reads.pop_front() else {
                break;
            };
            let got = read
                .await
                .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
            let got = got.map_err(|error| Failure::from(error.body().clone()))?;
            odd.siblings += u64::from(1 < got.siblings.len());
            for version in &got.siblings {
                self.print(&key, version, out, &mut odd)?;
            }
        }
        out.flush()?;
        Ok(odd.tell())
    }

    fn print(
        &self,
        key: &[u8],
        version: &Version,
        out: &mut Out,
        odd: &mut Odd,
    ) -> Result<(), Failure> {
        let value = version.value.as_deref().unwrap_or_default();
        let object = || {
            let mut object = about(&self.bucket, key);
            bytes_field(&mut object, "value", value);
            object
        };
        match self.format {
            LineFormat::Jsonl if is_object_line(value) => out.item_bytes(value, || {
                serde_json::from_slice(value).unwrap_or(Value::Null)
            }),
            LineFormat::Jsonl => {
                odd.wrapped += 1;
                out.item_bytes(object().to_string().as_bytes(), object)
            }
            LineFormat::Tsv if key.contains(&b'\t') || key.contains(&b'\n') => {
                odd.leave_out(key, "a tab or newline in its key");
                Ok(())
            }
            LineFormat::Tsv if value.contains(&b'\n') => {
                odd.leave_out(key, "a newline in its value");
                Ok(())
            }
            LineFormat::Tsv => out.item_bytes(&[key, b"\t", value].concat(), object),
        }
    }
}

impl Odd {
    fn leave_out(&mut self, key: &[u8], why: &str) {
        if self.left_out == 0 {
            note(&format!(
                "key {} has {why}, which is no tsv: left out",
                show(key)
            ));
        }
        self.left_out += 1;
    }

    /// Tells, and says with which code to exit.
    fn tell(&self) -> u8 {
        if self.siblings != 0 {
            note(&format!(
                "keys with siblings: {}, all printed; an import makes the last of them the value",
                self.siblings
            ));
        }
        if self.wrapped != 0 {
            note(&format!(
                "{} values are no JSON objects on one line: printed as bucket, key and value",
                self.wrapped
            ));
        }
        if self.left_out != 0 {
            note(&format!(
                "{} values left out; jsonl can hold them",
                self.left_out
            ));
        }
        u8::from(self.left_out != 0)
    }
}

fn is_object_line(value: &[u8]) -> bool {
    value.trim_ascii_start().starts_with(b"{")
        && !value.contains(&b'\n')
        && serde_json::from_slice::<IgnoredAny>(value).is_ok()
}

async fn next_key(keys: &mut Keys<'_>) -> Result<Option<Bytes>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match keys.next().await {
            None => return Ok(None),
            Some(Ok(key)) => return Ok(Some(key)),
            Some(Err(ReadError::Unavailable(_) | ReadError::Overloaded(_)))
                if Instant::now() < deadline => {}
            Some(Err(error)) => return Err(Failure::from(error.body().clone())),
        }
        sleep(PAUSE).await;
    }
}

async fn read(client: Client, bucket: String, key: Bytes, r: Option<u8>) -> Result<Got, ReadError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut get = client.get(bucket.as_str(), &key);
        if let Some(r) = r {
            get = get.r(r);
        }
        match get.send().await {
            Err(ReadError::Unavailable(_) | ReadError::Overloaded(_))
                if Instant::now() < deadline => {}
            ended => return ended,
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_json_object_on_one_line_is_printed_as_it_is() {
        assert!(is_object_line(b" {\"a\":1} \r"));
        for other in [&b"1"[..], b"{", b"[{}]", b"{\n}", b"", b"{\"a\":\xff}"] {
            assert!(!is_object_line(other), "{other:?}");
        }
    }
}
