//! Writing and deleting a key.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Client, Context, OpId, Session,
    call::Effect,
    client::unexpected,
    error::WriteError,
    wire::{Condition, ErrorBody, ErrorCode, Request, Response, Version, WriteReply, WriteRequest},
};

/// A write that reached its quorum.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), WriteError> {
/// let written = client.put("default", "k", "v").send().await?;
/// println!("{}: on disk on {}", written.op_id, written.durable_on.join(", "));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Covers exactly the versions in `siblings`.
    pub context: Context,
    /// All versions live at the coordinator after the write.
    pub siblings: Vec<Version>,
    /// Names of the distinct nodes that had fsynced the write before this answer.
    pub durable_on: Vec<String>,
    /// Names of the distinct nodes that held it, also in memory only.
    pub stored_on: Vec<String>,
    /// How many of `stored_on` are primaries.
    pub primaries: u8,
    /// How many fallbacks hold it as a hint.
    pub hinted: u8,
    /// The operation id.
    pub op_id: OpId,
}

/// What puts and deletes have in common.
#[derive(Clone, Debug)]
struct Write<'a> {
    client: &'a Client,
    request: WriteRequest,
    op_id: Option<OpId>,
    /// The operation id was drawn for this call.
    fresh: bool,
    timeout: Option<Duration>,
    session: Option<&'a Session>,
}

impl<'a> Write<'a> {
    fn new(client: &'a Client, bucket: String, key: Bytes, value: Option<Bytes>) -> Self {
        let request = WriteRequest {
            bucket,
            key,
            value,
            ..WriteRequest::default()
        };
        Self {
            client,
            request,
            op_id: None,
            fresh: false,
            timeout: None,
            session: None,
        }
    }

    fn condition(&mut self, condition: Condition, context: Option<&Context>) {
        self.request.condition = condition;
        if let Some(context) = context {
            self.request.context = Some(context.as_bytes().clone());
        }
    }

    async fn send(mut self) -> Result<Written, WriteError> {
        let Some(session) = self.session else {
            return self.ask().await;
        };
        let begun = session.begin(&self.request.bucket, &self.request.key);
        let writing = begun.await.map_err(not_begun)?;
        if self.request.context.is_none() && self.request.condition != Condition::IfAbsent {
            let seen = writing.context.as_ref();
            self.request.context = seen.map(|context| context.as_bytes().clone());
        }
        let sent = self.request.context.clone().map(Context::from_bytes);
        let written = self.ask().await?;
        writing.wrote(sent.as_ref(), &written);
        Ok(written)
    }

    async fn ask(mut self) -> Result<Written, WriteError> {
        // An id from outside may have been used before, by a process that did not live to know.
        self.request.retry |= self.op_id.is_some() && !self.fresh;
        let op_id = self.op_id.unwrap_or_else(|| self.client.op_id());
        self.request.op_id = op_id.to_bytes();
        let request = if self.request.value.is_some() {
            Request::Put(self.request)
        } else {
            Request::Delete(self.request)
        };
        let effect = Effect::Idempotent;
        let response = self.client.call(request, effect, self.timeout).await?;
        let Response::Written(reply) = response else {
            return Err(unexpected(&response).into());
        };
        Ok(written(reply, op_id))
    }
}

/// Nothing was sent.
fn not_begun(error: ErrorBody) -> WriteError {
    if error.code == ErrorCode::UnknownOutcome {
        let message = format!("{}; nothing was applied", error.message);
        return ErrorBody::new(ErrorCode::Unavailable, message).into();
    }
    error.into()
}

fn written(reply: WriteReply, op_id: OpId) -> Written {
    Written {
        context: Context::from_bytes(reply.context),
        siblings: reply.siblings,
        durable_on: reply.durable_on,
        stored_on: reply.stored_on,
        primaries: reply.primaries,
        hinted: reply.hinted,
        op_id,
    }
}

/// A put, not yet sent.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), WriteError> {
/// let day = std::time::Duration::from_hours(24);
/// client.put("default", "k", "v").w(3).pw(2).sloppy(false).ttl(day).send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is written until it is sent"]
pub struct Put<'a>(Write<'a>);

/// A delete, not yet sent.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client, seen: Context) -> Result<(), WriteError> {
/// client.delete("default", "k").context(&seen).w(3).send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is deleted until it is sent"]
pub struct Delete<'a>(Write<'a>);

impl<'a> Put<'a> {
    pub(crate) fn new(client: &'a Client, bucket: String, key: Bytes, value: Bytes) -> Self {
        Self(Write::new(client, bucket, key, Some(value)))
    }

    /// How long the value lives; zero is for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.0.request.ttl_ms = Some(ttl);
        self
    }
}

impl<'a> Delete<'a> {
    pub(crate) fn new(client: &'a Client, bucket: String, key: Bytes) -> Self {
        Self(Write::new(client, bucket, key, None))
    }
}

/// The options of a write, for each of the two builders.
macro_rules! write_options {
    ($builder:ident, $verb:literal) => {
        impl<'a> $builder<'a> {
            pub(crate) const fn within(mut self, session: &'a Session) -> Self {
                self.0.session = Some(session);
                self
            }

            /// Replace exactly what this context covers.
            pub fn context(mut self, context: &Context) -> Self {
                self.0.request.context = Some(context.as_bytes().clone());
                self
            }

            /// Only if the live versions are exactly those the context covers, and replace them.
            /// Advisory: two racing writers may both pass and become siblings; a refusal is
            /// certain.
            ///
            /// ```no_run
            /// # use quorate_client::*;
            /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
            /// let got = client.get("default", "k").send().await?;
            /// let Some(context) = got.context else { return Ok(()) };
            #[doc = concat!("let write = client.", $verb, ".if_match(&context);")]
            /// match write.send().await {
            ///     Ok(_) => println!("nobody came between"),
            ///     Err(WriteError::Conflict(_)) => println!("somebody did; nothing was changed"),
            ///     Err(other) => return Err(other.into()),
            /// }
            /// # Ok(())
            /// # }
            /// ```
            pub fn if_match(mut self, context: &Context) -> Self {
                self.0.condition(Condition::IfMatch, Some(context));
                self
            }

            /// Only if no live value exists. Advisory, as [`if_match`](Self::if_match).
            ///
            /// ```no_run
            /// # use quorate_client::*;
            /// # async fn example(client: Client) -> Result<(), WriteError> {
            #[doc = concat!("client.", $verb, ".if_absent().send().await?;")]
            /// # Ok(())
            /// # }
            /// ```
            pub fn if_absent(mut self) -> Self {
                self.0.condition(Condition::IfAbsent, None);
                self
            }

            /// Distinct nodes that must have it durable.
            pub const fn w(mut self, w: u8) -> Self {
                self.0.request.w = Some(w);
                self
            }

            /// How many of those must be primaries.
            pub const fn pw(mut self, pw: u8) -> Self {
                self.0.request.pw = Some(pw);
                self
            }

            /// Whether fallbacks may stand in for primaries.
            pub const fn sloppy(mut self, sloppy: bool) -> Self {
                self.0.request.sloppy = Some(sloppy);
                self
            }

            /// The id under which it is applied once, however often it is sent. Without this, a
            /// random one that all tries of this call share. It may have been sent before, so a
            /// quorum that met that write is asked first, and has to be up.
            pub const fn op_id(mut self, id: OpId) -> Self {
                self.0.op_id = Some(id);
                self.0.fresh = false;
                self
            }

            /// The same under an id that [`Client::op_id`] has just drawn and that was never sent:
            /// nobody has to be asked. To repeat it, use [`op_id`](Self::op_id).
            pub const fn new_op_id(mut self, id: OpId) -> Self {
                self.0.op_id = Some(id);
                self.0.fresh = true;
                self
            }

            /// Time it has.
            pub const fn timeout(mut self, timeout: Duration) -> Self {
                self.0.timeout = Some(timeout);
                self
            }

            /// Writes, trying again where that helps, until the time is up.
            pub async fn send(self) -> Result<Written, WriteError> {
                self.0.send().await
            }
        }
    };
}

write_options!(Put, "put(\"default\", \"k\", \"v\")");
write_options!(Delete, "delete(\"default\", \"k\")");
