//! `ring stage`, `plan`, `commit`, `unstage`, `abort`, `transfers` and `wait`.
//!
//! Every answer that leads to another command prints that command.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use quorate_client::{
    Client,
    wire::{PlanReply, RingAnswer, RingRequest},
};
use serde_json::{Value, json};

use super::{
    output::{Failure, Format, Out, ago, note, size},
    watch::Screen,
};

/// How often a change under way is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long `ring wait` waits if nothing else is said.
const WAIT: Duration = Duration::from_mins(10);

/// What to stage.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Stage {
    /// Give a node that has joined the cluster its share.
    Join {
        /// Its name, as in cluster status.
        node: String,
        /// Another zone than the node says itself.
        #[arg(long)]
        zone: Option<String>,
        /// Another weight than the node says itself.
        #[arg(long)]
        weight: Option<u32>,
    },
    /// Let a node hand its share over.
    Leave {
        /// Its name.
        node: String,
    },
    /// Give up a node that will not come back.
    Remove {
        /// Its name.
        node: String,
        /// It is gone for good: what only it held is lost.
        #[arg(long, required = true)]
        dead: bool,
    },
    /// Let another node take a node's places.
    Replace {
        /// The name of the member that goes.
        old: String,
        /// The name of a node that has joined and is no member yet.
        new: String,
    },
    /// Change a node's share.
    Weight {
        /// Its name.
        node: String,
        /// Its share, relative to the others'.
        weight: u32,
    },
    /// Say that a node is in another zone.
    Zone {
        /// Its name.
        node: String,
        /// The zone it is in now.
        zone: String,
    },
    /// Cut the token space into twice or half as many partitions.
    Resize {
        /// How many from then on: a power of two, 8 to 65,536.
        partitions: u32,
    },
}

impl Stage {
    fn request(&self) -> RingRequest {
        let mut asked = RingRequest::default();
        let verb = match self {
            Self::Join { node, zone, weight } => {
                asked.node.clone_from(node);
                asked.zone.clone_from(zone);
                asked.weight = *weight;
                "join"
            }
            Self::Leave { node } => {
                asked.node.clone_from(node);
                "leave"
            }
            Self::Remove { node, .. } => {
                asked.node.clone_from(node);
                "remove"
            }
            Self::Replace { old, new } => {
                asked.node.clone_from(old);
                asked.other.clone_from(new);
                "replace"
            }
            Self::Weight { node, weight } => {
                asked.node.clone_from(node);
                asked.weight = Some(*weight);
                "weight"
            }
            Self::Zone { node, zone } => {
                asked.node.clone_from(node);
                asked.zone = Some(zone.clone());
                "zone"
            }
            Self::Resize { partitions } => {
                asked.partitions = *partitions;
                "resize"
            }
        };
        verb.clone_into(&mut asked.verb);
        asked
    }

    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let answer = ask(client, self.request()).await?;
        if let Self::Remove { node, .. } = self
            && !answer.staged.contains(&format!("remove {node} --dead"))
        {
            // It had no place: there is nothing to agree on.
            let mut json = state_json(&answer);
            json["forgotten"] = json!(node);
            return out.answer(json, |_| vec![answer.note.clone()]);
        }
        out.answer(state_json(&answer), |_| {
            let mut lines = vec!["staged".to_owned()];
            lines.extend(answer.staged.iter().map(|change| format!("  {change}")));
            lines.push("next   quorate ring plan        discard   quorate ring unstage".to_owned());
            lines
        })
    }
}

async fn ask(client: &Client, request: RingRequest) -> Result<RingAnswer, Failure> {
    let answer = client.change_ring(request).await;
    answer.map_err(|error| Failure::from(error.body().clone()))
}

async fn simple(client: &Client, verb: &str) -> Result<RingAnswer, Failure> {
    let verb = verb.to_owned();
    let request = RingRequest {
        verb,
        ..RingRequest::default()
    };
    ask(client, request).await
}

fn state_json(answer: &RingAnswer) -> Value {
    json!({ "epoch": answer.epoch, "state": answer.state, "staged": answer.staged })
}

fn state_line(answer: &RingAnswer) -> String {
    format!("ring {} {}   {}", answer.epoch, answer.state, answer.note)
}

/// `ring plan`.
pub(crate) async fn plan(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let answer = simple(client, "plan").await?;
    let plan = answer.plan.clone().unwrap_or_default();
    let mut json = plan_json(&plan);
    json["epoch"] = json!(answer.epoch);
    json["staged"] = json!(answer.staged);
    out.answer(json, |_| plan_lines(&answer, &plan))
}

#[expect(clippy::cast_precision_loss, reason = "millionths are small numbers")]
fn fraction(ppm: u64) -> f64 {
    ppm as f64 / 1e6
}

pub(crate) fn plan_json(plan: &PlanReply) -> Value {
    let moves = plan.moves.iter().map(|step| {
        json!({ "partition": step.partition, "from": step.from, "to": step.to,
                "bytes": step.bytes })
    });
    let nodes = plan.nodes.iter().map(|node| {
        json!({ "name": node.name, "zone": node.zone, "before": node.before, "after": node.after,
                "in": node.moves_in, "out": node.moves_out })
    });
    json!({
        "digest": plan.digest,
        "partitions": plan.partitions,
        "moves": moves.collect::<Vec<_>>(),
        "bytes": plan.moves.iter().map(|step| step.bytes).sum::<u64>(),
        "nodes": nodes.collect::<Vec<_>>(),
        "balance_before": fraction(plan.balance_before_ppm),
        "balance_after": fraction(plan.balance_after_ppm),
        "moved_share": fraction(plan.moved_share_ppm),
        "minimum_share": fraction(plan.minimum_share_ppm),
        "warnings": plan.warnings,
        "commit": format!("quorate ring commit {}", plan.digest),
    })
}

fn plan_lines(answer: &RingAnswer, plan: &PlanReply) -> Vec<String> {
    let staged = answer.staged.join(", ");
    let (digest, epoch) = (&plan.digest, answer.epoch);
    let mut lines = vec![
        format!("plan {digest} on ring {epoch}   (staged: {staged})"),
        "NODE      ZONE        NOW    AFTER       IN      OUT".to_owned(),
    ];
    for node in &plan.nodes {
        lines.push(format!(
            "{:<9} {:<8} {:>6}   {:>6}   {:>6}   {:>6}",
            node.name, node.zone, node.before, node.after, node.moves_in, node.moves_out
        ));
    }
    let bytes: u64 = plan.moves.iter().map(|step| step.bytes).sum();
    lines.push(format!(
        "{} replicas move, about {}; {:.1}% of all, {:.1}% is the least",
        plan.moves.len(),
        size(bytes),
        fraction(plan.moved_share_ppm) * 100.0,
        fraction(plan.minimum_share_ppm) * 100.0,
    ));
    lines.push(format!(
        "fullest node {:.2} of the mean (was {:.2})",
        fraction(plan.balance_after_ppm),
        fraction(plan.balance_before_ppm),
    ));
    lines.extend(plan.warnings.iter().map(|text| format!("warning  {text}")));
    lines.push(format!(
        "apply    quorate ring commit {digest}          discard   quorate ring unstage"
    ));
    lines
}

/// Make the plan with that digest happen.
#[derive(Debug, clap::Args)]
pub(crate) struct Commit {
    /// Without a majority, when it is gone for good: the cluster's name comes first.
    #[arg(long)]
    force: bool,
    /// The plan's digest; with --force the cluster's name and the digest.
    #[arg(required = true, num_args = 1..=2)]
    words: Vec<String>,
}

impl Commit {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let (cluster, digest) = match (self.force, &self.words[..]) {
            (true, [cluster, digest]) => (cluster.clone(), digest.clone()),
            (false, [digest]) => (String::new(), digest.clone()),
            _ => {
                let usage = "quorate ring commit DIGEST, or commit --force CLUSTER-NAME DIGEST";
                return Err(Failure::usage(usage));
            }
        };
        let request = RingRequest {
            verb: "commit".to_owned(),
            digest,
            force: self.force,
            cluster,
            ..RingRequest::default()
        };
        let answer = ask(client, request).await?;
        out.answer(state_json(&answer), |_| {
            let next = "watch    quorate ring transfers --watch      stop      quorate ring abort";
            vec![state_line(&answer), next.to_owned()]
        })
    }
}

/// `ring unstage` and `ring abort`.
pub(crate) async fn word(client: &Client, verb: &str, out: &mut Out) -> Result<(), Failure> {
    let answer = simple(client, verb).await?;
    out.answer(state_json(&answer), |_| vec![state_line(&answer)])
}

pub(crate) fn transfers_json(answer: &RingAnswer) -> Value {
    let rows = answer.transfers.iter().map(|row| {
        json!({ "node": row.node, "up": row.up, "adopted": row.adopted, "done": row.done,
                "total": row.total, "bytes": row.bytes, "clean": row.clean })
    });
    json!({ "epoch": answer.epoch, "state": answer.state, "note": answer.note,
            "transfers": rows.collect::<Vec<_>>() })
}

fn transfers_lines(answer: &RingAnswer) -> Vec<String> {
    let mut lines = vec![
        state_line(answer),
        "NODE      STATE  STEP      TRANSFERS          BYTES  LEFT TO HAND OVER".to_owned(),
    ];
    for row in &answer.transfers {
        let (up, step) = (if row.up { "up" } else { "down" }, row.adopted);
        lines.push(format!(
            "{:<9} {:<6} {:<8} {:>5} of {:<5} {:>14}  {}",
            row.node,
            up,
            if step { "adopted" } else { "waiting" },
            row.done,
            row.total,
            size(row.bytes),
            if row.clean {
                "nothing"
            } else {
                "not known yet"
            },
        ));
    }
    lines
}

/// Show how far a change is.
#[derive(Debug, clap::Args)]
pub(crate) struct Transfers {
    /// Show it again and again until the ring is stable.
    #[arg(long)]
    watch: bool,
}

/// How fast a change goes, since it is watched.
struct Pace {
    begun: Instant,
    epoch: u64,
    done: u32,
    bytes: u64,
}

impl Pace {
    fn of(answer: &RingAnswer) -> Self {
        let (done, _, bytes) = Self::sums(answer);
        Self {
            begun: Instant::now(),
            epoch: answer.epoch,
            done,
            bytes,
        }
    }

    /// Transfers done, of how many, and bytes received, on all nodes.
    fn sums(answer: &RingAnswer) -> (u32, u32, u64) {
        let rows = answer.transfers.iter();
        rows.fold((0, 0, 0), |(done, total, bytes), row| {
            (done + row.done, total + row.total, bytes + row.bytes)
        })
    }

    /// What all nodes together have done, how fast, and the seconds that the rest takes at that
    /// pace; each step of a change has transfers of its own.
    fn look(&mut self, answer: &RingAnswer) -> Option<(u64, u64)> {
        let (done, total, bytes) = Self::sums(answer);
        if answer.epoch != self.epoch || done < self.done || bytes < self.bytes {
            *self = Self::of(answer);
        }
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (since, left) = (
            u64::from(done - self.done),
            u64::from(total - done.min(total)),
        );
        if since == 0 || left == 0 || millis == 0 {
            return None;
        }
        let per_second = (bytes - self.bytes).saturating_mul(1_000) / millis;
        Some((per_second, left * millis / since / 1_000))
    }
}

impl Transfers {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let people = out.format() == Format::Table && !out.is_kept();
        let mut screen = (people && io::stdout().is_terminal()).then(Screen::default);
        let mut told = Vec::new();
        let mut pace: Option<Pace> = None;
        loop {
            let answer = simple(client, "transfers").await?;
            let mut lines = transfers_lines(&answer);
            let mut json = transfers_json(&answer);
            let left = pace.get_or_insert_with(|| Pace::of(&answer)).look(&answer);
            if let Some((per_second, seconds)) = left {
                let speed = size(per_second);
                lines.push(format!("{speed}/s, about {} left", ago(seconds)));
                json["bytes_per_second"] = json!(per_second);
                json["seconds_left"] = json!(seconds);
            }
            let over = !self.watch || is_over(&answer);
            if !over && out.format() == Format::Json && !out.is_kept() && lines != told {
                out.answer(json.clone(), |_| Vec::new())?;
            }
            match &mut screen {
                Some(screen) if self.watch => screen.show(&lines)?,
                _ if over => return out.answer(json, |_| lines),
                _ if people && lines != told => lines.iter().for_each(|line| note(line)),
                _ => {}
            }
            if over {
                return Ok(());
            }
            told = lines;
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn is_over(answer: &RingAnswer) -> bool {
    let done = answer.transfers.iter().all(|row| row.adopted && row.clean);
    answer.state == "stable" && done
}

/// `ring wait`: until the ring is stable, adopted by every member, and everything handed over.
pub(crate) async fn wait(
    client: &Client,
    limit: Option<Duration>,
    out: &mut Out,
) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + limit.unwrap_or(WAIT);
    loop {
        let answer = simple(client, "transfers").await?;
        if is_over(&answer) {
            return out.answer(transfers_json(&answer), |_| vec![state_line(&answer)]);
        }
        if until <= tokio::time::Instant::now() {
            let open = answer
                .transfers
                .iter()
                .filter(|row| !row.adopted || !row.clean);
            let open: Vec<&str> = open.map(|row| row.node.as_str()).collect();
            let message = format!(
                "ring {} is {} and not done on {}; see quorate ring transfers",
                answer.epoch,
                answer.state,
                open.join(", "),
            );
            let code = quorate_client::wire::ErrorCode::UnknownOutcome;
            return Err(Failure::new(code, message));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use quorate_client::wire::TransferRow;

    use super::*;

    fn answer(epoch: u64, done: u32, bytes: u64) -> RingAnswer {
        let row = TransferRow {
            done,
            total: 10,
            bytes,
            ..TransferRow::default()
        };
        RingAnswer {
            epoch,
            transfers: vec![row],
            ..RingAnswer::default()
        }
    }

    #[test]
    fn the_time_left_follows_the_pace_since_it_is_watched() {
        let mut pace = Pace::of(&answer(2, 1, 100));
        assert_eq!(pace.look(&answer(2, 1, 100)), None);
        pace.begun -= Duration::from_secs(4);
        let (per_second, seconds) = pace.look(&answer(2, 3, 4_100)).unwrap();
        assert!((990..=1_000).contains(&per_second), "{per_second}");
        assert_eq!(seconds, 14);
        assert_eq!(pace.look(&answer(3, 0, 0)), None, "another step");
        assert_eq!((pace.epoch, pace.done), (3, 0));
    }
}
