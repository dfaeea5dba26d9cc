//! `repair` and `cluster wait-converged`.

use std::time::{Duration, Instant};

use quorate_client::{
    Client,
    wire::{ErrorCode, HealingReply, PairStatus},
};
use serde_json::{Value, json};

use super::output::{Failure, Out, note};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const WAIT_CONVERGED: Duration = Duration::from_mins(1);
const WAIT_REPAIR: Duration = Duration::from_mins(10);

/// Compare all replicas now, and bring together what differs.
#[derive(Debug, clap::Args)]
pub(crate) struct Repair {
    /// Only replicas that hold keys of this bucket.
    bucket: Option<String>,
    /// Return when every pair has been compared and agrees.
    #[arg(long)]
    wait: bool,
}

async fn ask(client: &Client, verb: &str, bucket: Option<&str>) -> Result<HealingReply, Failure> {
    let reply = client.healing(verb, bucket.unwrap_or_default()).await;
    reply.map_err(|error| Failure::from(error.body().clone()))
}

fn pair_json(pair: &PairStatus) -> Value {
    json!({
        "node": pair.node, "peer": pair.peer, "n": pair.n, "equal": pair.equal,
        "done": pair.done, "agreed_ms_ago": pair.agreed_ms_ago,
        "behind_keys": pair.behind_keys, "moved_keys": pair.moved_keys,
        "moved_bytes": pair.moved_bytes, "trouble": pair.trouble,
    })
}

pub(crate) fn reply_json(reply: &HealingReply) -> Value {
    let pairs: Vec<Value> = reply.pairs.iter().map(pair_json).collect();
    json!({
        "converged": reply.converged, "reasons": reply.reasons, "hints": reply.hints,
        "pairs": pairs,
    })
}

fn lines(reply: &HealingReply) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<10} {:<10} {:>2}  {:<6} {:>12} {:>8} {:>10} {:>12}",
        "NODE", "PEER", "N", "TREES", "AGREED", "BEHIND", "MOVED", "BYTES"
    )];
    for pair in &reply.pairs {
        let agreed = pair.agreed_ms_ago.map_or_else(
            || "never".to_owned(),
            |ms| format!("{}.{} s ago", ms / 1_000, ms % 1_000 / 100),
        );
        lines.push(format!(
            "{:<10} {:<10} {:>2}  {:<6} {:>12} {:>8} {:>10} {:>12}  {}",
            pair.node,
            pair.peer,
            pair.n,
            if pair.equal { "equal" } else { "differ" },
            agreed,
            pair.behind_keys,
            pair.moved_keys,
            pair.moved_bytes,
            pair.trouble,
        ));
    }
    lines
}

/// What has not been compared yet.
fn missing(reply: &HealingReply) -> Vec<String> {
    let silent = reply.reasons.iter().filter(|r| r.contains("answer"));
    let undone = reply.pairs.iter().filter(|pair| !pair.done).map(|pair| {
        let PairStatus {
            node,
            peer,
            trouble,
            ..
        } = pair;
        format!("{node} and {peer} {trouble}").trim_end().to_owned()
    });
    silent.cloned().chain(undone).collect()
}

fn late(what: &str, reasons: &[String], reply: &HealingReply) -> Failure {
    let message = format!("{what}: {}", reasons.join("; "));
    let mut failure = Failure::new(ErrorCode::UnknownOutcome, message);
    failure.details = reply_json(reply);
    failure
}

impl Repair {
    pub(crate) async fn run(
        &self,
        client: &Client,
        timeout: Option<Duration>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let until = Instant::now() + timeout.unwrap_or(WAIT_REPAIR);
        let bucket = self.bucket.as_deref();
        let mut reply = ask(client, "compare", bucket).await?;
        if !self.wait {
            return out.answer(reply_json(&reply), |_| {
                vec![format!("comparing {} pairs of replicas", reply.pairs.len())]
            });
        }
        loop {
            let missing = missing(&reply);
            if missing.is_empty() {
                return out.answer(reply_json(&reply), |_| lines(&reply));
            }
            if until <= Instant::now() {
                return Err(late("not all pairs have been compared", &missing, &reply));
            }
            tokio::time::sleep(LOOK_EVERY).await;
            reply = ask(client, "roots", bucket).await?;
        }
    }
}

/// `cluster wait-converged`.
pub(crate) async fn wait_converged(
    client: &Client,
    timeout: Option<Duration>,
    out: &mut Out,
) -> Result<(), Failure> {
    let until = Instant::now() + timeout.unwrap_or(WAIT_CONVERGED);
    let mut told = String::new();
    loop {
        let reply = ask(client, "roots", None).await;
        let now = Instant::now();
        match reply {
            Ok(reply) if reply.converged => {
                return out.answer(reply_json(&reply), |_| vec!["converged".to_owned()]);
            }
            Ok(reply) if until <= now => {
                return Err(late("not converged", &reply.reasons, &reply));
            }
            Ok(reply) => {
                let first = reply.reasons.first().cloned().unwrap_or_default();
                if first != told {
                    note(&format!("waiting: {first}"));
                    told = first;
                }
            }
            Err(failure) if until <= now => {
                let message = format!("not converged: {failure}");
                return Err(Failure::new(ErrorCode::UnknownOutcome, message));
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
