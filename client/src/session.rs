//! Sessions: a reader that never goes back, over nodes that may be behind.
//!
//! A session remembers the context of everything it has read and written. Each of its reads brings
//! them along, and the node that coordinates it opens them (nobody else can): if the replicas it
//! asked know less, it asks all the others, and if none of them has it, it says so. So what a
//! session's read shows is never older than what the session has seen, whatever r and w are.

mod seen;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};

pub(crate) use self::seen::Mark;
use self::seen::{Place, Seen};
use crate::{
    Client, Context,
    error::ReadError,
    ops::{Delete, Get, Got, Put, Written},
    value::TextError,
    wire::{ErrorBody, ErrorCode, SessionToken},
};

/// Keys that a session remembers unless told otherwise.
const KEYS_MAX: usize = 10_000;

/// Reads its own writes, and never reads backwards.
///
/// For each key by itself, and as long as the session remembers it:
///
/// - *read your writes*: a get shows what the session wrote, if that was acknowledged, or what
///   replaced it;
/// - *monotonic reads*: a get shows everything that an earlier get of this session showed, or what
///   replaced it;
/// - *writes follow reads*: a put or delete replaces what the session has seen of its key, and
///   nothing else.
///
/// This holds for every r and w, also for 1, through failures and changes of the ring. A get that
/// cannot keep it fails with [`ReadError::Stale`]. Under a sloppy quorum a write may be with
/// fallbacks only, as a hint: until it is delivered, and if no primary took the write, reads of
/// that key are `Stale` too. A write whose outcome is unknown is not waited for. Between different
/// keys there is no order.
///
/// A session remembers a number of keys, 10,000 unless told otherwise; a key that was not used for
/// longest is forgotten first, and then read like any other. It can be used by many tasks at once,
/// and handed on to another process as a [token](Self::to_text).
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let session = client.session();
/// session.put("default", "greeting", "hello").w(1).send().await?;
/// let got = session.get("default", "greeting").r(1).send().await?;
/// assert_eq!(got.value().map(|value| &value[..]), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    /// A session that has seen nothing yet.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), ReadError> {
    /// let session = client.session();
    /// session.get("default", "greeting").send().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn session(&self) -> Session {
        self.session_of(KEYS_MAX)
    }

    /// A session that remembers at most so many keys.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) {
    /// let one_user = client.session_of(100);
    /// # }
    /// ```
    #[must_use]
    pub fn session_of(&self, keys_max: usize) -> Session {
        Session {
            client: self.clone(),
            seen: Arc::new(Mutex::new(Seen::new(keys_max))),
        }
    }
}

impl Session {
    /// Reads a key, and shows nothing older than this session has seen.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(session: Session) -> Result<(), ReadError> {
    /// match session.get("default", "greeting").r(1).send().await {
    ///     Ok(got) => println!("{:?}", got.value()),
    ///     Err(ReadError::Stale(why)) => println!("nobody who can be reached has it: {why}"),
    ///     Err(other) => return Err(other),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, bucket: impl Into<String>, key: impl AsRef<[u8]>) -> Get<'_> {
        self.client.get(bucket, key).within(self)
    }

    /// Writes a value in the place of what this session has seen of the key.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(session: Session) -> Result<(), Box<dyn std::error::Error>> {
    /// session.get("default", "greeting").send().await?;
    /// session.put("default", "greeting", "good morning").send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(
        &self,
        bucket: impl Into<String>,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) -> Put<'_> {
        self.client.put(bucket, key, value).within(self)
    }

    /// Deletes what this session has seen of a key.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(session: Session) -> Result<(), WriteError> {
    /// session.delete("default", "greeting").send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete(&self, bucket: impl Into<String>, key: impl AsRef<[u8]>) -> Delete<'_> {
        self.client.delete(bucket, key).within(self)
    }

    /// Forgets what was seen of a key.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # fn example(session: &Session) {
    /// session.forget("default", "greeting");
    /// # }
    /// ```
    pub fn forget(&self, bucket: &str, key: impl AsRef<[u8]>) {
        self.seen().forget(&place(bucket, key.as_ref()));
    }

    /// How many keys it remembers.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # fn example(session: &Session) {
    /// println!("{} keys", session.len());
    /// # }
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen().len()
    }

    /// Whether it remembers nothing.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # fn example(client: &Client) {
    /// assert!(client.session().is_empty());
    /// # }
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All it has seen, as text for another process; a cookie, for example. It can be read by
    /// nodes only, and used by whoever may read the keys.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # fn example(first: &Session, second: &Session) -> Result<(), TextError> {
    /// second.take_in(&first.to_text())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_text(&self) -> String {
        let token = SessionToken {
            keys: self.seen().to_keys(),
        };
        let mut out = BytesMut::new();
        token.append_to(&mut out);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Takes in what another session has seen, from its [text](Self::to_text).
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # fn example(client: &Client, cookie: &str) -> Result<(), TextError> {
    /// let session = client.session();
    /// session.take_in(cookie)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_in(&self, text: &str) -> Result<(), TextError> {
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| TextError::Session)?;
        let token = SessionToken::decode(&bytes).ok_or(TextError::Session)?;
        self.seen().add(token.keys);
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a read has to cover.
    pub(crate) fn marks(&self, bucket: &str, key: &[u8]) -> Vec<Mark> {
        self.seen().marks(&place(bucket, key))
    }

    /// A read was sent with `sent` and answered.
    pub(crate) fn read(
        &self,
        (bucket, key): (&str, &[u8]),
        sent: &[Mark],
        got: &Got,
    ) -> Result<(), ReadError> {
        let read = self
            .seen()
            .read(&place(bucket, key), sent, got.context.as_ref());
        read.map_err(|_| {
            let message = "what this session wrote is with fallbacks, and no replica has it yet";
            ReadError::Stale(ErrorBody::new(ErrorCode::Stale, message))
        })
    }

    /// A write begins, and counts until the guard is dropped.
    pub(crate) async fn begin(&self, bucket: &str, key: &[u8]) -> Result<Writing<'_>, ErrorBody> {
        let place = place(bucket, key);
        let mut begun = self.seen().begin_write(&place);
        if begun.is_err() {
            // Concurrent writes have left so many contexts that they have to be read first.
            let got = self.get(bucket, key).send().await;
            got.map_err(|error| error.body().clone())?;
            begun = self.seen().begin_write(&place);
        }
        let Ok(context) = begun else {
            let message = "too many writes of this key are under way in this session";
            return Err(ErrorBody::overloaded("session_contexts", message));
        };
        Ok(Writing {
            session: self,
            place,
            context,
        })
    }
}

/// A write of a session that is under way.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    session: &'a Session,
    place: Place,
    /// What to send it with, unless its caller says otherwise.
    pub(crate) context: Option<Context>,
}

impl Writing<'_> {
    /// It was sent with this context, and acknowledged.
    pub(crate) fn wrote(&self, sent: Option<&Context>, written: &Written) {
        let mark = Mark {
            context: written.context.clone(),
            settled: written.hinted == 0,
        };
        self.session.seen().wrote(&self.place, sent, mark);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.session.seen().end_write(&self.place);
    }
}

fn place(bucket: &str, key: &[u8]) -> Place {
    (bucket.to_owned(), Bytes::copy_from_slice(key))
}
