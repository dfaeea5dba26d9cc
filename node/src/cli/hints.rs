//! `hints`: who keeps writes for whom.

use quorate_client::{
    Client,
    wire::{HealingReply, HintStatus},
};
use serde_json::{Value, json};

use super::{
    output::{Failure, Out, size},
    watch::{self, Look},
};

/// Show which node keeps writes for which, and how fast they are handed over.
#[derive(Debug, clap::Args)]
pub(crate) struct Hints {
    /// Look again and again.
    #[arg(long)]
    watch: bool,
}

impl Hints {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let look = async || {
            let reply = client.healing("hints", "").await;
            let reply = reply.map_err(|error| Failure::from(error.body().clone()))?;
            Ok(Look {
                json: hints_json(&reply),
                lines: lines(&reply),
            })
        };
        if self.watch {
            return watch::watch(out, look).await;
        }
        let Look { json, lines } = look().await?;
        out.answer(json, |_| lines)
    }
}

/// Seconds until all are handed over at the present rate.
fn seconds_left(kept: &HintStatus) -> Option<u64> {
    (kept.count * 60).checked_div(kept.per_minute)
}

fn hints_json(reply: &HealingReply) -> Value {
    let row = |kept: &HintStatus| {
        json!({
            "holder": kept.holder, "owner": kept.owner, "count": kept.count,
            "bytes": kept.bytes, "oldest_seconds": kept.oldest_ms / 1_000,
            "per_minute": kept.per_minute, "seconds_left": seconds_left(kept),
            "trouble": kept.trouble,
        })
    };
    let rows: Vec<Value> = reply.kept.iter().map(row).collect();
    json!({ "total": reply.hints, "hints": rows, "reasons": reply.reasons })
}

fn lines(reply: &HealingReply) -> Vec<String> {
    let mut lines = Vec::new();
    if reply.kept.is_empty() {
        lines.push("no hints: no node is owed a write".to_owned());
    } else {
        lines.push(format!(
            "{:<10} {:<10} {:>9} {:>10} {:>9} {:>9} {:>9}",
            "HOLDER", "OWNER", "COUNT", "BYTES", "OLDEST", "PER MIN", "LEFT"
        ));
    }
    for kept in &reply.kept {
        let left = seconds_left(kept).map_or_else(|| "-".to_owned(), |left| format!("{left} s"));
        let line = format!(
            "{:<10} {:<10} {:>9} {:>10} {:>9} {:>9} {left:>9}  {}",
            kept.holder,
            kept.owner,
            kept.count,
            size(kept.bytes),
            format!("{} s", kept.oldest_ms / 1_000),
            kept.per_minute,
            kept.trouble,
        );
        lines.push(line.trim_end().to_owned());
    }
    lines.extend(reply.reasons.iter().map(|reason| format!("! {reason}")));
    lines
}
