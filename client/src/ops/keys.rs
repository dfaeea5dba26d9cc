//! Listing keys, page by page.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::{
    Client,
    call::Effect,
    client::unexpected,
    error::ReadError,
    wire::{KeyItem, KeysReply, KeysRequest, Request, Response},
};

/// Keys asked for at once.
const PAGE: u32 = 1000;

/// A listing that is fetched as it is read.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), ReadError> {
/// let mut keys = client.keys("default").prefix("user/").limit(10);
/// while let Some(key) = keys.next().await {
///     println!("{:?}", key?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is listed until it is read"]
pub struct Keys<'a> {
    client: &'a Client,
    request: KeysRequest,
    timeout: Option<Duration>,
    left: u64,
    page: VecDeque<KeyItem>,
    last_page: bool,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(client: &'a Client, bucket: String) -> Self {
        let request = KeysRequest {
            bucket,
            ..KeysRequest::default()
        };
        Self {
            client,
            request,
            timeout: None,
            left: u64::MAX,
            page: VecDeque::new(),
            last_page: false,
        }
    }

    /// Only keys that begin with these bytes.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.request.prefix = Bytes::copy_from_slice(prefix.as_ref());
        self
    }

    /// At most this many.
    pub const fn limit(mut self, limit: u64) -> Self {
        self.left = limit;
        self
    }

    /// Time for each page.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The next key; `None` at the end. After an error it can be called again to go on.
    pub async fn next(&mut self) -> Option<Result<Bytes, ReadError>> {
        while self.left > 0 {
            if let Some(item) = self.page.pop_front() {
                self.left -= 1;
                return Some(Ok(item.key));
            }
            if self.last_page {
                return None;
            }
            match self.fetch().await {
                Ok(reply) => {
                    self.last_page = reply.cursor.is_none();
                    self.request.cursor = reply.cursor.unwrap_or_default();
                    self.page = reply.items.into();
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    async fn fetch(&mut self) -> Result<KeysReply, ReadError> {
        self.request.limit = u32::try_from(self.left).map_or(PAGE, |left| left.min(PAGE));
        let request = Request::Keys(self.request.clone());
        let call = self.client.call(request, Effect::Read, self.timeout);
        let response = call.await?;
        let Response::Keys(reply) = response else {
            return Err(unexpected(&response).into());
        };
        Ok(reply)
    }
}
