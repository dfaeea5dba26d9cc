//! Reading a key, and asking about one.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Client, Context, Session,
    call::Effect,
    client::{context_of, unexpected},
    error::ReadError,
    wire::{
        ErrorBody, ErrorCode, ExplainReply, ExplainRequest, GetReply, GetRequest, Request,
        Response, Version,
    },
};

/// What a get found.
///
/// ```
/// use quorate_client::{Got, wire::{GetReply, Version}};
///
/// let version = |value: &'static str| Version {
///     value: Some(value.into()),
///     ..Version::default()
/// };
/// let one = GetReply { siblings: vec![version("milk")], ..GetReply::default() };
/// assert_eq!(Got::from(one).value().map(|value| &value[..]), Some(&b"milk"[..]));
/// // Written by two who had not seen each other: none of them is *the* value.
/// let two = GetReply { siblings: vec![version("milk"), version("eggs")], ..GetReply::default() };
/// assert_eq!(Got::from(two).value(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Live values; several when they were written concurrently, none when there is no such key.
    pub siblings: Vec<Version>,
    /// For the next write of this key. Also there for a deleted key.
    pub context: Option<Context>,
    /// Replicas asked.
    pub asked: u8,
    /// Replicas that answered in time.
    pub answered: u8,
}

impl Got {
    /// The value, if there is exactly one.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match &self.siblings[..] {
            [one] => one.value.as_ref(),
            _ => None,
        }
    }
}

impl From<GetReply> for Got {
    fn from(reply: GetReply) -> Self {
        Self {
            siblings: reply.siblings,
            context: context_of(reply.context),
            asked: reply.asked,
            answered: reply.answered,
        }
    }
}

/// A get, not yet sent.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), ReadError> {
/// let timeout = std::time::Duration::from_millis(200);
/// let got = client.get("default", "k").r(2).pr(1).timeout(timeout).send().await?;
/// println!("{} of {} replicas answered", got.answered, got.asked);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is read until it is sent"]
pub struct Get<'a> {
    client: &'a Client,
    request: GetRequest,
    timeout: Option<Duration>,
    session: Option<&'a Session>,
}

impl<'a> Get<'a> {
    pub(crate) fn new(client: &'a Client, bucket: String, key: Bytes) -> Self {
        let request = GetRequest {
            bucket,
            key,
            ..GetRequest::default()
        };
        Self {
            client,
            request,
            timeout: None,
            session: None,
        }
    }

    pub(crate) const fn within(mut self, session: &'a Session) -> Self {
        self.session = Some(session);
        self
    }

    /// Replicas that must answer.
    pub const fn r(mut self, r: u8) -> Self {
        self.request.r = Some(r);
        self
    }

    /// How many of those must be primaries.
    pub const fn pr(mut self, pr: u8) -> Self {
        self.request.pr = Some(pr);
        self
    }

    /// Time it has.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Reads.
    pub async fn send(self) -> Result<Got, ReadError> {
        let Some(session) = self.session else {
            return ask(self.client, self.request, self.timeout).await;
        };
        let (bucket, key) = (self.request.bucket.clone(), self.request.key.clone());
        let sent = session.marks(&bucket, &key);
        let seen = sent.iter().map(|mark| mark.context.as_bytes().clone());
        let mut request = self.request;
        request.seen = seen.collect();
        let bad = |body: &ErrorBody| !sent.is_empty() && body.code == ErrorCode::BadContext;
        let got = match ask(self.client, request.clone(), self.timeout).await {
            Err(ReadError::Invalid(body)) if bad(&body) => {
                // Of another bucket of this name, which is gone, and with it what was seen.
                session.forget(&bucket, &key);
                request.seen = Vec::new();
                ask(self.client, request, self.timeout).await?
            }
            answer => answer?,
        };
        session.read((&bucket, &key), &sent, &got)?;
        Ok(got)
    }
}

async fn ask(
    client: &Client,
    request: GetRequest,
    timeout: Option<Duration>,
) -> Result<Got, ReadError> {
    let call = client.call(Request::Get(request), Effect::Read, timeout);
    let response = call.await?;
    let Response::Got(reply) = response else {
        return Err(unexpected(&response).into());
    };
    Ok(reply.into())
}

/// An explain, not yet sent.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), ReadError> {
/// let explained = client.explain("default", "k").send().await?;
/// println!("partition {}", explained.partition);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is asked until it is sent"]
pub struct Explain<'a> {
    client: &'a Client,
    request: ExplainRequest,
    timeout: Option<Duration>,
}

impl<'a> Explain<'a> {
    pub(crate) fn new(client: &'a Client, bucket: String, key: Bytes) -> Self {
        let request = ExplainRequest {
            bucket,
            key,
            timeout_ms: 0,
        };
        Self {
            client,
            request,
            timeout: None,
        }
    }

    /// Time it has.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks.
    pub async fn send(self) -> Result<ExplainReply, ReadError> {
        let request = Request::Explain(self.request);
        let call = self.client.call(request, Effect::Read, self.timeout);
        let response = call.await?;
        let Response::Explained(reply) = response else {
            return Err(unexpected(&response).into());
        };
        Ok(reply)
    }
}
