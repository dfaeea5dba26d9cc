//! `put`, `get`, `delete`, `keys` and `explain`.
//!
//! Each makes the JSON answer, and the table from that, so the two cannot disagree.

use std::time::Duration;

use quorate_client::{
    Client, Context, OpId, WriteError,
    wire::{ErrorCode, ExplainReply, Version},
};
use serde_json::{Value, json};

use super::{
    input::{Encoding, duration},
    output::{Failure, Out, bytes_field, hex, rfc3339, show},
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
    /// Its bucket; `default` is there from the start.
    bucket: String,
    /// The key, 1 to 4,096 bytes.
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
    /// Its bucket.
    bucket: String,
    /// The key.
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
    /// Its bucket.
    bucket: String,
    /// The key.
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
    /// The bucket.
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
    /// Its bucket.
    bucket: String,
    /// The key.
    key: String,
    #[command(flatten)]
    encoding: Encoding,
}

fn context(text: &str) -> Result<Context, Failure> {
    Context::from_text(text).map_err(|error| Failure::new(ErrorCode::BadContext, error.to_string()))
}

/// Versions as JSON.
pub(crate) fn versions(versions: &[Version]) -> Vec<Value> {
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

/// Which key an answer is about.
pub(crate) fn about(bucket: &str, key: &[u8]) -> Value {
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
    }};
}

/// A write that did not succeed; one that may have been applied is named, to be repeated as itself.
fn unwritten(error: &WriteError, id: OpId) -> Failure {
    let mut failure = Failure::from(error.body().clone());
    if failure.code == ErrorCode::UnknownOutcome {
        failure.details["op_id"] = json!(id.to_string());
        let message = &mut failure.message;
        *message = format!(
            "{message}. Read the key, or repeat this with --op-id {id}, which applies it once"
        );
    }
    failure
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
    /// True if the value is read from stdin.
    pub(crate) fn reads_stdin(&self) -> bool {
        let file = self.encoding.file.as_ref();
        self.value.as_deref() == Some("-") || file.is_some_and(|path| path.as_os_str() == "-")
    }

    async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let value = self.encoding.value(self.value.as_deref())?;
        let mut put = client.put(self.bucket.as_str(), &key, value);
        let id = self.options.op_id.unwrap_or_else(|| client.op_id());
        put = match self.options.op_id {
            Some(id) => put.op_id(id),
            None => put.new_op_id(id),
        };
        apply_options!(put, &self.options);
        if let Some(ttl) = self.ttl {
            put = put.ttl(ttl);
        }
        let reply = put.send().await.map_err(|error| unwritten(&error, id))?;
        Ok(written(&self.bucket, &key, &reply))
    }

    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        out.answer(self.json(client).await?, written_lines)
    }
}

impl Delete {
    async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let mut delete = client.delete(self.bucket.as_str(), &key);
        let id = self.options.op_id.unwrap_or_else(|| client.op_id());
        delete = match self.options.op_id {
            Some(id) => delete.op_id(id),
            None => delete.new_op_id(id),
        };
        apply_options!(delete, &self.options);
        let told = self.options.context.is_some() || self.options.if_match.is_some();
        if !told && !self.blind {
            let read = client.get(self.bucket.as_str(), &key).send().await;
            let read = read.map_err(|error| Failure::from(error.body().clone()))?;
            if let Some(seen) = &read.context {
                delete = delete.context(seen);
            }
        }
        let reply = delete.send().await.map_err(|error| unwritten(&error, id))?;
        Ok(written(&self.bucket, &key, &reply))
    }

    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        out.answer(self.json(client).await?, written_lines)
    }
}

fn names(json: &Value) -> String {
    let names = json.as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    names.join(", ")
}

fn written_lines(json: &Value) -> Vec<String> {
    let mut lines = vec![format!("ok  durable on {}", names(&json["durable_on"]))];
    let siblings = json["siblings"].as_array().into_iter().flatten();
    let count = siblings.filter(|v| v["tombstone"] != true).count();
    if 1 < count {
        lines.push(format!(
            "    {count} siblings now: read the key, merge, write with its context"
        ));
    }
    lines.push(format!(
        "context {}",
        json["context"].as_str().unwrap_or_default()
    ));
    lines
}

impl Get {
    /// A key that is not there is an answer too, with exit code 3.
    async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let got = self.read(client, &key).await?;
        let mut json = about(&self.bucket, &key);
        json["found"] = json!(!got.siblings.is_empty());
        json["siblings"] = json!(versions(&got.siblings));
        json["replicas"] = json!({ "asked": got.asked, "answered": got.answered });
        if let Some(context) = &got.context {
            json["context"] = json!(context.to_text());
        }
        Ok(json)
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

    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<u8, Failure> {
        if self.value {
            let key = self.encoding.bytes(&self.key)?;
            let got = self.read(client, &key).await?;
            let key = show(&key);
            return match got.siblings.as_slice() {
                [] => {
                    let message = format!("there is no key {key} in bucket {:?}", self.bucket);
                    Err(Failure::new(ErrorCode::NotFound, message))
                }
                [one] => {
                    let value = one.value.as_deref().unwrap_or_default();
                    out.bytes(value).map(|()| 0)
                }
                many => {
                    let message = format!(
                        "key {key} has {} siblings and --value prints one: read it without \
                         --value, merge, and write with the context you get",
                        many.len()
                    );
                    Err(Failure::new(ErrorCode::Conflict, message))
                }
            };
        }
        let json = self.json(client).await?;
        let exit = if json["found"] == true { 0 } else { 3 };
        out.answer(json, got_lines)?;
        Ok(exit)
    }
}

fn got_lines(json: &Value) -> Vec<String> {
    let siblings = json["siblings"].as_array().map_or(&[][..], Vec::as_slice);
    let replicas = &json["replicas"];
    let answered = format!(
        "{} of {} replicas answered",
        replicas["answered"], replicas["asked"]
    );
    let mut lines = vec![match siblings.len() {
        0 => format!("not found    {answered}"),
        1 => format!("1 value    {answered}"),
        many => format!("{many} siblings, written concurrently    {answered}"),
    }];
    for (at, sibling) in siblings.iter().enumerate() {
        let text = sibling["value"].as_str().map(|text| show(text.as_bytes()));
        let base64 = sibling["value_base64"].as_str().unwrap_or_default();
        let text = text.unwrap_or_else(|| format!("base64:{base64}"));
        let when = sibling["written_at"].as_str().unwrap_or_default();
        lines.push(format!("  {}  {text}    {when}", at + 1));
    }
    let Some(context) = json["context"].as_str() else {
        return lines;
    };
    lines.push(format!("context {context}"));
    if 1 < siblings.len() {
        let key = json["key"].as_str().map(|key| quoted(key).into_owned());
        let bytes = json["key_base64"].as_str().unwrap_or_default();
        let key = key.unwrap_or_else(|| format!("--base64 {bytes}"));
        let bucket = json["bucket"].as_str().unwrap_or_default();
        let merged = "'<merged value>'";
        lines.push(format!(
            "to resolve:  quorate put {} {key} --context {context} {merged}",
            quoted(bucket)
        ));
    }
    lines
}

/// As a word for a shell.
fn quoted(text: &str) -> std::borrow::Cow<'_, str> {
    // Only a NUL cannot be quoted, and no shell could pass it on either.
    shlex::try_quote(text).unwrap_or(std::borrow::Cow::Borrowed(text))
}

impl Keys {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let mut keys = client.keys(self.bucket.as_str()).prefix(&self.prefix);
        if let Some(limit) = self.limit {
            keys = keys.limit(limit);
        }
        out.begin_items();
        while let Some(key) = keys.next().await {
            let key = key.map_err(|error| Failure::from(error.body().clone()))?;
            let json = || {
                let mut json = json!({});
                bytes_field(&mut json, "key", &key);
                json
            };
            out.item(json, || show(&key))?;
        }
        out.flush()
    }
}

impl Explain {
    async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let key = self.encoding.bytes(&self.key)?;
        let reply = client.explain(self.bucket.as_str(), &key).send().await;
        let reply = reply.map_err(|error| Failure::from(error.body().clone()))?;
        Ok(explained(&self.bucket, &key, &reply))
    }

    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let key = show(&self.encoding.bytes(&self.key)?);
        out.answer(self.json(client).await?, |json| explained_lines(&key, json))
    }
}

/// Where a key lives and what each replica holds, as JSON.
pub(crate) fn explained(bucket: &str, key: &[u8], reply: &ExplainReply) -> Value {
    let mut json = about(bucket, key);
    json["token"] = json!(format!("0x{:016x}", reply.token));
    json["partition"] = json!(reply.partition);
    json["replicas"] = replicas(reply);
    json["fallbacks"] = json!(reply.fallbacks);
    json["hints"] = hints(reply);
    json
}

fn explained_lines(key: &str, json: &Value) -> Vec<String> {
    let token = json["token"].as_str().unwrap_or_default();
    let partition = &json["partition"];
    let mut lines = vec![format!("key {key}   token {token}   partition {partition}")];
    let replicas = json["replicas"].as_array().into_iter().flatten();
    for (at, replica) in replicas.enumerate() {
        let text = |field: &str| replica[field].as_str().unwrap_or_default().to_owned();
        let count = replica["versions"].as_array().map_or(0, Vec::len);
        let versions = match count {
            0 => String::new(),
            1 => "1 version".to_owned(),
            many => format!("{many} versions"),
        };
        let line = format!(
            "  {} {:<8} {:<8} {:<8} {versions:<12} {}",
            at + 1,
            text("node"),
            text("role"),
            text("state"),
            clock_text(&replica["clock"])
        );
        lines.push(line.trim_end().to_owned());
    }
    for hint in json["hints"].as_array().into_iter().flatten() {
        let text = |field: &str| hint[field].as_str().unwrap_or_default().to_owned();
        let clock = clock_text(&hint["clock"]);
        let line = format!("  hint on {} for {} {clock}", text("holder"), text("owner"));
        lines.push(line);
    }
    let fallbacks = names(&json["fallbacks"]);
    if !fallbacks.is_empty() {
        lines.push(format!("  fallbacks {fallbacks}"));
    }
    lines
}

/// A clock for people: the beginning of each actor's id tells actors apart well enough.
fn clock_text(clock: &Value) -> String {
    let entries = clock.as_object().into_iter().flatten();
    let entries = entries.map(|(actor, count)| match actor.split_once(':') {
        Some((id, epoch)) => format!("{}:{epoch}:{count}", id.get(..8).unwrap_or(id)),
        None => format!("{actor}:{count}"),
    });
    let entries: Vec<String> = entries.collect();
    match entries.as_slice() {
        [] => String::new(),
        some => format!("clock {}", some.join(" ")),
    }
}

fn clock_json(clock: &[(String, u64)]) -> serde_json::Map<String, Value> {
    let entries = clock.iter().map(|(actor, n)| (actor.clone(), json!(n)));
    entries.collect()
}

fn hints(reply: &ExplainReply) -> Value {
    let hint = |report: &quorate_client::wire::HintReport| {
        json!({
            "holder": report.holder, "owner": report.owner,
            "versions": versions(&report.versions), "clock": clock_json(&report.clock),
        })
    };
    reply.hints.iter().map(hint).collect()
}

fn replicas(reply: &ExplainReply) -> Value {
    let replica = |report: &quorate_client::wire::ReplicaReport| {
        let clock = clock_json(&report.clock);
        json!({
            "node": report.node, "role": report.role, "state": report.state,
            "versions": versions(&report.versions), "clock": clock,
        })
    };
    reply.replicas.iter().map(replica).collect()
}
