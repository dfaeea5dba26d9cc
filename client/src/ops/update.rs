//! Read, merge, write back.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::Written;
use crate::{
    Client,
    error::{UpdateError, WriteError},
    wire::Version,
};

/// Time to the next round after somebody else was faster; grows with each.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

impl Client {
    /// Reads a key, lets `merge` make one value of its siblings (none if there is no such key) and
    /// writes that back in their place. If somebody else writes in between, it begins again with
    /// what is there then, until the client's timeout is up: `merge` may run several times.
    ///
    /// ```no_run
    /// # use quorate_client::*;
    /// # async fn example(client: Client) -> Result<(), UpdateError> {
    /// // A set of words, kept as lines: siblings are united, then one word is added.
    /// client
    ///     .update("default", "words", |siblings| {
    ///         let values = siblings.iter().filter_map(|sibling| sibling.value.as_ref());
    ///         let texts = values.map(|value| String::from_utf8_lossy(value).into_owned());
    ///         let mut words: std::collections::BTreeSet<String> = texts
    ///             .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
    ///             .collect();
    ///         words.insert("another".to_owned());
    ///         words.into_iter().collect::<Vec<_>>().join("\n")
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update<V: Into<Bytes>>(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        mut merge: impl FnMut(&[Version]) -> V,
    ) -> Result<Written, UpdateError> {
        let key = key.as_ref();
        let deadline = Instant::now() + self.timeout();
        let mut pause = PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let get = self.get(bucket, key).timeout(left);
            let got = get.send().await.map_err(UpdateError::Read)?;
            let value = merge(&got.siblings).into();
            let left = deadline.saturating_duration_since(Instant::now());
            let put = self.put(bucket, key, value).timeout(left);
            let put = match &got.context {
                Some(context) => put.if_match(context),
                None => put.if_absent(),
            };
            match put.send().await {
                Err(WriteError::Conflict(_)) if Instant::now() + pause < deadline => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                result => return result.map_err(UpdateError::Write),
            }
        }
    }
}
