//! Asking to join a cluster through one of its members, and letting others do so.
//!
//! One connection, one question, one answer, on the first stream after the hello. Whether the
//! answer is yes is the node's to say, and what becomes of it `boot`'s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use quinn::{Endpoint, SendStream};
use quorate_client::{
    tls::{Alpn, Credentials, SERVER_NAME},
    transport::close,
    wire::{ErrorBody, ErrorCode, Hello, Response, decode_body, frame},
};
use quorate_ring::Member;
use tokio::{
    net::lookup_host,
    runtime::Builder,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    HANDSHAKE_TIMEOUT, ServeError,
    accept::code,
    frames::{Frames, GreetError},
    host::Host,
};
use crate::{
    joining::{Newcomer, Welcome},
    wire::kind,
};

/// How long a node that knows nothing yet looks for a member that answers.
const ASK_MAX: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often one that has no place in the ring makes sure that it is known.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// What a node asks with.
pub(super) struct Asker {
    pub(super) credentials: Arc<Credentials>,
    pub(super) me: Member,
    /// Members to ask, one after the other.
    pub(super) through: Vec<String>,
}

/// Why there was no answer, or a no.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("it cannot be resolved: {0}")]
    Resolve(std::io::Error),
    #[error("it has no address")]
    NoAddress,
    #[error(transparent)]
    Start(#[from] std::io::Error),
    #[error(transparent)]
    Tls(#[from] quorate_client::tls::TlsError),
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Greet(#[from] GreetError),
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
    #[error("its answer cannot be read: {0}")]
    Answer(#[from] quorate_client::wire::DecodeError),
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    #[error("nothing answers there")]
    Silent,
}

impl AskError {
    /// True if asking again changes nothing.
    fn is_final(&self) -> bool {
        match self {
            Self::Refused(error) => error.code != ErrorCode::Unavailable,
            Self::Tls(_) | Self::Greet(GreetError::Refused(_) | GreetError::Disagree(_)) => true,
            Self::Connection(error) => is_of_certificates(error),
            Self::Resolve(_)
            | Self::NoAddress
            | Self::Start(_)
            | Self::Connect(_)
            | Self::Greet(_)
            | Self::Write(_)
            | Self::Answer(_)
            | Self::Silent => false,
        }
    }
}

/// True if either side has refused the other's certificate: TLS alerts are transport errors of
/// these numbers (RFC 9001, section 4.8).
fn is_of_certificates(error: &quinn::ConnectionError) -> bool {
    let code = match error {
        quinn::ConnectionError::TransportError(error) => u64::from(error.code),
        quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::ApplicationClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted => return false,
    };
    (0x100..0x200).contains(&code)
}

impl Asker {
    /// Asks until somebody answers; before there is a runtime.
    pub(super) fn ask_all(&self) -> Result<Welcome, ServeError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map_err(ServeError::Start)?.block_on(async {
            let deadline = Instant::now() + ASK_MAX;
            loop {
                let mut problems = Vec::new();
                for address in &self.through {
                    match self.ask(address).await {
                        Ok(welcome) => return Ok(welcome),
                        Err(error) => {
                            tracing::warn!(%address, %error, "cannot join through this member");
                            let stop = error.is_final();
                            problems.push(format!("{address}: {error}"));
                            if stop {
                                return Err(ServeError::NotJoined { problems });
                            }
                        }
                    }
                }
                if deadline < Instant::now() {
                    return Err(ServeError::NotJoined { problems });
                }
                sleep(ASK_EVERY).await;
            }
        })
    }

    async fn ask(&self, address: &str) -> Result<Welcome, AskError> {
        let asked = Box::pin(self.converse(address));
        timeout(HANDSHAKE_TIMEOUT, asked)
            .await
            .unwrap_or(Err(AskError::Silent))
    }

    async fn converse(&self, address: &str) -> Result<Welcome, AskError> {
        let mut found = lookup_host(address).await.map_err(AskError::Resolve)?;
        let found = found.next().ok_or(AskError::NoAddress)?;
        let any: SocketAddr = match found {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let endpoint = Endpoint::client(any)?;
        let dial = self.credentials.client_config(Alpn::Peer, None)?;
        let connection = endpoint.connect_with(dial, found, SERVER_NAME)?.await?;
        let (mut send, recv) = connection.open_bi().await?;
        let mut frames = Frames::new(recv);
        let cluster = self.credentials.identity().cluster;
        let mut hello = Hello::new(cluster, &self.me.name, 0);
        hello.joins = true;
        frames.greet(&mut send, &hello, cluster).await?;
        write(&mut send, kind::JOIN, &Newcomer::from(&self.me)).await?;
        let answer = frames.one().await?;
        connection.close(code(close::SHUTDOWN), b"answered");
        endpoint.wait_idle().await;
        match answer.kind {
            kind::WELCOME => Ok(decode_body(&answer.body)?),
            frame::kind::ERROR => Err(AskError::Refused(decode_body(&answer.body)?)),
            _ => Err(AskError::Greet(GreetError::NoHello)),
        }
    }

    /// Makes sure now and then that the cluster knows a node that waits for its place: whoever was
    /// asked first may have died with the news. A member that reaches nobody asks where they are.
    pub(super) async fn remind(self, host: Arc<Host>, ended: CancellationToken) {
        let turns = self.through.iter().cycle();
        for address in turns {
            let rest = sleep(REMIND_EVERY);
            if ended.run_until_cancelled(rest).await.is_none() {
                return;
            }
            if host.is_in_ring() && host.reaches_anybody() {
                continue;
            }
            match self.ask(address).await {
                Ok(welcome) => host.told_members(&welcome.members),
                Err(error) => {
                    tracing::info!(%address, %error, "this member does not take note of this node");
                }
            }
        }
    }
}

/// Answers one who wants to join; `name` is the one in its certificate.
pub(super) async fn answer(
    host: &Host,
    name: &str,
    (mut send, mut frames): (SendStream, Frames),
) -> Result<(), GreetError> {
    let question = frames.one().await?;
    if question.kind != kind::JOIN {
        return Err(GreetError::NoHello);
    }
    let newcomer: Newcomer = decode_body(&question.body)?;
    let member = newcomer
        .member()
        .map_err(|error| ErrorBody::new(ErrorCode::InvalidArgument, error.to_string()));
    let answer = member.and_then(|member| {
        if member.name == name {
            host.welcome(&member)
        } else {
            let text = format!("the certificate names {name:?}, not {:?}", member.name);
            Err(ErrorBody::new(ErrorCode::Denied, text))
        }
    });
    match answer {
        Ok(welcome) => write(&mut send, kind::WELCOME, &welcome).await?,
        Err(error) => {
            let mut out = BytesMut::new();
            if Response::Error(error)
                .append_to(&mut out, question.id)
                .is_ok()
            {
                send.write_chunk(out.freeze()).await?;
            }
        }
    }
    // Until it has been read: a close would overtake it.
    let _ = send.finish();
    let _ = timeout(HANDSHAKE_TIMEOUT, send.stopped()).await;
    Ok(())
}

async fn write<T: serde::Serialize>(
    send: &mut SendStream,
    kind: u16,
    body: &T,
) -> Result<(), quinn::WriteError> {
    let mut out = BytesMut::new();
    frame::append(&mut out, kind, 0, body).expect("rings and member lists are bounded");
    send.write_chunk(out.freeze()).await
}
