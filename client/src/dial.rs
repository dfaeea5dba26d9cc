//! From an address to a lane: resolve, shake hands, say Hello.

use std::{error::Error, net::SocketAddr};

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use quinn_proto::TransportErrorCode;

use crate::{
    link::{DialError, Link},
    tls::{self, Alpn, Credentials, SERVER_NAME},
    transport::close,
    wire::{
        ErrorBody, Frame, FrameReader, Hello, HelloReply, decode_body,
        frame::{self, kind},
    },
};

/// A connection that has said Hello.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) streams: (SendStream, RecvStream),
    pub(crate) reader: FrameReader,
    pub(crate) reply: HelloReply,
}

fn error(message: impl Into<Box<dyn Error>>) -> DialError {
    DialError {
        message: message.into().to_string(),
        denied: false,
    }
}

fn denied(message: impl Into<Box<dyn Error>>) -> DialError {
    DialError {
        message: message.into().to_string(),
        denied: true,
    }
}

/// Makes a connection; its caller sets the limit of time.
pub(crate) async fn open(
    endpoint: &Endpoint,
    credentials: &Credentials,
    link: &Link,
    ring_epoch: u64,
) -> Result<Opened, DialError> {
    let config = credentials
        .client_config(Alpn::Client, link.name.as_deref())
        .map_err(denied)?;
    let address = resolve(&link.address).await?;
    let connection = endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(error)?
        .await
        .map_err(|why| explain(&why))?;
    match greet(&connection, credentials, ring_epoch).await {
        Ok((streams, reader, reply)) => Ok(Opened {
            connection,
            streams,
            reader,
            reply,
        }),
        Err(why) => {
            // If the node closed the connection, its reason says more than the broken stream.
            let why = connection.close_reason().map_or(why, |gone| explain(&gone));
            connection.close(close::HELLO.into(), b"");
            Err(why)
        }
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, DialError> {
    let mut found = tokio::net::lookup_host(address).await.map_err(error)?;
    found.next().ok_or_else(|| error("the name has no address"))
}

type Greeting = ((SendStream, RecvStream), FrameReader, HelloReply);

async fn greet(
    connection: &Connection,
    credentials: &Credentials,
    ring_epoch: u64,
) -> Result<Greeting, DialError> {
    tls::peer_identity(connection).map_err(denied)?;
    let us = credentials.identity();
    let mut out = BytesMut::new();
    let hello = Hello::new(us.cluster, us.name.as_str(), ring_epoch);
    frame::append(&mut out, kind::HELLO, 0, &hello).map_err(error)?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(error)?;
    send.write_chunk(out.freeze()).await.map_err(error)?;
    let mut reader = FrameReader::new();
    let frame = first_frame(&mut receive, &mut reader).await?;
    match frame.kind {
        kind::HELLO_REPLY => {
            let reply: HelloReply = decode_body(&frame.body).map_err(error)?;
            reply.check(us.cluster).map_err(denied)?;
            Ok(((send, receive), reader, reply))
        }
        kind::ERROR => {
            let body: ErrorBody = decode_body(&frame.body).map_err(error)?;
            Err(denied(body))
        }
        other => Err(error(format!("the node began with message kind {other}"))),
    }
}

async fn first_frame(
    receive: &mut RecvStream,
    reader: &mut FrameReader,
) -> Result<Frame, DialError> {
    loop {
        if let Some(frame) = reader.next_frame().map_err(error)? {
            return Ok(frame);
        }
        match receive.read_chunk(frame::BODY_BYTES_MAX, true).await {
            Ok(Some(chunk)) => reader.feed(chunk.bytes),
            Ok(None) => return Err(error("the node ended the conversation")),
            Err(why) => return Err(error(why)),
        }
    }
}

/// Certificates that do not fit are for good; everything else may pass.
fn explain(why: &ConnectionError) -> DialError {
    let refused = |code: TransportErrorCode| (0x100..0x200).contains(&u64::from(code));
    match why {
        ConnectionError::TransportError(local) if refused(local.code) => denied(format!(
            "it is no node of our cluster ({}): check nodes, ca and cert of the profile",
            local.reason
        )),
        ConnectionError::ConnectionClosed(remote) if refused(remote.error_code) => denied(format!(
            "it does not accept our certificate ({}): check cert and key of the profile",
            String::from_utf8_lossy(&remote.reason).escape_debug()
        )),
        ConnectionError::ApplicationClosed(remote)
            if remote.error_code == quinn::VarInt::from_u32(close::ROLE) =>
        {
            denied("our certificate's role does not fit: clients need read, write or admin")
        }
        ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => error(why.to_string()),
    }
}
