//! `salvage`: what a node has set aside, and what becomes of it.
//!
//! A record is set aside with the node that held it, since what it says may have been deleted and
//! forgotten by everybody else. A person decides: what nobody has any more is written back like any
//! other value, without a context, so that it stands beside whatever is there; or it is dropped. A
//! record is dropped only when all of it that was wanted has been acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_client::{
    Client, OpId,
    wire::{AsidePage, AsideRow, ErrorBody, ErrorCode, HealingRequest, Version},
};
use serde_json::{Value, json};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    data::{about, versions},
    input::Encoding,
    output::{Failure, Out, rfc3339, show, size},
};

/// Show what a node has set aside, write it back, or drop it. It is set aside because the node was
/// out of the ring, or its data directory restored, copied or cut short, and what it held may have
/// been deleted since.
#[derive(Debug, clap::Args)]
pub(crate) struct Salvage {
    /// Name of the node.
    node: String,
    /// Only what was set aside of a key of this bucket.
    #[arg(requires = "key")]
    bucket: Option<String>,
    /// The key.
    key: Option<String>,
    #[command(flatten)]
    encoding: Encoding,
    /// Write back, beside what is there, the values that no replica has. With --all, those that
    /// were replaced or deleted since stay set aside.
    #[arg(long, conflicts_with = "discard")]
    restore: bool,
    /// Drop it for good.
    #[arg(long)]
    discard: bool,
    /// Of everything that is set aside.
    #[arg(long, conflicts_with = "bucket")]
    all: bool,
    /// Most records that are shown.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
}

/// What has become of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A replica has it.
    Held,
    /// A replica knows that it was replaced or deleted.
    Replaced,
    /// Nobody knows anything of it.
    Missing,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Replaced => "replaced",
            Self::Missing => "missing",
        }
    }
}

/// What there is.
#[derive(Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
    why: BTreeMap<String, u64>,
    oldest_ms: Option<u64>,
}

impl Sum {
    fn add(&mut self, row: &AsideRow) {
        self.records += 1;
        self.bytes += row.bytes;
        *self.why.entry(row.why.clone()).or_default() += 1;
        let oldest = self.oldest_ms.unwrap_or(row.since_ms);
        self.oldest_ms = Some(oldest.min(row.since_ms));
    }

    fn line(&self, node: &str) -> String {
        let Some(oldest) = self.oldest_ms else {
            return format!("{node} has set nothing aside");
        };
        let why = self.why.iter().map(|(why, count)| format!("{count} {why}"));
        format!(
            "{node} has set aside {} records, {}, the first at {}: {}",
            self.records,
            size(self.bytes),
            rfc3339(oldest),
            why.collect::<Vec<_>>().join(", ")
        )
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    restored: u64,
    held: u64,
    replaced: u64,
    discarded: u64,
    refused: Vec<Value>,
}

impl Salvage {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<u8, Failure> {
        let key = match &self.key {
            Some(key) => Some(Bytes::from(self.encoding.bytes(key)?)),
            None => None,
        };
        if (self.restore || self.discard) && key.is_none() && !self.all {
            let what = if self.restore {
                "--restore"
            } else {
                "--discard"
            };
            let message = format!("{what} needs a BUCKET and a KEY, or --all");
            return Err(Failure::usage(message));
        }
        if self.all && !self.restore && !self.discard {
            return Err(Failure::usage("--all needs --restore or --discard"));
        }
        if self.restore || self.discard {
            self.act(client, key.as_ref(), out).await
        } else {
            self.show(client, key.as_ref(), out).await.map(|()| 0)
        }
    }

    async fn page(&self, client: &Client, after: Bytes) -> Result<AsidePage, Failure> {
        let request = HealingRequest {
            verb: "salvage".to_owned(),
            node: self.node.clone(),
            after,
            ..HealingRequest::default()
        };
        let reply = client.care(request).await;
        let reply = reply.map_err(|error| Failure::from(error.body().clone()))?;
        Ok(reply.aside.map_or_else(AsidePage::default, |page| *page))
    }

    async fn drop_them(&self, client: &Client, ids: Vec<Bytes>) -> Result<u64, Failure> {
        if ids.is_empty() {
            return Ok(0);
        }
        let request = HealingRequest {
            verb: "salvage-discard".to_owned(),
            node: self.node.clone(),
            ids,
            ..HealingRequest::default()
        };
        let reply = client.care(request).await;
        let reply = reply.map_err(|error| Failure::from(error.body().clone()))?;
        Ok(reply.aside.map_or(0, |page| page.discarded))
    }

    fn is_meant(&self, row: &AsideRow, key: Option<&Bytes>) -> bool {
        let bucket = self.bucket.as_ref().is_none_or(|name| *name == row.bucket);
        bucket && key.is_none_or(|key| *key == row.key)
    }

    async fn show(
        &self,
        client: &Client,
        key: Option<&Bytes>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let (mut sum, mut listed, mut lines) = (Sum::default(), Vec::new(), Vec::new());
        let mut after = Bytes::new();
        loop {
            let page = self.page(client, after).await?;
            for row in page.rows.iter().filter(|row| self.is_meant(row, key)) {
                sum.add(row);
                if listed.len() < self.limit {
                    let states = states(client, row).await?;
                    lines.extend(row_lines(row, &states));
                    listed.push(row_json(row, &states));
                }
            }
            let Some(next) = page.next else { break };
            after = next;
        }
        let json = json!({
            "node": self.node, "records": sum.records, "bytes": sum.bytes, "why": sum.why,
            "since": sum.oldest_ms.map(rfc3339), "listed": listed,
        });
        let more = sum.records - listed.len() as u64;
        out.answer(json, |_| {
            let mut all = vec![sum.line(&self.node)];
            all.extend(lines);
            if 0 < more {
                all.push(format!("… {more} more; --limit shows more of them"));
            }
            all
        })
    }

    async fn act(
        &self,
        client: &Client,
        key: Option<&Bytes>,
        out: &mut Out,
    ) -> Result<u8, Failure> {
        let mut done = Done::default();
        let mut after = Bytes::new();
        loop {
            let page = self.page(client, after).await?;
            let mut over = Vec::new();
            for row in page.rows.iter().filter(|row| self.is_meant(row, key)) {
                if self.discard || self.write_back(client, row, &mut done).await? {
                    over.push(row.id.clone());
                }
            }
            done.discarded += self.drop_them(client, over).await?;
            let Some(next) = page.next else { break };
            after = next;
        }
        let exit = done.exit();
        out.answer(done.json(&self.node), |_| done.lines(&self.node))?;
        Ok(exit)
    }

    /// Writes back what is wanted of a record; true if it may be dropped.
    async fn write_back(
        &self,
        client: &Client,
        row: &AsideRow,
        done: &mut Done,
    ) -> Result<bool, Failure> {
        if row.damaged || row.bucket.is_empty() {
            let why = if row.damaged {
                "the record cannot be read"
            } else {
                "its bucket was dropped"
            };
            done.refuse(row, &ErrorBody::new(ErrorCode::NotFound, why));
            return Ok(false);
        }
        let states = states(client, row).await?;
        let mut over = true;
        for ((version, state), ttl) in row.versions.iter().zip(states).zip(&row.ttls_ms) {
            let Some(value) = &version.value else {
                continue;
            };
            match state {
                State::Held => done.held += 1,
                State::Replaced if self.all => {
                    done.replaced += 1;
                    over = false;
                }
                State::Replaced | State::Missing => {
                    let written = put(client, row, version, (value, *ttl)).await;
                    match written {
                        Ok(()) => done.restored += 1,
                        Err(error) => {
                            done.refuse(row, &error);
                            over = false;
                        }
                    }
                }
            }
        }
        Ok(over)
    }
}

/// A fresh write, whose id is the same each time it is tried.
async fn put(
    client: &Client,
    row: &AsideRow,
    version: &Version,
    (value, ttl_ms): (&Bytes, Option<u64>),
) -> Result<(), ErrorBody> {
    let name = [&row.id[..], version.dot.as_bytes()].concat();
    let op_id = OpId::from_bytes(xxh3_128(&name).to_be_bytes());
    let put = client.put(row.bucket.clone(), &row.key, value.clone());
    let mut put = put.op_id(op_id);
    if let Some(ttl) = ttl_ms {
        put = put.ttl(Duration::from_millis(ttl.max(1)));
    }
    let bucket = client.bucket(&row.bucket).await;
    // Where the last write wins, an old value must not win over one that is there.
    if bucket.map_err(|error| error.body().clone())?.mode == "lww" {
        put = put.if_absent();
    }
    let written = put.send().await;
    written.map(|_| ()).map_err(|error| error.body().clone())
}

/// What has become of each version of a record.
async fn states(client: &Client, row: &AsideRow) -> Result<Vec<State>, Failure> {
    if row.bucket.is_empty() || row.versions.is_empty() {
        return Ok(vec![State::Missing; row.versions.len()]);
    }
    let explained = client.explain(row.bucket.clone(), &row.key).send().await;
    let explained = explained.map_err(|error| Failure::from(error.body().clone()))?;
    let (mut held, mut clock) = (BTreeSet::new(), BTreeMap::new());
    for replica in &explained.replicas {
        held.extend(replica.versions.iter().map(|version| version.dot.as_str()));
        for (actor, n) in &replica.clock {
            let known: &mut u64 = clock.entry(actor.as_str()).or_default();
            *known = (*known).max(*n);
        }
    }
    let state = |version: &Version| {
        if held.contains(version.dot.as_str()) {
            return State::Held;
        }
        let named = version.dot.rsplit_once(':');
        let covered = named.is_some_and(|(actor, n)| {
            let known = clock.get(actor).copied();
            n.parse()
                .is_ok_and(|n: u64| known.is_some_and(|known| n <= known))
        });
        if covered {
            State::Replaced
        } else {
            State::Missing
        }
    };
    Ok(row.versions.iter().map(state).collect())
}

fn row_json(row: &AsideRow, states: &[State]) -> Value {
    let mut json = about(&row.bucket, &row.key);
    json["since"] = json!(rfc3339(row.since_ms));
    json["why"] = json!(row.why);
    json["bytes"] = json!(row.bytes);
    json["damaged"] = json!(row.damaged);
    if !row.hint_for.is_empty() {
        json["hint_for"] = json!(row.hint_for);
    }
    let mut all = versions(&row.versions);
    for (version, state) in all.iter_mut().zip(states) {
        version["state"] = json!(state.as_str());
    }
    json["versions"] = Value::Array(all);
    json
}

fn row_lines(row: &AsideRow, states: &[State]) -> Vec<String> {
    let bucket = match row.bucket.as_str() {
        "" => "(dropped)",
        name => name,
    };
    let mut head = format!("{bucket} {}   {}", show(&row.key), row.why);
    if !row.hint_for.is_empty() {
        head.extend([", kept for ", &row.hint_for]);
    }
    if row.damaged {
        head.push_str("   cannot be read");
    }
    let mut lines = vec![head];
    for (version, state) in row.versions.iter().zip(states) {
        let value = match &version.value {
            Some(value) => show(value),
            None if version.tombstone => "(deleted)".to_owned(),
            None => "(its time is over)".to_owned(),
        };
        let written = rfc3339(version.written_at_ms);
        lines.push(format!("  {:<8}  {value}    {written}", state.as_str()));
    }
    lines
}

impl Done {
    fn refuse(&mut self, row: &AsideRow, error: &ErrorBody) {
        let mut json = about(&row.bucket, &row.key);
        json["code"] = json!(error.code.as_str());
        json["message"] = json!(error.message);
        self.refused.push(json);
    }

    /// 1 if something that was wanted could not be written back.
    const fn exit(&self) -> u8 {
        !self.refused.is_empty() as u8
    }

    fn json(&self, node: &str) -> Value {
        json!({
            "node": node, "restored": self.restored, "held": self.held,
            "replaced": self.replaced, "discarded": self.discarded, "refused": self.refused,
        })
    }

    fn lines(&self, node: &str) -> Vec<String> {
        let mut lines = vec![format!(
            "{} values written back, {} were there, {} records dropped by {node}",
            self.restored, self.held, self.discarded
        )];
        if 0 < self.replaced {
            lines.push(format!(
                "{} values were replaced or deleted since: they stay set aside; name their keys to \
                 write them back",
                self.replaced
            ));
        }
        for refused in &self.refused {
            lines.push(format!("not written back: {refused}"));
        }
        lines
    }
}
