//! The client: what a program holds.
//!
//! Every operation is a small builder: name what differs from the bucket's settings, then `send`.
//! How a request finds its node, and how often it is tried, is decided in the pool and the call.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_ring::Ring;
use tracing::{Instrument as _, field};

use crate::{
    Context, OpId,
    call::{self, Effect, Operation},
    error::{ConnectError, ReadError, WriteError},
    ops::{Delete, Explain, Get, Keys, Put},
    pool::{Pool, Routing},
    profile::Profile,
    wire::{
        BucketInfo, BucketOptions, BucketRequest, ErrorBody, ErrorCode, HealingReply,
        HealingRequest, Request, Response, RingAnswer, RingRequest, StatusReply,
    },
};

/// Time an operation has when nothing else is said.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How a client behaves, where that differs from the usual.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::Options;
///
/// let hasty = Options { timeout: Duration::from_millis(500), ..Options::default() };
/// assert_eq!(hasty.pin, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Time each operation has, and connecting too; an operation can say otherwise.
    pub timeout: Duration,
    /// host:port of the one node that gets every request; no routing then.
    pub pin: Option<String>,
    /// Which node a request about a key goes to, if none is pinned.
    pub routing: Routing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT,
            pin: None,
            routing: Routing::Replica,
        }
    }
}

/// The ring as a node told it.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), ReadError> {
/// for member in client.ring().await?.ring.members() {
///     println!("{} in {}", member.name, member.zone);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RingInfo {
    /// Members and preference lists.
    pub ring: Ring,
    /// `stable`, or the step of a change that is under way.
    pub state: String,
}

/// A connection to a cluster. Cheap to clone; all clones share their connections, and dropping the
/// last one closes them.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<Pool>,
    timeout: Duration,
}

impl Client {
    /// Connects to the cluster of a profile and learns its ring.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use quorate_client::{Client, Profile};
    ///
    /// let client = Client::connect(&Profile::find()?).await?;
    /// let written = client.put("default", "greeting", "hello").send().await?;
    /// println!("durable on {}", written.durable_on.join(", "));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(profile: &Profile) -> Result<Self, ConnectError> {
        Self::connect_with(profile, &Options::default()).await
    }

    /// Connects with options.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{path::Path, time::Duration};
    /// use quorate_client::{Client, Options, Profile};
    ///
    /// let profile = Profile::load(Path::new("quorate-dev/client.toml"))?;
    /// let options = Options {
    ///     timeout: Duration::from_secs(1),
    ///     pin: Some("127.0.0.1:7401".to_owned()),
    ///     ..Options::default()
    /// };
    /// let client = Client::connect_with(&profile, &options).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(profile: &Profile, options: &Options) -> Result<Self, ConnectError> {
        let credentials = profile.credentials()?;
        let pool = Pool::connect(credentials, &profile.nodes, options).await?;
        Ok(Self {
            pool,
            timeout: options.timeout,
        })
    }

    /// Closes all connections, for this clone and all others, and waits until the nodes know.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) {
    /// client.close().await;
    /// # }
    /// ```
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Reads a key: all its siblings, and a context for the next write.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// let got = client.get("default", "greeting").r(2).send().await?;
    /// for sibling in &got.siblings {
    ///     println!("{:?}", sibling.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, bucket: impl Into<String>, key: impl AsRef<[u8]>) -> Get<'_> {
        Get::new(self, bucket.into(), copy(key))
    }

    /// Writes a value. Without a context it stands beside whatever is there, as a sibling.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let got = client.get("default", "greeting").send().await?;
    /// let mut put = client.put("default", "greeting", "good morning").w(2);
    /// if let Some(context) = &got.context {
    ///     put = put.context(context);
    /// }
    /// let written = put.send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(
        &self,
        bucket: impl Into<String>,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) -> Put<'_> {
        Put::new(self, bucket.into(), copy(key), value.into())
    }

    /// Deletes what a context covers; without one, blindly, whatever the coordinator holds then.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(context) = client.get("default", "greeting").send().await?.context {
    ///     client.delete("default", "greeting").context(&context).send().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete(&self, bucket: impl Into<String>, key: impl AsRef<[u8]>) -> Delete<'_> {
        Delete::new(self, bucket.into(), copy(key))
    }

    /// Lists a bucket's keys, in no useful order, page by page as they are asked for.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// let mut keys = client.keys("default").prefix("user/");
    /// while let Some(key) = keys.next().await {
    ///     println!("{:?}", key?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self, bucket: impl Into<String>) -> Keys<'_> {
        Keys::new(self, bucket.into())
    }

    /// Asks every replica of a key what it holds.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// let explained = client.explain("default", "greeting").send().await?;
    /// for replica in &explained.replicas {
    ///     println!("{} {}: {}", replica.node, replica.role, replica.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn explain(&self, bucket: impl Into<String>, key: impl AsRef<[u8]>) -> Explain<'_> {
        Explain::new(self, bucket.into(), copy(key))
    }

    /// Makes a bucket.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), WriteError> {
    /// use quorate_client::wire::BucketOptions;
    ///
    /// let options = BucketOptions { n: Some(3), w: Some(3), ..BucketOptions::default() };
    /// let bucket = client.create_bucket("carts", options).await?;
    /// assert_eq!(bucket.w, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_bucket(
        &self,
        name: &str,
        options: BucketOptions,
    ) -> Result<BucketInfo, WriteError> {
        let buckets = self
            .bucket_call("create", name, options, Effect::Once)
            .await;
        Ok(buckets.and_then(the_one)?)
    }

    /// Changes settings of a bucket; those left out stay as they are.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), WriteError> {
    /// use quorate_client::wire::BucketOptions;
    ///
    /// let options = BucketOptions { sloppy: Some(false), ..BucketOptions::default() };
    /// client.set_bucket("carts", options).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_bucket(
        &self,
        name: &str,
        options: BucketOptions,
    ) -> Result<BucketInfo, WriteError> {
        // The same settings twice are the same settings.
        let effect = Effect::Idempotent;
        let buckets = self.bucket_call("set", name, options, effect).await;
        Ok(buckets.and_then(the_one)?)
    }

    /// Drops a bucket with everything in it.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), WriteError> {
    /// client.drop_bucket("carts").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drop_bucket(&self, name: &str) -> Result<(), WriteError> {
        let options = BucketOptions::default();
        self.bucket_call("drop", name, options, Effect::Once)
            .await?;
        Ok(())
    }

    /// A bucket's settings.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// println!("n is {}", client.bucket("default").await?.n);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bucket(&self, name: &str) -> Result<BucketInfo, ReadError> {
        let options = BucketOptions::default();
        let buckets = self.bucket_call("show", name, options, Effect::Read).await;
        Ok(buckets.and_then(the_one)?)
    }

    /// All buckets.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// for bucket in client.buckets().await? {
    ///     println!("{}", bucket.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn buckets(&self) -> Result<Vec<BucketInfo>, ReadError> {
        let options = BucketOptions::default();
        Ok(self.bucket_call("list", "", options, Effect::Read).await?)
    }

    /// The ring as the node asked knows it.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// let info = client.ring().await?;
    /// println!("{} members, {}", info.ring.members().len(), info.state);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ring(&self) -> Result<RingInfo, ReadError> {
        let response = self.call(Request::Ring, Effect::Read, None).await?;
        let Response::Ring(reply) = response else {
            return Err(unexpected(&response).into());
        };
        let ring = Ring::from_bytes(&reply.ring)
            .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        self.pool.install(ring.clone());
        let state = reply.state;
        Ok(RingInfo { ring, state })
    }

    /// The cluster as the node asked sees it.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// for node in client.status().await?.nodes {
    ///     println!("{} is {}", node.name, node.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn status(&self) -> Result<StatusReply, ReadError> {
        let response = self.call(Request::Status, Effect::Read, None).await?;
        let Response::Status(reply) = response else {
            return Err(unexpected(&response).into());
        };
        Ok(reply)
    }

    /// How all replicas stand with each other, asked of every member of the ring. The verb
    /// `compare` also begins a comparison of all pairs, `roots` only asks. An empty bucket means
    /// all of them.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// if !client.healing("roots", "").await?.converged {
    ///     client.healing("compare", "").await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn healing(&self, verb: &str, bucket: &str) -> Result<HealingReply, ReadError> {
        let (verb, bucket) = (verb.to_owned(), bucket.to_owned());
        let request = HealingRequest {
            verb,
            bucket,
            ..HealingRequest::default()
        };
        self.care(request).await
    }

    /// Asks for any of the things that a [`HealingRequest`] names.
    ///
    /// ```no_run
    /// # use quorate_client::{*, wire::HealingRequest};
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// let verb = "verify".to_owned();
    /// let reply = client.care(HealingRequest { verb, ..HealingRequest::default() }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn care(&self, request: HealingRequest) -> Result<HealingReply, ReadError> {
        let request = Request::Healing(request);
        let response = self.call(request, Effect::Read, None).await?;
        let Response::Healing(reply) = response else {
            return Err(unexpected(&response).into());
        };
        Ok(reply)
    }

    /// Sends a node's clients away, or lets them come back: the verb is `drain` or `undrain`.
    ///
    /// ```no_run
    /// # use quorate_client::{*, wire::RingRequest};
    /// # async fn example(client: Client) -> Result<(), WriteError> {
    /// let (verb, node) = ("drain".to_owned(), "n2".to_owned());
    /// client.drain(RingRequest { verb, node, ..RingRequest::default() }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self, request: RingRequest) -> Result<(), WriteError> {
        let request = Request::RingChange(request);
        let response = self.call(request, Effect::Idempotent, None).await?;
        if matches!(response, Response::Healing(_)) {
            return Ok(());
        }
        Err(unexpected(&response).into())
    }

    /// Asks about the ring, or changes it. The client's own limit of time applies.
    ///
    /// ```no_run
    /// # use quorate_client::{*, wire::RingRequest};
    /// # async fn example(client: Client) -> Result<(), WriteError> {
    /// let verb = "plan".to_owned();
    /// let answer = client.change_ring(RingRequest { verb, ..RingRequest::default() }).await?;
    /// println!("{} changes are staged", answer.staged.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn change_ring(&self, request: RingRequest) -> Result<RingAnswer, WriteError> {
        let effect = match request.verb.as_str() {
            "plan" | "transfers" => Effect::Read,
            _ => Effect::Once,
        };
        let response = self
            .call(Request::RingChange(request), effect, None)
            .await?;
        let Response::RingChange(answer) = response else {
            return Err(unexpected(&response).into());
        };
        Ok(*answer)
    }

    /// A new random operation id, for a write that may have to be sent again by another process.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), WriteError> {
    /// let id = client.op_id();
    /// client.put("default", "greeting", "hello").op_id(id).send().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn op_id(&self) -> OpId {
        self.pool.op_id()
    }

    async fn bucket_call(
        &self,
        verb: &str,
        name: &str,
        options: BucketOptions,
        effect: Effect,
    ) -> Result<Vec<BucketInfo>, ErrorBody> {
        let request = Request::Bucket(BucketRequest {
            verb: verb.to_owned(),
            name: name.to_owned(),
            options,
            timeout_ms: 0,
        });
        let response = self.call(request, effect, None).await?;
        let Response::Buckets(buckets) = response else {
            return Err(unexpected(&response));
        };
        Ok(buckets)
    }

    pub(crate) async fn call(
        &self,
        request: Request,
        effect: Effect,
        timeout: Option<Duration>,
    ) -> Result<Response, ErrorBody> {
        // Neither keys nor values: those are the caller's secrets.
        let span = {
            let (op, bucket) = request.named();
            tracing::debug_span!("quorate", op, bucket, tries = field::Empty)
        };
        let operation = Operation {
            request,
            effect,
            timeout: timeout.unwrap_or(self.timeout),
        };
        call::run(&self.pool, operation).instrument(span).await
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// An answer of another kind than the question's: after a write nobody knows what that means.
pub(crate) fn unexpected(response: &Response) -> ErrorBody {
    let message = format!("the node answered with message kind {}", response.kind());
    ErrorBody::new(ErrorCode::UnknownOutcome, message)
}

pub(crate) fn context_of(bytes: Option<Bytes>) -> Option<Context> {
    bytes.map(Context::from_bytes)
}

fn the_one(buckets: Vec<BucketInfo>) -> Result<BucketInfo, ErrorBody> {
    buckets.into_iter().next().ok_or_else(|| {
        let message = "the node answered without the bucket";
        ErrorBody::new(ErrorCode::UnknownOutcome, message)
    })
}

fn copy(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}
