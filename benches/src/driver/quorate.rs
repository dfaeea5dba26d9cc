//! Quorate through its own client library, with the retries and the routing that every user gets.

use std::path::Path;

use bytes::Bytes;
use quorate_client::{
    Client, Context, Options, Profile, ReadError, Routing,
    wire::{BucketOptions, ErrorBody, ErrorCode},
};

use crate::{
    driver::{Driver, Seen},
    options::Run,
};

/// A bucket of a cluster.
#[derive(Debug)]
pub(crate) struct Quorate {
    client: Client,
    bucket: String,
    r: Option<u8>,
    w: Option<u8>,
}

impl Quorate {
    /// Connects, and makes the bucket if it is not there.
    pub(crate) async fn connect(
        profile: &Path,
        run: &Run,
        routing: Routing,
    ) -> Result<Self, ErrorBody> {
        let profile = Profile::load(profile)
            .map_err(|error| ErrorBody::new(ErrorCode::InvalidArgument, error.to_string()))?;
        let options = Options {
            routing,
            ..Options::default()
        };
        let client = Client::connect_with(&profile, &options)
            .await
            .map_err(|error| error.body())?;
        match client.bucket(&run.bucket).await {
            Ok(_) => {}
            Err(ReadError::Invalid(body)) if body.code == ErrorCode::UnknownBucket => {
                let made = client.create_bucket(&run.bucket, BucketOptions::default());
                made.await.map_err(|error| error.body().clone())?;
            }
            Err(error) => return Err(error.body().clone()),
        }
        Ok(Self {
            client,
            bucket: run.bucket.clone(),
            r: run.r,
            w: run.w,
        })
    }
}

impl Driver for Quorate {
    type Context = Context;

    async fn read(&self, key: &str) -> Result<Seen<Context>, ErrorBody> {
        let mut get = self.client.get(&*self.bucket, key);
        if let Some(r) = self.r {
            get = get.r(r);
        }
        let got = get.send().await.map_err(|error| error.body().clone())?;
        let values = got.siblings.into_iter().filter_map(|version| version.value);
        Ok(Seen {
            values: values.collect(),
            context: got.context,
        })
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        context: Option<&Context>,
    ) -> Result<Option<Context>, ErrorBody> {
        let mut put = self.client.put(&*self.bucket, key, value);
        if let Some(context) = context {
            put = put.context(context);
        }
        if let Some(w) = self.w {
            put = put.w(w);
        }
        let written = put.send().await.map_err(|error| error.body().clone())?;
        Ok(Some(written.context))
    }

    async fn close(&self) {
        self.client.clone().close().await;
    }
}
