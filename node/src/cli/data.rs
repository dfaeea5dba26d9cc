//! `put`, `get`, `delete`, `keys` and `explain`.
//!
//! Each has one function that does the work and gives the JSON answer; the table is made from
//! that, so the two cannot disagree.

use std::time::Duration;

use quorate_client::{
    Client, Context, OpId,
    wire::{ErrorCode, ExplainReply, Version},
};
use serde_json::{Value, json};

use super::{
    input::{Encoding, duration},
    output::{Failure, Format, bytes_field, hex, line, raw, rfc3339, show},
};

/// Options that every write has.
#[derive(Debug, clap::Args)]
pub(crate) struct WriteOptions {
    /// The context of an earlier answer: the write replaces exactly what that answer showed.
    #[arg(long)]
    context: Option<String>,
    /// Distinct nodes that must have the write on disk; the bucket's w if not given.
    #[arg(long)]
    w: Option<u8>,
    /// How many of those must be primaries.
    #[arg(long)]
    pw: Option<u8>,
    /// Whether fallbacks may stand in for primaries.
    #[arg(long)]
    sloppy: Option<bool>,
    /// The id of this operation, 32 hex digits; the same id twice is applied once.
    #[arg(long)]
    op_id: Option<OpId>,
    /// Refuse unless the live versions are exactly those of this context (advisory).
    #[arg(long, conflicts_with_all = ["context", "if_absent"])]
    if_match: Option<String>,
    /// Refuse if there is a live value (advisory).
    #[arg(long, conflicts_with = "context")]
    if_absent: bool,
}

/// Write a value.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    bucket: String,
    key: String,
    /// The value; `-` reads it from stdin.
    value: Option<String>,
    #[command(flatten)]
    encoding: Encoding,
    #[command(flatten)]
    options: WriteOptions,
    /// Time to live, for example 1h.
    #[arg(long, value_parser = duration)]
    ttl: Option<Duration>,
}

/// Read a key.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    bucket: String,
    key: String,
    #[command(flatten)]
    encoding: Encoding,
    /// Replicas that must answer; the bucket's r if not given.
    #[arg(long)]
    r: Option<u8>,
    /// How many of those must be primaries.
    #[arg(long)]
    pr: Option<u8>,
    /// Print the bytes of the value alone.
    #[arg(long)]
    value: bool,
}

/// Delete a key. Without --context or --blind it is read first, and what was read is deleted.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    bucket: String,
    key: String,
    #[command(flatten)]
    encoding: Encoding,
    #[command(flatten)]
    options: WriteOptions,
    /// Write a tombstone beside whatever is there.
    #[arg(long, conflicts_with_all = ["context", "if_match"])]
    blind: bool,
}

/// List the keys of a bucket.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    bucket: String,
    /// Only keys that begin with this.
    #[arg(long, default_value = "")]
    prefix: String,
    /// At most so many.
    #[arg(long)]
    limit: Option<u64>,
}

/// Show where a key lives and what each replica holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    bucket: String,
    key: String,
    #[command(flatten)]
    encoding: Encoding,
}

fn context(text: &str) -> Result<Context, Failure> {
    Context::from_text(text).map_err(|error| Failure::new(ErrorCode::BadContext, error.to_string()))
}

fn versions(versions: &[Version]) -> Vec<Value> {
    let version = |v: &Version| {
        let mut json = json!({
            "dot": v.dot, "written_at": rfc3339(v.written_at_ms), "op_id": hex(&v.op_id),
        });
        if let Some(value) = &v.value {
            bytes_field(&mut json, "value", value);
        }
        if v.tombstone {
            json["tombstone"] = json!(true);
        }
        json
    };
    versions.iter().map(version).collect()
}

fn about(bucket: &str, key: &[u8]) -> Value {
    let mut json = json!({ "bucket": bucket });
    bytes_field(&mut json, "key", key);
    json
}

macro_rules! apply_options {
    ($write:ident, $options:expr) => {{
        let options = $options;
        if let Some(text) = &options.context {
            $write = $write.context(&context(text)?);
        }
        if let Some(text) = &options.if_match {
            $write = $write.if_match(&context(text)?);
        }
        if options.if_absent {
            $write = $write.if_absent();
        }
        if let Some(w) = options.w {
            $write = $write.w(w);
        }
        if let Some(pw) = options.pw {
            $write = $write.pw(pw);
        }
        if let Some(sloppy) = options.sloppy {
            $write = $write.sloppy(sloppy);
        }
        if let Some(id) = options.op_id {
            $write = $write.op_id(id);
        }
    }};
}

fn written(bucket: &str, key: &[u8], written: &quorate_client::Written) -> Value {
    let mut json = about(bucket, key);
    json["context"] = json!(written.context.to_text());
    json["durable_on"] = json!(written.durable_on);
    json["stored_on"] = json!(written.stored_on);
    json["primaries"] = json!(written.primaries);
    json["hinted"] = json!(written.hinted);
    json["op_id"] = json!(written.op_id.to_string());
    json["siblings"] = json!(versions(&written.siblings));
    json
}

impl Put {
    pub(crate) async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let value = self.encoding.value(self.value.as_deref())?;
        let mut put = client.put(self.bucket.as_str(), &key, value);
        apply_options!(put, &self.options);
        if let Some(ttl) = self.ttl {
            put = put.ttl(ttl);
        }
        let reply = put
            .send()
            .await
            .map_err(|error| Failure::from(error.body().clone()))?;
        Ok(written(&self.bucket, &key, &reply))
    }

    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        print_written(&self.json(client).await?, format)
    }
}

impl Delete {
    pub(crate) async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let mut delete = client.delete(self.bucket.as_str(), &key);
        apply_options!(delete, &self.options);
        let told = self.options.context.is_some() || self.options.if_match.is_some();
        if !told && !self.blind {
            let read = client.get(self.bucket.as_str(), &key).send().await;
            let read = read.map_err(|error| Failure::from(error.body().clone()))?;
            if let Some(seen) = &read.context {
                delete = delete.context(seen);
            }
        }
        let reply = delete
            .send()
            .await
            .map_err(|error| Failure::from(error.body().clone()))?;
        Ok(written(&self.bucket, &key, &reply))
    }

    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        print_written(&self.json(client).await?, format)
    }
}

fn print_written(json: &Value, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return line(&json.to_string());
    }
    let names = |field: &str| {
        let names = json[field].as_array().into_iter().flatten();
        names
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let count = json["siblings"].as_array().map_or(0, Vec::len);
    line(&format!("ok  durable on {}", names("durable_on")))?;
    if 1 < count {
        line(&format!(
            "    {count} siblings now: read the key, merge, write with its context"
        ))?;
    }
    line(&format!(
        "context {}",
        json["context"].as_str().unwrap_or_default()
    ))
}

impl Get {
    /// The answer; a key that is not there is an answer too, with exit code 3.
    pub(crate) async fn json(&self, client: &Client) -> Result<(Value, u8), Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let got = self.read(client, &key).await?;
        let mut json = about(&self.bucket, &key);
        json["found"] = json!(!got.siblings.is_empty());
        json["siblings"] = json!(versions(&got.siblings));
        json["replicas"] = json!({ "asked": got.asked, "answered": got.answered });
        if let Some(context) = &got.context {
            json["context"] = json!(context.to_text());
        }
        Ok((json, if got.siblings.is_empty() { 3 } else { 0 }))
    }

    async fn read(&self, client: &Client, key: &[u8]) -> Result<quorate_client::Got, Failure> {
        let mut get = client.get(self.bucket.as_str(), key);
        if let Some(r) = self.r {
            get = get.r(r);
        }
        if let Some(pr) = self.pr {
            get = get.pr(pr);
        }
        get.send()
            .await
            .map_err(|error| Failure::from(error.body().clone()))
    }

    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<u8, Failure> {
        if self.value {
            let key = self.encoding.bytes(&self.key)?;
            let got = self.read(client, &key).await?;
            return match got.siblings.as_slice() {
                [] => Err(Failure::new(ErrorCode::NotFound, "no such key")),
                [one] => raw(one.value.as_deref().unwrap_or_default()).map(|()| 0),
                many => {
                    let message = format!("{} siblings: --value needs exactly one", many.len());
                    Err(Failure::new(ErrorCode::Conflict, message))
                }
            };
        }
        let (json, exit) = self.json(client).await?;
        if format == Format::Json {
            line(&json.to_string())?;
            return Ok(exit);
        }
        let siblings = json["siblings"].as_array().map_or(&[][..], Vec::as_slice);
        if siblings.is_empty() {
            line("not found")?;
        } else if 1 < siblings.len() {
            line(&format!(
                "{} siblings, written concurrently",
                siblings.len()
            ))?;
        }
        for sibling in siblings {
            let text = sibling["value"].as_str().map(|text| show(text.as_bytes()));
            let text = text.unwrap_or_else(|| format!("base64:{}", sibling["value_base64"]));
            line(&format!(
                "  {text}    {}",
                sibling["written_at"].as_str().unwrap_or_default()
            ))?;
        }
        if let Some(context) = json["context"].as_str() {
            line(&format!("context {context}"))?;
        }
        Ok(exit)
    }
}

impl Keys {
    pub(crate) async fn each(
        &self,
        client: &Client,
        mut take: impl FnMut(Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut keys = client.keys(self.bucket.as_str()).prefix(&self.prefix);
        if let Some(limit) = self.limit {
            keys = keys.limit(limit);
        }
        while let Some(key) = keys.next().await {
            take(
                key.map_err(|error| Failure::from(error.body().clone()))?
                    .to_vec(),
            )?;
        }
        Ok(())
    }

    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        self.each(client, |key| match format {
            Format::Json => {
                let mut json = json!({});
                bytes_field(&mut json, "key", &key);
                line(&json.to_string())
            }
            Format::Table => line(&show(&key)),
        })
        .await
    }
}

impl Explain {
    pub(crate) async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let reply = client.explain(self.bucket.as_str(), &key).send().await;
        let reply = reply.map_err(|error| Failure::from(error.body().clone()))?;
        let mut json = about(&self.bucket, &key);
        json["token"] = json!(format!("0x{:016x}", reply.token));
        json["partition"] = json!(reply.partition);
        json["replicas"] = replicas(&reply);
        json["fallbacks"] = json!(reply.fallbacks);
        Ok(json)
    }

    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        let json = self.json(client).await?;
        if format == Format::Json {
            return line(&json.to_string());
        }
        let (key, token) = (show(self.key.as_bytes()), &json["token"]);
        let token = token.as_str().unwrap_or_default();
        line(&format!(
            "key {key}   token {token}   partition {}",
            json["partition"]
        ))?;
        for (at, replica) in json["replicas"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let text = |field: &str| replica[field].as_str().unwrap_or_default().to_owned();
            let count = replica["versions"].as_array().map_or(0, Vec::len);
            line(&format!(
                "  {} {}  {}  {}  {count} versions  clock {}",
                at + 1,
                text("node"),
                text("role"),
                text("state"),
                replica["clock"]
            ))?;
        }
        Ok(())
    }
}

fn replicas(reply: &ExplainReply) -> Value {
    let replica = |report: &quorate_client::wire::ReplicaReport| {
        let clock: serde_json::Map<String, Value> = report
            .clock
            .iter()
            .map(|(actor, n)| (actor.clone(), json!(n)))
            .collect();
        json!({
            "node": report.node, "role": report.role, "state": report.state,
            "versions": versions(&report.versions), "clock": clock,
        })
    };
    reply.replicas.iter().map(replica).collect()
}
