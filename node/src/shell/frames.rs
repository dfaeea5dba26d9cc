//! Reading frames off a stream, many at a time, and the hello that comes first.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use quorate_client::wire::{
    DecodeError, ErrorBody, ErrorCode, Frame, FrameError, FrameReader, Hello, HelloError,
    HelloReply, Response, decode_body,
    frame::{self, kind},
};

/// Chunks of a stream taken at once; each is about a packet.
const CHUNKS_MAX: usize = 64;

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the stream ended within a frame")]
    Torn,
}

/// Why a connection did not get past its hello.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the hello cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Disagree(#[from] HelloError),
    #[error("something else was said instead of hello")]
    NoHello,
    #[error("the other side refused: {0}")]
    Refused(String),
}

/// The receiving half of a lane.
pub(super) struct Frames {
    stream: RecvStream,
    reader: FrameReader,
    chunks: Vec<Bytes>,
}

impl Frames {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            reader: FrameReader::new(),
            chunks: vec![Bytes::new(); CHUNKS_MAX],
        }
    }

    /// Waits for bytes and appends every frame that is whole by then; false at the stream's end.
    ///
    /// Cancel-safe: what has been read is kept.
    pub(super) async fn receive(&mut self, frames: &mut Vec<Frame>) -> Result<bool, ReceiveError> {
        loop {
            while let Some(frame) = self.reader.next_frame()? {
                frames.push(frame);
            }
            if !frames.is_empty() {
                return Ok(true);
            }
            let Some(count) = self.stream.read_chunks(&mut self.chunks).await? else {
                return if self.reader.is_at_boundary() {
                    Ok(false)
                } else {
                    Err(ReceiveError::Torn)
                };
            };
            for chunk in &mut self.chunks[..count] {
                self.reader.feed(std::mem::take(chunk));
            }
        }
    }

    pub(super) async fn one(&mut self) -> Result<Frame, GreetError> {
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(ReceiveError::from)? {
                return Ok(frame);
            }
            let read = self.stream.read_chunks(&mut self.chunks[..1]).await;
            match read.map_err(ReceiveError::from)? {
                Some(_) => self.reader.feed(std::mem::take(&mut self.chunks[0])),
                None => return Err(GreetError::NoHello),
            }
        }
    }

    /// The dialling side's hello.
    pub(super) async fn greet(
        &mut self,
        send: &mut SendStream,
        hello: &Hello,
        cluster: u128,
    ) -> Result<(), GreetError> {
        write(send, kind::HELLO, hello).await?;
        let frame = self.one().await?;
        match frame.kind {
            kind::HELLO_REPLY => {
                decode_body::<HelloReply>(&frame.body)?.check(cluster)?;
                Ok(())
            }
            kind::ERROR => {
                let error: ErrorBody = decode_body(&frame.body)?;
                Err(GreetError::Refused(error.message))
            }
            _ => Err(GreetError::NoHello),
        }
    }

    /// The accepting side's hello: what the other side has said. A disagreement is told to it.
    pub(super) async fn welcome(
        &mut self,
        send: &mut SendStream,
        cluster: u128,
        name: &str,
        ring_epoch: u64,
    ) -> Result<Hello, GreetError> {
        let frame = self.one().await?;
        if frame.kind != kind::HELLO {
            return Err(GreetError::NoHello);
        }
        let hello: Hello = decode_body(&frame.body)?;
        match hello.agree(cluster) {
            Ok(proto) => {
                let reply = HelloReply::new(proto, cluster, name, ring_epoch);
                write(send, kind::HELLO_REPLY, &reply).await?;
                Ok(hello)
            }
            Err(error) => {
                let text = format!("node {name} refuses the connection: {error}");
                let body = ErrorBody::new(ErrorCode::Denied, text);
                let mut out = BytesMut::new();
                if Response::Error(body).append_to(&mut out, frame.id).is_ok() {
                    send.write_chunk(out.freeze()).await?;
                }
                // Wait until it has been read: the close that follows would overtake it.
                let _ = send.finish();
                let _ = send.stopped().await;
                Err(error.into())
            }
        }
    }
}

async fn write<T: serde::Serialize>(
    send: &mut SendStream,
    kind: u16,
    body: &T,
) -> Result<(), WriteError> {
    let mut out = BytesMut::new();
    frame::append(&mut out, kind, 0, body).expect("a hello is small");
    send.write_chunk(out.freeze()).await
}
