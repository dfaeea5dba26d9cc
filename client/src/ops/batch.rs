//! Many keys at once: each an operation of its own, with its own outcome.
//!
//! There is no order among them and nothing they share but the call: some may succeed where others
//! fail. A bounded number is under way at a time, routed and tried again like any other; frames for
//! one node travel packed. Dropping the call takes back what is under way and does not begin the
//! rest.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Got, Written};
use crate::{
    Client, Context, OpId,
    error::{ReadError, WriteError},
};

/// Operations under way at a time, if nothing else is said.
const CONCURRENCY: usize = 64;

impl Client {
    /// Reads many keys of a bucket.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) {
    /// let keys = ["anna", "ben"];
    /// for (key, got) in keys.iter().zip(client.get_many("default", keys).r(1).send().await) {
    ///     match got {
    ///         Ok(got) => println!("{key}: {:?}", got.value()),
    ///         Err(error) => println!("{key}: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        bucket: impl Into<String>,
        keys: impl IntoIterator<Item = K>,
    ) -> GetMany<'_> {
        let keys = keys.into_iter();
        GetMany {
            client: self,
            bucket: bucket.into(),
            keys: keys
                .map(|key| Bytes::copy_from_slice(key.as_ref()))
                .collect(),
            r: None,
            pr: None,
            timeout: None,
            concurrency: CONCURRENCY,
        }
    }

    /// Writes many keys of a bucket, each under an operation id of its own.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) {
    /// let items = [("anna", "1"), ("ben", "2")];
    /// let outcomes = client.put_many("default", items).send().await;
    /// // Those whose outcome is unknown are sent again as the same operations.
    /// let again = outcomes.into_iter().filter(|one| match &one.result {
    ///     Ok(_) => false,
    ///     Err(error) => error.retry() == Retry::SameOperation,
    /// });
    /// let items: Vec<PutItem> = again.map(|one| one.item).collect();
    /// client.put_many("default", items).send().await;
    /// # }
    /// ```
    pub fn put_many<I: Into<PutItem>>(
        &self,
        bucket: impl Into<String>,
        items: impl IntoIterator<Item = I>,
    ) -> PutMany<'_> {
        PutMany {
            client: self,
            bucket: bucket.into(),
            items: items.into_iter().map(Into::into).collect(),
            w: None,
            pw: None,
            timeout: None,
            concurrency: CONCURRENCY,
        }
    }
}

/// Reads of many keys, not yet sent.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) {
/// let keys = (0..10_000).map(|n| format!("user/{n}"));
/// let got = client.get_many("default", keys).r(1).concurrency(256).send().await;
/// println!("{} failed", got.iter().filter(|got| got.is_err()).count());
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is read until it is sent"]
pub struct GetMany<'a> {
    client: &'a Client,
    bucket: String,
    keys: Vec<Bytes>,
    r: Option<u8>,
    pr: Option<u8>,
    timeout: Option<Duration>,
    concurrency: usize,
}

impl GetMany<'_> {
    /// Replicas that must answer, for each key.
    pub const fn r(mut self, r: u8) -> Self {
        self.r = Some(r);
        self
    }

    /// How many of those must be primaries.
    pub const fn pr(mut self, pr: u8) -> Self {
        self.pr = Some(pr);
        self
    }

    /// Time that each key has, from when its turn comes.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many are under way at a time.
    pub const fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Reads, and answers in the order of the keys.
    pub async fn send(self) -> Vec<Result<Got, ReadError>> {
        let (bucket, r, pr, timeout) = (self.bucket, self.r, self.pr, self.timeout);
        let reads = self.keys.into_iter().map(|key| {
            let (client, bucket) = (self.client.clone(), bucket.clone());
            async move {
                let mut get = client.get(bucket, key);
                if let Some(r) = r {
                    get = get.r(r);
                }
                if let Some(pr) = pr {
                    get = get.pr(pr);
                }
                if let Some(timeout) = timeout {
                    get = get.timeout(timeout);
                }
                get.send().await
            }
        });
        side_by_side(reads, self.concurrency).await
    }
}

/// One write of many.
///
/// ```
/// use quorate_client::{OpId, PutItem};
///
/// let item = PutItem {
///     op_id: Some(OpId::from_bytes(*b"order 2026-00017")),
///     ..PutItem::from(("order/17", "paid"))
/// };
/// assert_eq!(item.key, "order/17");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutItem {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Replace exactly what this covers; nothing if there is none.
    pub context: Option<Context>,
    /// Under which it is applied once. Without one it gets a random one, and the outcome names it.
    pub op_id: Option<OpId>,
}

impl<K: AsRef<[u8]>, V: Into<Bytes>> From<(K, V)> for PutItem {
    fn from((key, value): (K, V)) -> Self {
        Self {
            key: Bytes::copy_from_slice(key.as_ref()),
            value: value.into(),
            context: None,
            op_id: None,
        }
    }
}

/// What became of one write of many.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) {
/// for PutOutcome { item, result } in client.put_many("default", [("k", "v")]).send().await {
///     if let Err(error) = result {
///         println!("{:?} under {:?}: {error}", item.key, item.op_id);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// The write, now with its operation id: send it again as it is if its outcome is unknown.
    pub item: PutItem,
    /// How it ended.
    pub result: Result<Written, WriteError>,
}

/// Writes of many keys, not yet sent.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) {
/// let items = (0..10_000).map(|n| (format!("user/{n}"), n.to_string()));
/// let outcomes = client.put_many("default", items).w(3).concurrency(256).send().await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is written until it is sent"]
pub struct PutMany<'a> {
    client: &'a Client,
    bucket: String,
    items: Vec<PutItem>,
    w: Option<u8>,
    pw: Option<u8>,
    timeout: Option<Duration>,
    concurrency: usize,
}

impl PutMany<'_> {
    /// Distinct nodes that must have each of them durable.
    pub const fn w(mut self, w: u8) -> Self {
        self.w = Some(w);
        self
    }

    /// How many of those must be primaries.
    pub const fn pw(mut self, pw: u8) -> Self {
        self.pw = Some(pw);
        self
    }

    /// Time that each key has, from when its turn comes.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many are under way at a time.
    pub const fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Writes, and answers in the order of the items.
    pub async fn send(self) -> Vec<PutOutcome> {
        let (bucket, w, pw, timeout) = (self.bucket, self.w, self.pw, self.timeout);
        let writes = self.items.into_iter().map(|item| {
            let (client, bucket) = (self.client.clone(), bucket.clone());
            async move {
                let mut put = client.put(bucket, &item.key, item.value.clone());
                let op_id = item.op_id.unwrap_or_else(|| client.op_id());
                put = match item.op_id {
                    // It came from outside, and may have been used before.
                    Some(_) => put.op_id(op_id),
                    None => put.new_op_id(op_id),
                };
                if let Some(context) = &item.context {
                    put = put.context(context);
                }
                if let Some(w) = w {
                    put = put.w(w);
                }
                if let Some(pw) = pw {
                    put = put.pw(pw);
                }
                if let Some(timeout) = timeout {
                    put = put.timeout(timeout);
                }
                let result = put.send().await;
                let op_id = Some(op_id);
                let item = PutItem { op_id, ..item };
                PutOutcome { item, result }
            }
        });
        side_by_side(writes, self.concurrency).await
    }
}

/// Runs all of them, so many at a time; what they say, in their order.
async fn side_by_side<F>(tasks: impl Iterator<Item = F>, concurrency: usize) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut ended = Vec::new();
    // Dropping the set ends them.
    let mut running = JoinSet::new();
    for (at, task) in tasks.enumerate() {
        if concurrency.max(1) <= running.len() {
            ended.extend(next(&mut running).await);
        }
        running.spawn(async move { (at, task.await) });
    }
    while let Some(one) = next(&mut running).await {
        ended.push(one);
    }
    ended.sort_unstable_by_key(|(at, _)| *at);
    ended.into_iter().map(|(_, output)| output).collect()
}

async fn next<T: 'static>(running: &mut JoinSet<T>) -> Option<T> {
    match running.join_next().await? {
        Ok(output) => Some(output),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
