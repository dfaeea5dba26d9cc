//! Looks at one page of everybody's records, for `verify`: can each be read, is it where it
//! belongs, do all owners hold the same.
//!
//! Every node is asked for its records from one key on, and reads them from its disk. Judged are
//! the keys that all who answered have come to; where the first of them stopped the next page
//! begins. While clients write, replicas differ for moments: whatever is found is looked at again,
//! and again, and only what stays *exactly* as it was is told. Who is down or silent is named, and
//! judged by nobody.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_client::wire::{Difference, HealingReply, Response, Verified};
use quorate_gossip::Instant;
use quorate_ring::{NodeId, Phase};

use super::{Answer, Flow, status};
use crate::{
    core::{Core, Origin},
    healing::{
        care::{CareMessage, Seen},
        message::Place,
    },
    message::{Class, Message, RpcId},
    replica::{Address, OpKey},
    store::format,
};

/// How often a page is looked at before something is told of it.
const LOOKS: u32 = 3;
/// How often a node is asked for one page.
const ASKS_MAX: u32 = 2;

/// What one node has of the page.
#[derive(Debug)]
struct Page {
    records: Vec<Seen>,
    bytes: u64,
    next: Bytes,
    blind_until: Bytes,
}

/// What is wrong with one node's copy of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Damaged,
    Suspect,
    Misplaced,
    Missing,
    Differs,
}

/// A node's copy of a key: its hash, if it can be read, and whether it is suspect.
type Copied = (NodeId, Option<u64>, bool);

/// What is wrong with a key, and what each node holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    wrong: Vec<(NodeId, Wrong)>,
    held: Vec<Copied>,
}

type Findings = BTreeMap<Place, Finding>;

#[derive(Debug)]
pub(crate) struct VerifyOp {
    key: OpKey,
    origin: Origin,
    first: Bytes,
    /// Where the page ends; empty for the end of everything.
    end: Bytes,
    asked: Vec<NodeId>,
    /// Who is down.
    down: Vec<NodeId>,
    pages: BTreeMap<NodeId, Page>,
    look: u32,
    /// How often those who are missing have been asked this time.
    asks: u32,
    /// From the looks before: what has stayed as it was since the first.
    before: Findings,
    resting: bool,
    again: Instant,
    deadline: Instant,
}

impl VerifyOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        first: Bytes,
        deadline: Instant,
    ) -> Self {
        let members = status::members(core).into_iter().map(|member| member.id);
        let (asked, down): (Vec<_>, Vec<_>) = members.partition(|node| core.is_up(*node));
        // Who has no place in the ring and is away has nothing to answer for.
        let down = down
            .into_iter()
            .filter(|node| !core.outsiders.contains_key(node));
        let mut op = Self {
            key,
            origin,
            first,
            end: Bytes::new(),
            asked,
            down: down.collect(),
            pages: BTreeMap::new(),
            look: 1,
            asks: 0,
            before: Findings::new(),
            resting: false,
            again: core.now.mono,
            deadline,
        };
        op.ask(core);
        op
    }

    /// Asks everybody who has not answered this look.
    fn ask(&mut self, core: &mut Core) {
        self.resting = false;
        self.asks += 1;
        self.again = core.now.mono + core.limits.status_wait;
        for node in &self.asked {
            if !self.pages.contains_key(node) {
                let body = CareMessage::Inspect {
                    first: self.first.clone(),
                    end: self.end.clone(),
                    look: self.look,
                };
                let id = RpcId(self.key.0);
                core.send(*node, Class::Bulk, Message::Care { id, body });
            }
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && let Message::Care {
                body:
                    CareMessage::Inspected {
                        look,
                        records,
                        bytes,
                        next,
                        blind_until,
                    },
                ..
            } = *message
            && self.asked.contains(&from)
            && !self.resting
            && look == self.look
        {
            let page = Page {
                records,
                bytes,
                next,
                blind_until,
            };
            self.pages.insert(from, page);
        }
        if self.resting || self.pages.len() < self.asked.len() {
            return self.wait();
        }
        self.judge(core)
    }

    /// Everybody has answered.
    fn judge(&mut self, core: &mut Core) -> Flow {
        let ends = self.pages.values().map(|page| &page.next);
        if let Some(end) = ends.filter(|end| !end.is_empty()).min()
            && (self.end.is_empty() || *end < self.end)
        {
            self.end = end.clone();
        }
        let found = self.findings(core);
        let same = |(place, finding): &(&Place, &Finding)| {
            self.look == 1 || self.before.get(place) == Some(finding)
        };
        let stayed = found.iter().filter(same);
        let stayed: Findings = stayed.map(|(p, f)| (p.clone(), f.clone())).collect();
        if found.is_empty() || LOOKS <= self.look {
            let changing = found.len() - stayed.len();
            self.end(core, &stayed, changing as u64);
            return Flow::Over;
        }
        self.before = if self.look == 1 { found } else { stayed };
        self.look += 1;
        self.asks = 0;
        self.pages.clear();
        self.resting = true;
        self.again = core.now.mono + core.limits.status_wait / 2;
        self.wait()
    }

    fn findings(&self, core: &Core) -> Findings {
        let mut keys: BTreeMap<&Place, Vec<Copied>> = BTreeMap::new();
        for (node, page) in &self.pages {
            for seen in page.records.iter().filter(|seen| self.holds(&seen.place)) {
                let held = (*node, seen.hash, seen.suspect);
                keys.entry(&seen.place).or_default().push(held);
            }
        }
        let mut findings = Findings::new();
        for (place, held) in keys {
            let wrong = self.wrong(core, place, &held);
            if !wrong.is_empty() {
                findings.insert(place.clone(), Finding { wrong, held });
            }
        }
        findings
    }

    /// True if the page, as far as everybody has come, has room for that key.
    fn holds(&self, place: &Place) -> bool {
        self.end.is_empty() || store_key(place) < self.end
    }

    fn is_blind(&self, node: NodeId, place: &Place) -> bool {
        let page = self.pages.get(&node);
        page.is_none_or(|page| !page.blind_until.is_empty() && store_key(place) < page.blind_until)
    }

    fn wrong(&self, core: &Core, place: &Place, held: &[Copied]) -> Vec<(NodeId, Wrong)> {
        let mut wrong = Vec::new();
        let Some(n) = core.catalogue.replicas(place.bucket) else {
            return wrong;
        };
        let address = Address::from(place);
        let owners = core.owners(&address);
        let settled = core.decree.phase == Phase::Stable;
        for (node, hash, suspect) in held {
            let owns = owners.contains(node) || core.others(&address, n).contains(node);
            if hash.is_none() {
                wrong.push((*node, Wrong::Damaged));
            } else if *suspect {
                wrong.push((*node, Wrong::Suspect));
            } else if !owns && settled {
                wrong.push((*node, Wrong::Misplaced));
            }
        }
        let find = |owner: &NodeId| held.iter().find(|(node, ..)| node == owner);
        let judged = owners.iter().filter(|owner| !self.is_blind(**owner, place));
        // A record without versions and clock is as good as none.
        let states = judged.map(|owner| match find(owner) {
            None => (*owner, Some(0)),
            Some((_, hash, _)) => (*owner, *hash),
        });
        let states = states.filter_map(|(owner, hash)| hash.map(|hash| (owner, hash)));
        let states: Vec<(NodeId, u64)> = states.collect();
        let right = usual(&states);
        for (owner, hash) in states {
            if hash == 0 && right != Some(0) {
                wrong.push((owner, Wrong::Missing));
            } else if Some(hash) != right {
                wrong.push((owner, Wrong::Differs));
            }
        }
        wrong
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        let now = core.now.mono;
        let over = self.deadline <= now;
        if !over && now < self.again {
            return self.wait();
        }
        if !over && self.asks < ASKS_MAX {
            self.ask(core);
            return self.wait();
        }
        // Who has not answered is silent; of the others' pages nothing is lost.
        let pages = &self.pages;
        let silent = self.asked.extract_if(.., |node| !pages.contains_key(node));
        self.down.extend(silent);
        if over {
            self.look = LOOKS;
        }
        self.judge(core)
    }

    fn end(&mut self, core: &mut Core, findings: &Findings, changing: u64) {
        let mut verified = Verified {
            next: (!self.end.is_empty()).then(|| self.end.clone()),
            changing,
            silent: core.names(self.down.iter().copied()),
            ..Verified::default()
        };
        for (node, page) in &self.pages {
            let inside = page.records.iter().filter(|seen| self.holds(&seen.place));
            verified.records += inside.count() as u64;
            verified.bytes += page.bytes;
            if !page.blind_until.is_empty() {
                verified.unlisted.push(core.name(*node));
            }
        }
        for (place, finding) in findings {
            let name = core.catalogue.name(place.bucket).unwrap_or_default();
            for (node, wrong) in &finding.wrong {
                verified.differences.push(Difference {
                    node: core.name(*node),
                    bucket: name.to_owned(),
                    key: place.key.clone(),
                    what: word(*wrong).to_owned(),
                });
            }
        }
        let reply = HealingReply {
            verified: Some(Box::new(verified)),
            ..HealingReply::default()
        };
        core.reply(self.origin, Response::Healing(reply));
    }
}

fn store_key(place: &Place) -> Bytes {
    format::object_key(place.token, place.bucket.0, &place.key)
}

/// What most of them hold; of equally many, what comes first and is something.
fn usual(states: &[(NodeId, u64)]) -> Option<u64> {
    let count = |hash: u64| states.iter().filter(|(_, other)| *other == hash).count();
    let mut best: Option<(usize, u64)> = None;
    for (_, hash) in states {
        let votes = (count(*hash), *hash);
        let better = |(most, of): (usize, u64)| most < votes.0 || (most == votes.0 && of == 0);
        if best.is_none_or(better) {
            best = Some(votes);
        }
    }
    best.map(|(_, hash)| hash)
}

const fn word(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Damaged => "damaged",
        Wrong::Suspect => "suspect",
        Wrong::Misplaced => "misplaced",
        Wrong::Missing => "missing",
        Wrong::Differs => "differs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_is_right_and_something_beats_nothing() {
        let states = |hashes: &[u64]| -> Vec<(NodeId, u64)> {
            let nodes = (1..).map(NodeId::new);
            nodes.zip(hashes.iter().copied()).collect()
        };
        assert_eq!(usual(&states(&[7, 8, 8])), Some(8));
        assert_eq!(usual(&states(&[0, 8])), Some(8));
        assert_eq!(usual(&states(&[8, 0])), Some(8));
        assert_eq!(usual(&states(&[0, 0, 8])), Some(0));
        assert_eq!(usual(&states(&[])), None);
    }
}
