//! `verify`, `scrub` and `drain`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_client::{
    Client,
    wire::{
        Difference, ErrorCode, HealingReply, HealingRequest, RingRequest, ScrubStatus, Verified,
    },
};
use serde_json::{Value, json};

use super::output::{Failure, Format, Out, ago, bytes_field, note, show, size};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const WAIT_SCRUB: Duration = Duration::from_hours(24);
/// How often `verify` tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Most differences that are listed; all are counted.
const LISTED_MAX: usize = 10_000;

async fn ask(client: &Client, verb: &str, after: Bytes) -> Result<HealingReply, Failure> {
    let request = HealingRequest {
        verb: verb.to_owned(),
        after,
        ..HealingRequest::default()
    };
    let reply = client.care(request).await;
    reply.map_err(|error| Failure::from(error.body().clone()))
}

/// Read every record of every node once more, and say what is wrong; exit code 1 if anything is.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {}

/// What all pages together have shown.
#[derive(Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
    changing: u64,
    differences: u64,
    silent: BTreeSet<String>,
    unlisted: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, page: &Verified) {
        self.records += page.records;
        self.bytes += page.bytes;
        self.changing += page.changing;
        self.differences += page.differences.len() as u64;
        self.silent.extend(page.silent.iter().cloned());
        self.unlisted.extend(page.unlisted.iter().cloned());
    }

    fn is_good(&self) -> bool {
        self.differences == 0 && self.silent.is_empty() && self.unlisted.is_empty()
    }

    fn lines(&self, seconds: u64) -> Vec<String> {
        let (records, size) = (self.records, size(self.bytes));
        let took = ago(seconds);
        let mut lines = vec![format!(
            "{records} records read, {size}, in {took}: {}",
            match self.differences {
                0 => "none differs".to_owned(),
                count => format!("{count} are not as they should be"),
            }
        )];
        if 0 < self.changing {
            let count = self.changing;
            lines.push(format!(
                "{count} keys changed at each look; nothing is said of them"
            ));
        }
        for node in &self.silent {
            lines.push(format!("{node} is down or does not answer: not looked at"));
        }
        for node in &self.unlisted {
            lines.push(format!(
                "{node} has damage through which not even keys can be listed; comparison mends it"
            ));
        }
        if 0 < self.differences {
            lines.push("next   quorate scrub --wait, then quorate repair --wait".to_owned());
        }
        lines
    }
}

fn difference_json(difference: &Difference) -> Value {
    let mut json = json!({
        "node": difference.node, "bucket": difference.bucket, "what": difference.what,
    });
    bytes_field(&mut json, "key", &difference.key);
    json
}

fn difference_line(difference: &Difference) -> String {
    format!(
        "{:<10} {:<10} {:<20} {}",
        difference.what,
        difference.node,
        difference.bucket,
        show(&difference.key)
    )
}

/// How much of the token space lies before a key of the store.
fn percent(after: &[u8]) -> u64 {
    let token = after
        .first_chunk()
        .map_or(0, |head| u64::from_be_bytes(*head));
    u64::try_from((u128::from(token) * 100) >> 64).unwrap_or(100)
}

impl Verify {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<u8, Failure> {
        let begun = Instant::now();
        let (mut sum, mut listed, mut told) = (Sum::default(), Vec::new(), begun);
        let mut after = Bytes::new();
        loop {
            let reply = ask(client, "verify", after).await?;
            let page = reply.verified.map_or_else(Verified::default, |page| *page);
            sum.add(&page);
            for difference in page.differences {
                if out.format() == Format::Table {
                    out.item(|| Value::Null, || difference_line(&difference))?;
                } else if listed.len() < LISTED_MAX {
                    listed.push(difference_json(&difference));
                }
            }
            let Some(next) = page.next else { break };
            if TELL_EVERY <= told.elapsed() {
                told = Instant::now();
                let (percent, records) = (percent(&next), sum.records);
                let (size, found) = (size(sum.bytes), sum.differences);
                note(&format!(
                    "{percent:>3}%  {records} records, {size}, {found} differ"
                ));
            }
            after = next;
        }
        let seconds = begun.elapsed().as_secs();
        let json = json!({
            "ok": sum.is_good(), "records": sum.records, "bytes": sum.bytes,
            "differences": listed, "differences_total": sum.differences,
            "changing": sum.changing, "silent": sum.silent, "unlisted": sum.unlisted,
            "seconds": seconds,
        });
        out.answer(json, |_| sum.lines(seconds))?;
        Ok(u8::from(!sum.is_good()))
    }
}

/// Let every node read all it stores, and repair what is damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Scrub {
    /// Return when every node has been through.
    #[arg(long)]
    wait: bool,
}

fn scrubs_json(rows: &[ScrubStatus], goals: &BTreeMap<String, u64>) -> Value {
    let rows = rows.iter().map(|row| {
        let done = goals
            .get(&row.node)
            .is_some_and(|goal| *goal <= row.fulfilled);
        json!({
            "node": row.node, "silent": row.silent, "done": done, "running": row.running,
            "reached": f64::from(row.reached_millionths) / 1e6, "passes": row.passes,
            "records": row.records, "bytes": row.bytes, "damaged": row.damaged,
            "ended_ms_ago": row.ended_ms_ago,
        })
    });
    json!({ "nodes": rows.collect::<Vec<_>>() })
}

fn scrub_lines(rows: &[ScrubStatus]) -> Vec<String> {
    let mut lines = vec!["NODE       THROUGH     RECORDS        BYTES  DAMAGED".to_owned()];
    for row in rows {
        if row.silent {
            lines.push(format!("{:<10} does not answer", row.node));
            continue;
        }
        let through = if row.running {
            format!("{}%", row.reached_millionths / 10_000)
        } else {
            "done".to_owned()
        };
        lines.push(format!(
            "{:<10} {:>7} {:>11} {:>12} {:>8}",
            row.node,
            through,
            row.records,
            size(row.bytes),
            row.damaged
        ));
    }
    lines
}

impl Scrub {
    pub(crate) async fn run(
        &self,
        client: &Client,
        timeout: Option<Duration>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let until = Instant::now() + timeout.unwrap_or(WAIT_SCRUB);
        let mut rows = ask(client, "scrub", Bytes::new()).await?.scrubs;
        let mut goals = BTreeMap::new();
        note_goals(&mut goals, &rows);
        if !self.wait {
            return out.answer(scrubs_json(&rows, &goals), |_| {
                let mut lines = vec![format!("{} nodes are reading all they store", goals.len())];
                lines.extend(silent(&rows).map(|node| format!("{node} does not answer")));
                lines
            });
        }
        let mut told = Vec::new();
        loop {
            let open = open(&rows, &goals);
            if open.is_empty() {
                return out.answer(scrubs_json(&rows, &goals), |_| scrub_lines(&rows));
            }
            if until <= Instant::now() {
                let message = format!("not through on {}", open.join(", "));
                let mut failure = Failure::new(ErrorCode::UnknownOutcome, message);
                failure.details = scrubs_json(&rows, &goals);
                return Err(failure);
            }
            let lines = scrub_lines(&rows);
            if lines != told {
                for line in &lines {
                    note(line);
                }
                told = lines;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            // Who has started anew, or was silent before, knows nothing of our wish.
            let lost = |row: &ScrubStatus| {
                !row.silent && goals.get(&row.node).is_none_or(|goal| row.wished < *goal)
            };
            let again = rows.iter().any(lost);
            let verb = if again { "scrub" } else { "scrubs" };
            rows = ask(client, verb, Bytes::new()).await?.scrubs;
            if again {
                note_goals(&mut goals, &rows);
            }
        }
    }
}

/// What each node has to reach.
fn note_goals(goals: &mut BTreeMap<String, u64>, rows: &[ScrubStatus]) {
    for row in rows.iter().filter(|row| !row.silent) {
        let known = goals.get(&row.node).copied();
        // A pass that was wished for before is good enough, if the node still knows of it.
        if known.is_none_or(|goal| row.wished <= goal) {
            goals.insert(row.node.clone(), row.wished);
        }
    }
}

fn silent(rows: &[ScrubStatus]) -> impl Iterator<Item = &str> {
    let silent = rows.iter().filter(|row| row.silent);
    silent.map(|row| row.node.as_str())
}

/// Who is not through.
fn open(rows: &[ScrubStatus], goals: &BTreeMap<String, u64>) -> Vec<String> {
    let done = |row: &&ScrubStatus| {
        let goal = goals.get(&row.node).copied().unwrap_or(u64::MAX);
        !row.silent && goal <= row.fulfilled
    };
    let open = rows.iter().filter(|row| !done(row));
    open.map(|row| row.node.clone()).collect()
}

/// Let a node take no more requests of clients before it is restarted, or take them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// Its name.
    node: String,
    /// Take requests again. A restart does the same.
    #[arg(long)]
    undo: bool,
}

impl Drain {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let verb = if self.undo { "undrain" } else { "drain" };
        let request = RingRequest {
            verb: verb.to_owned(),
            node: self.node.clone(),
            ..RingRequest::default()
        };
        let done = client.drain(request).await;
        done.map_err(|error| Failure::from(error.body().clone()))?;
        let node = &self.node;
        out.answer(json!({ "node": node, "draining": !self.undo }), |_| {
            if self.undo {
                return vec![format!("{node} takes requests again")];
            }
            vec![
                format!("{node} takes no more requests of clients; its copies are kept up to date"),
                format!(
                    "next   quorate cluster check --down {node}        \
                     back   quorate drain {node} --undo"
                ),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str, wished: u64, fulfilled: u64) -> ScrubStatus {
        ScrubStatus {
            node: node.to_owned(),
            wished,
            fulfilled,
            ..ScrubStatus::default()
        }
    }

    #[test]
    fn a_node_that_forgot_our_wish_gets_another_goal() {
        let mut goals = BTreeMap::new();
        note_goals(&mut goals, &[row("n1", 5, 3), row("n2", 2, 1)]);
        assert_eq!(open(&[row("n1", 5, 5), row("n2", 2, 1)], &goals), ["n2"]);
        // n2 has started anew, and was asked once more, as was n1.
        note_goals(&mut goals, &[row("n1", 6, 5), row("n2", 1, 0)]);
        assert_eq!(open(&[row("n1", 6, 5), row("n2", 1, 0)], &goals), ["n2"]);
        assert!(open(&[row("n1", 6, 5), row("n2", 1, 1)], &goals).is_empty());
    }

    #[test]
    fn the_way_through_the_tokens_is_told_in_percent() {
        assert_eq!(percent(b""), 0);
        assert_eq!(percent(&[0x80, 0, 0, 0, 0, 0, 0, 0, 1]), 50);
        assert_eq!(percent(&[0xff; 8]), 99);
    }
}
