//! etcd over gRPC, its native protocol: `Range` and `Put` of the KV service.
//!
//! Two messages do not need a gRPC stack: frames are HTTP/2 by the `h2` crate, and the four
//! protobuf messages are written out here. Reads are linearizable, etcd's default. The JSON gateway
//! would make etcd look slower than it is.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, StatusCode};
use quorate_client::wire::{ErrorBody, ErrorCode};
use tokio::net::TcpStream;

use crate::driver::{Driver, Seen};

/// Clients that share a connection.
const CLIENTS_PER_CONNECTION: usize = 16;
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The members of a cluster, asked in turn.
#[derive(Debug)]
pub(crate) struct Etcd {
    connections: Vec<(String, SendRequest<Bytes>)>,
    turn: AtomicUsize,
}

impl Etcd {
    /// Connects to every member at least once.
    pub(crate) async fn connect(addresses: &[String], clients: usize) -> Result<Self, ErrorBody> {
        let count = clients
            .div_ceil(CLIENTS_PER_CONNECTION)
            .max(addresses.len());
        let mut connections = Vec::with_capacity(count);
        for address in addresses.iter().cycle().take(count) {
            let refused = |error: &dyn ToString| {
                let message = format!("no connection to etcd at {address}: {}", error.to_string());
                ErrorBody::new(ErrorCode::Unavailable, message)
            };
            let stream = TcpStream::connect(address).await.map_err(|e| refused(&e))?;
            stream.set_nodelay(true).map_err(|e| refused(&e))?;
            let shaken = h2::client::handshake(stream).await;
            let (send, connection) = shaken.map_err(|e| refused(&e))?;
            // Ends with the connection; its error shows in every call.
            tokio::spawn(async move { drop(connection.await) });
            connections.push((address.clone(), send));
        }
        Ok(Self {
            connections,
            turn: AtomicUsize::new(0),
        })
    }

    async fn call(&self, method: &str, message: &[u8]) -> Result<BytesMut, ErrorBody> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (address, send) = &self.connections[turn % self.connections.len()];
        exchange(address, send.clone(), method, message)
            .await
            .map_err(|message| ErrorBody::new(ErrorCode::UnknownOutcome, message))
    }
}

async fn exchange(
    address: &str,
    send: SendRequest<Bytes>,
    method: &str,
    message: &[u8],
) -> Result<BytesMut, String> {
    let text = |error: h2::Error| format!("etcd: {error}");
    let request = Request::post(format!("http://{address}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| error.to_string())?;
    let mut send = send.ready().await.map_err(text)?;
    let (answer, mut stream) = send.send_request(request, false).map_err(text)?;
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).map_err(|_| "too long a message".to_owned())?);
    frame.put_slice(message);
    stream.send_data(frame.freeze(), true).map_err(text)?;

    let answer = answer.await.map_err(text)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("etcd answered {}", answer.status()));
    }
    let in_headers = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    let mut whole = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(text)?;
        body.flow_control()
            .release_capacity(part.len())
            .map_err(text)?;
        if ANSWER_BYTES_MAX < whole.len() + part.len() {
            return Err("too long an answer of etcd".to_owned());
        }
        whole.extend_from_slice(&part);
    }
    let trailers = body.trailers().await.map_err(text)?;
    let in_trailers = trailers
        .as_ref()
        .and_then(|trailers| trailers.get("grpc-status"));
    match in_trailers.or(in_headers.as_ref()) {
        Some(status) if status == "0" && 5 <= whole.len() => {
            whole.advance(5);
            Ok(whole)
        }
        status => {
            let message = trailers
                .as_ref()
                .and_then(|trailers| trailers.get("grpc-message"));
            Err(format!("etcd: gRPC status {status:?}, {message:?}"))
        }
    }
}

/// Appends a field of bytes.
fn put_field(output: &mut BytesMut, field: u8, bytes: &[u8]) {
    output.put_u8(field << 3 | 2);
    let mut length = bytes.len();
    while 0x80 <= length {
        output.put_u8(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    output.put_u8(u8::try_from(length).expect("seven bits"));
    output.put_slice(bytes);
}

fn take_number(input: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = input.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The fields of a message that hold bytes or messages; none if it is malformed.
fn fields(mut input: Bytes) -> Option<Vec<(u64, Bytes)>> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let tag = take_number(&mut input)?;
        match tag & 7 {
            0 => drop(take_number(&mut input)?),
            2 => {
                let length = usize::try_from(take_number(&mut input)?).ok()?;
                if input.len() < length {
                    return None;
                }
                found.push((tag >> 3, input.split_to(length)));
            }
            _ => return None,
        }
    }
    Some(found)
}

/// The values of a `RangeResponse`: field 5 of each of its `kvs`, which are field 2.
fn values(answer: Bytes) -> Option<Vec<Bytes>> {
    let mut values = Vec::new();
    for (field, pair) in fields(answer)? {
        if field == 2 {
            let value = fields(pair)?.into_iter().find(|(field, _)| *field == 5);
            values.push(value.map(|(_, value)| value).unwrap_or_default());
        }
    }
    Some(values)
}

impl Driver for Etcd {
    type Context = ();

    async fn read(&self, key: &str) -> Result<Seen<()>, ErrorBody> {
        let mut message = BytesMut::new();
        put_field(&mut message, 1, key.as_bytes());
        let answer = self.call("Range", &message).await?;
        let values = values(answer.freeze()).ok_or_else(|| {
            ErrorBody::new(ErrorCode::Internal, "a malformed answer of etcd".to_owned())
        })?;
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
        let mut message = BytesMut::with_capacity(key.len() + value.len() + 16);
        put_field(&mut message, 1, key.as_bytes());
        put_field(&mut message, 2, &value);
        self.call("Put", &message).await?;
        Ok(None)
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_an_answer() {
        let mut pair = BytesMut::new();
        put_field(&mut pair, 1, b"key");
        pair.put_slice(&[2 << 3, 0x96, 1]);
        put_field(&mut pair, 5, &[7; 300]);
        let mut answer = BytesMut::new();
        put_field(&mut answer, 1, &[0x08, 1]);
        put_field(&mut answer, 2, &pair);
        answer.put_slice(&[4 << 3, 1]);
        let whole = answer.freeze();
        assert_eq!(values(whole.clone()).unwrap(), [Bytes::from(vec![7; 300])]);
        assert_eq!(values(Bytes::new()).unwrap(), Vec::<Bytes>::new());
        assert!(values(whole.slice(..whole.len() - 5)).is_none());
    }
}
