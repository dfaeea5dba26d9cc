//! Redis over RESP2: `GET` and `SET` on as many connections as there are clients.
//!
//! How durable an answered `SET` is depends on the server's `appendfsync`; to compare like with
//! like it is `always`. Decides nothing about pipelining: one command is under way on a connection,
//! as with most clients.

use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, Bytes, BytesMut};
use quorate_client::wire::{ErrorBody, ErrorCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::driver::{Driver, Seen};

/// Longest line of an answer.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest value of an answer: what Redis itself allows.
const BULK_BYTES_MAX: usize = 512 << 20;

/// One server.
#[derive(Debug)]
pub(crate) struct Redis {
    address: String,
    /// Connections that nobody uses at the moment, as many as there were calls at once at most.
    idle: Mutex<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Status,
    Bulk(Option<Bytes>),
    Error(String),
}

impl Redis {
    /// Tries one connection.
    pub(crate) async fn connect(address: &str) -> Result<Self, ErrorBody> {
        let redis = Self {
            address: address.to_owned(),
            idle: Mutex::default(),
        };
        redis.call(&[b"PING"]).await?;
        Ok(redis)
    }

    async fn call(&self, words: &[&[u8]]) -> Result<Reply, ErrorBody> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.address).await.map_err(|error| {
                let message = format!("no connection to Redis at {}: {error}", self.address);
                ErrorBody::new(ErrorCode::Unavailable, message)
            })?,
        };
        let reply = connection.call(words).await.map_err(|error| {
            ErrorBody::new(
                ErrorCode::UnknownOutcome,
                format!("Redis connection: {error}"),
            )
        })?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        match reply {
            Reply::Error(message) => Err(ErrorBody::new(ErrorCode::Unavailable, message)),
            Reply::Status | Reply::Bulk(_) => Ok(reply),
        }
    }
}

impl Connection {
    async fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    async fn call(&mut self, words: &[&[u8]]) -> std::io::Result<Reply> {
        self.output.clear();
        encode(words, &mut self.output);
        self.stream.write_all(&self.output).await?;
        loop {
            if let Some(reply) = decode(&mut self.input).map_err(std::io::Error::other)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn encode(words: &[&[u8]], output: &mut BytesMut) {
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        output.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// Takes one answer off the front; none if it has not come as a whole.
fn decode(input: &mut BytesMut) -> Result<Option<Reply>, String> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
        let is_long = LINE_BYTES_MAX < input.len();
        return if is_long {
            Err("a line without end".to_owned())
        } else {
            Ok(None)
        };
    };
    let text = String::from_utf8_lossy(&input[..end]).into_owned();
    let after = end + 2;
    match text.as_bytes().first() {
        Some(b'+' | b':') => {
            input.advance(after);
            Ok(Some(Reply::Status))
        }
        Some(b'-') => {
            input.advance(after);
            Ok(Some(Reply::Error(text[1..].to_owned())))
        }
        Some(b'$') if &text[1..] == "-1" => {
            input.advance(after);
            Ok(Some(Reply::Bulk(None)))
        }
        Some(b'$') => {
            let length = text[1..]
                .parse()
                .ok()
                .filter(|length| *length <= BULK_BYTES_MAX);
            let length = length.ok_or_else(|| format!("a length of {text:?}"))?;
            if input.len() < after + length + 2 {
                return Ok(None);
            }
            input.advance(after);
            let bulk = input.split_to(length).freeze();
            input.advance(2);
            Ok(Some(Reply::Bulk(Some(bulk))))
        }
        _ => Err(format!("an answer that begins with {text:?}")),
    }
}

impl Driver for Redis {
    type Context = ();

    async fn read(&self, key: &str) -> Result<Seen<()>, ErrorBody> {
        let values = match self.call(&[b"GET", key.as_bytes()]).await? {
            Reply::Bulk(value) => value.into_iter().collect(),
            Reply::Status | Reply::Error(_) => Vec::new(),
        };
        Ok(Seen {
            values,
            context: None,
        })
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        _: Option<&()>,
    ) -> Result<Option<()>, ErrorBody> {
        self.call(&[b"SET", key.as_bytes(), &value]).await?;
        Ok(None)
    }

    async fn close(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_whole_however_they_arrive() {
        let stream = b"+OK\r\n$5\r\na\r\nbc\r\n$-1\r\n-ERR no\r\n:7\r\n";
        let mut replies = Vec::new();
        let mut input = BytesMut::new();
        for byte in stream {
            input.extend_from_slice(&[*byte]);
            replies.extend(decode(&mut input).unwrap());
        }
        assert_eq!(
            replies,
            [
                Reply::Status,
                Reply::Bulk(Some(Bytes::from_static(b"a\r\nbc"))),
                Reply::Bulk(None),
                Reply::Error("ERR no".to_owned()),
                Reply::Status,
            ]
        );
        assert!(decode(&mut BytesMut::from(&b"$x\r\n"[..])).is_err());
        assert!(decode(&mut BytesMut::from(&b"HTTP\r\n"[..])).is_err());
    }

    #[test]
    fn a_command_is_an_array_of_words() {
        let mut output = BytesMut::new();
        encode(&[b"GET", b"k"], &mut output);
        assert_eq!(&output[..], b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
