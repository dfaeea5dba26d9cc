//! The same client for programs without async code.
//!
//! A blocking client owns a thread that keeps its connections; callers wait where they are. Every
//! operation of the async client is there by [`Client::wait`], the most usual ones by name. It must
//! not be used from within async code, where waiting would stop a whole thread of tasks.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use quorate_client::{Profile, blocking::Client};
//!
//! let client = Client::connect(&Profile::find()?)?;
//! client.put("default", "k", "v")?;
//! let got = client.get("default", "k")?;
//! assert_eq!(got.value().map(|value| &value[..]), Some(&b"v"[..]));
//! # Ok(())
//! # }
//! ```

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::{
    ConnectError, Context, Got, Options, Profile, PutItem, PutOutcome, ReadError, UpdateError,
    WriteError, Written, wire::Version,
};

/// A connection to a cluster, for callers that wait. Cheap to clone; dropping the last clone closes
/// its connections.
///
/// # Panics
///
/// Every method panics when it is called from within async code.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Thread>,
}

/// The thread behind a client.
#[derive(Debug)]
struct Thread(Option<Runtime>);

impl Thread {
    fn start() -> Result<Self, ConnectError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("quorate-client")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        let runtime = self
            .0
            .as_ref()
            .expect("it is taken only when it is dropped");
        runtime.block_on(future)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Also where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// Connects to the cluster of a profile.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use quorate_client::{Profile, blocking::Client};
    ///
    /// let client = Client::connect(&Profile::find()?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(profile: &Profile) -> Result<Self, ConnectError> {
        Self::connect_with(profile, &Options::default())
    }

    /// Connects with options.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use quorate_client::{Options, Profile, blocking::Client};
    ///
    /// let options = Options { timeout: Duration::from_secs(1), ..Options::default() };
    /// let client = Client::connect_with(&Profile::find()?, &options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_with(profile: &Profile, options: &Options) -> Result<Self, ConnectError> {
        let runtime = Thread::start()?;
        let client = runtime.block_on(crate::Client::connect_with(profile, options))?;
        Ok(Self {
            client,
            runtime: Arc::new(runtime),
        })
    }

    /// The client that is waited for.
    ///
    /// ```no_run
    /// # use quorate_client::{WriteError, blocking::Client};
    /// # fn example(client: Client) -> Result<(), WriteError> {
    /// let put = client.asynchronous().put("default", "k", "v").w(3);
    /// client.wait(put.send())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn asynchronous(&self) -> &crate::Client {
        &self.client
    }

    /// Waits for anything of the async client.
    ///
    /// ```no_run
    /// # use quorate_client::{ReadError, blocking::Client};
    /// # fn example(client: Client) -> Result<(), ReadError> {
    /// let session = client.asynchronous().session();
    /// let got = client.wait(session.get("default", "k").r(1).send())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Reads a key.
    ///
    /// ```no_run
    /// # use quorate_client::{ReadError, blocking::Client};
    /// # fn example(client: Client) -> Result<(), ReadError> {
    /// println!("{:?}", client.get("default", "k")?.value());
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, bucket: &str, key: impl AsRef<[u8]>) -> Result<Got, ReadError> {
        self.wait(self.client.get(bucket, key).send())
    }

    /// Writes a value beside whatever is there.
    ///
    /// ```no_run
    /// # use quorate_client::{WriteError, blocking::Client};
    /// # fn example(client: Client) -> Result<(), WriteError> {
    /// client.put("default", "k", "v")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) -> Result<Written, WriteError> {
        self.wait(self.client.put(bucket, key, value).send())
    }

    /// Deletes what a context covers.
    ///
    /// ```no_run
    /// # use quorate_client::blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(context) = client.get("default", "k")?.context {
    ///     client.delete("default", "k", &context)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        context: &Context,
    ) -> Result<Written, WriteError> {
        self.wait(self.client.delete(bucket, key).context(context).send())
    }

    /// Reads a key, merges its siblings, and writes the result in their place; again if somebody
    /// else was faster.
    ///
    /// ```no_run
    /// # use quorate_client::{UpdateError, blocking::Client};
    /// # fn example(client: Client) -> Result<(), UpdateError> {
    /// client.update("default", "longest", |siblings| {
    ///     let values = siblings.iter().filter_map(|sibling| sibling.value.clone());
    ///     values.max_by_key(|value| value.len()).unwrap_or_default()
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<V: Into<Bytes>>(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        merge: impl FnMut(&[Version]) -> V,
    ) -> Result<Written, UpdateError> {
        self.wait(self.client.update(bucket, key, merge))
    }

    /// Reads many keys; answers in their order.
    ///
    /// ```no_run
    /// # use quorate_client::blocking::Client;
    /// # fn example(client: Client) {
    /// for got in client.get_many("default", ["anna", "ben"]) {
    ///     println!("{got:?}");
    /// }
    /// # }
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        bucket: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Got, ReadError>> {
        self.wait(self.client.get_many(bucket, keys).send())
    }

    /// Writes many keys, each under an operation id of its own; answers in their order.
    ///
    /// ```no_run
    /// # use quorate_client::blocking::Client;
    /// # fn example(client: Client) {
    /// let outcomes = client.put_many("default", [("anna", "1"), ("ben", "2")]);
    /// assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    /// # }
    /// ```
    pub fn put_many<I: Into<PutItem>>(
        &self,
        bucket: &str,
        items: impl IntoIterator<Item = I>,
    ) -> Vec<PutOutcome> {
        self.wait(self.client.put_many(bucket, items).send())
    }

    /// Lists a bucket's keys, page by page.
    ///
    /// ```no_run
    /// # use quorate_client::{ReadError, blocking::Client};
    /// # fn example(client: Client) -> Result<(), ReadError> {
    /// for key in client.keys("default", "user/") {
    ///     println!("{:?}", key?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(
        &self,
        bucket: &str,
        prefix: impl AsRef<[u8]>,
    ) -> impl Iterator<Item = Result<Bytes, ReadError>> + '_ {
        let mut keys = self.client.keys(bucket).prefix(prefix);
        std::iter::from_fn(move || self.wait(keys.next()))
    }

    /// Closes all connections and waits until the nodes know.
    ///
    /// ```no_run
    /// # use quorate_client::blocking::Client;
    /// # fn example(client: Client) {
    /// client.close();
    /// # }
    /// ```
    pub fn close(self) {
        self.runtime.block_on(self.client.close());
    }
}
