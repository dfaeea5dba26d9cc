//! What time it is, as far as it may matter: for stamps where the last write wins, and for expiry.
//!
//! One clock may be hours off, so no node believes its own alone: the time is the median of its
//! own wall clock and of what its peers' said when they were last heard, carried on by the monotone
//! clock; of two that differ, the earlier one. A stamp is taken above every stamp taken or merged
//! before, and never beyond a bound that is durable, so that a node which starts again goes on
//! above it, whatever its clock says by then. A stamp too far ahead of the time is not merged: it
//! would doom every write of the coming hours.
//!
//! That the last write wins loses acknowledged writes by definition. Here it is only kept from
//! losing them for the next hours because one clock was wrong.
//!
//! Not decided here: which buckets have stamps, and what becomes of a state that is refused.

use std::{cmp::Ordering, collections::BTreeMap};

use bytes::{Bytes, BytesMut};
use quorate_ring::NodeId;

use crate::{
    api::Moment,
    causality::Stamp,
    store::{Table, Ticket, Unreadable, Write},
};

/// Key of the bound in [`Table::Meta`].
pub(crate) const META_BOUND_KEY: &[u8] = b"stamps";

/// A stamp this far ahead of the time is not merged.
pub(crate) const SKEW_MAX_MS: u64 = 10_000;
/// The bound is put so far ahead of the time.
const BOUND_AHEAD_MS: u64 = 5_000;
/// It is put further when less than this is left.
const BOUND_LOW_MS: u64 = 3_000;

#[derive(Debug)]
enum Bound {
    /// It is not known yet which stamps an earlier process may have taken.
    Unread(Option<Ticket>),
    /// Stamps below it may be taken.
    Known { ms: u64, writing: Option<Writing> },
}

#[derive(Debug)]
struct Writing {
    ticket: Ticket,
    ms: u64,
}

/// Why no stamp can be taken, for people, if the limit is one of [`Hybrid::take`].
pub(crate) fn explain(limit: &str) -> Option<&'static str> {
    match limit {
        "clocks_compared" => Some(
            "this node has not compared its clock with a majority since it started, and the last \
             write wins in this bucket",
        ),
        "clock_skew" => Some("what this key holds is stamped too far ahead of the clocks"),
        "stamp_lease" => Some("the next stamps are not durable yet"),
        _ => None,
    }
}

/// What a node knows of the time.
#[derive(Debug)]
pub(crate) struct Hybrid {
    /// Wall clocks of peers as they were last heard, minus our monotone clock, in milliseconds.
    heard: BTreeMap<NodeId, i64>,
    /// The same without names, in order: the time is asked for with every request.
    offsets: Vec<i64>,
    last: Stamp,
    bound: Bound,
}

/// The node's own milliseconds, that never jump.
fn mono_ms(now: Moment) -> i64 {
    i64::try_from(now.mono.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn offset(wall_ms: u64, now: Moment) -> i64 {
    i64::try_from(wall_ms)
        .unwrap_or(i64::MAX)
        .saturating_sub(mono_ms(now))
}

impl Hybrid {
    pub(crate) fn new() -> Self {
        Self {
            heard: BTreeMap::new(),
            offsets: Vec::new(),
            last: Stamp::at_ms(0),
            bound: Bound::Unread(None),
        }
    }

    /// A peer has just said what its clock shows.
    pub(crate) fn heard(&mut self, peer: NodeId, wall_ms: u64, now: Moment) {
        self.heard.insert(peer, offset(wall_ms, now));
        self.sort();
    }

    fn sort(&mut self) {
        self.offsets.clear();
        self.offsets.extend(self.heard.values());
        self.offsets.sort_unstable();
    }

    /// Whose clocks are known.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.heard.keys().copied()
    }

    /// Forgets those who are no peers any more.
    pub(crate) fn retain(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        self.heard.retain(|peer, _| is_peer(*peer));
        self.sort();
    }

    /// The time in unix milliseconds.
    pub(crate) fn time_ms(&self, now: Moment) -> u64 {
        let own = offset(now.wall_ms, now);
        // Where our own would stand among them, and which of them all is in the middle.
        let place = self.offsets.partition_point(|offset| *offset < own);
        let middle = self.offsets.len() / 2;
        let median = match middle.cmp(&place) {
            Ordering::Less => self.offsets[middle],
            Ordering::Equal => own,
            Ordering::Greater => self.offsets[middle - 1],
        };
        u64::try_from(median.saturating_add(mono_ms(now))).unwrap_or(0)
    }

    /// A time that is past whatever any clock says that is believed; none until a majority of so
    /// many members' clocks is known.
    pub(crate) fn certainly_past_ms(&self, now: Moment, members: usize) -> Option<u64> {
        let certain = self.is_certain(members);
        certain.then(|| self.time_ms(now).saturating_sub(SKEW_MAX_MS))
    }

    /// True if a majority of clocks is known.
    fn is_certain(&self, members: usize) -> bool {
        members < 2 * (self.heard.len() + 1)
    }

    /// True if a state with this stamp must not be merged now.
    pub(crate) fn refuses(&self, stamp: Stamp, now: Moment) -> bool {
        self.stamp_max(now) < stamp
    }

    /// The greatest stamp that is believed now.
    pub(crate) fn stamp_max(&self, now: Moment) -> Stamp {
        Stamp::at_ms(self.time_ms(now).saturating_add(SKEW_MAX_MS))
    }

    /// A stamp has been merged.
    pub(crate) fn observe(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }

    /// A stamp for a new write, above all before it, in a cluster of so many members; or the name
    /// of the limit that stands against it.
    pub(crate) fn take(&mut self, now: Moment, members: usize) -> Result<Stamp, &'static str> {
        if !self.is_certain(members) {
            return Err("clocks_compared");
        }
        let stamp = Stamp::at_ms(self.time_ms(now)).max(self.last.next());
        if self.refuses(stamp, now) {
            return Err("clock_skew");
        }
        let Bound::Known { ms, .. } = self.bound else {
            return Err("stamp_lease");
        };
        if ms <= stamp.ms() {
            return Err("stamp_lease");
        }
        self.last = stamp;
        Ok(stamp)
    }

    /// True until [`reading`](Self::reading) has been called.
    pub(crate) const fn wants_to_read(&self) -> bool {
        matches!(self.bound, Bound::Unread(None))
    }

    /// The stored bound is being read.
    pub(crate) fn reading(&mut self, ticket: Ticket) {
        self.bound = Bound::Unread(Some(ticket));
    }

    /// The stored bound, if the ticket is that of its reading. One that cannot be read is taken for
    /// as far ahead as one could have been put.
    pub(crate) fn read(
        &mut self,
        ticket: Ticket,
        value: &Result<Option<Bytes>, Unreadable>,
        now: Moment,
    ) -> bool {
        if !matches!(self.bound, Bound::Unread(Some(reading)) if reading == ticket) {
            return false;
        }
        let ms = match value {
            Ok(None) => 0,
            Ok(Some(bytes)) => decode(bytes).unwrap_or_else(|| self.time_ms(now) + BOUND_AHEAD_MS),
            Err(_) => self.time_ms(now) + BOUND_AHEAD_MS,
        };
        self.observe(Stamp::at_ms(ms));
        self.bound = Bound::Known { ms, writing: None };
        true
    }

    /// The write that puts the bound further ahead, if it is time to.
    pub(crate) fn extend(&mut self, now: Moment, ticket: Ticket) -> Option<Write> {
        let time = self.time_ms(now).max(self.last.ms());
        let Bound::Known { ms, writing } = &mut self.bound else {
            return None;
        };
        if writing.is_some() || time.saturating_add(BOUND_LOW_MS) < *ms {
            return None;
        }
        let ms = time.saturating_add(BOUND_AHEAD_MS);
        *writing = Some(Writing { ticket, ms });
        Some(Write::Put {
            table: Table::Meta,
            key: Bytes::from_static(META_BOUND_KEY),
            value: encode(ms),
        })
    }

    /// A write is durable, or was refused for want of space. False if it is not the bound.
    pub(crate) fn written(&mut self, ticket: Ticket, stored: bool) -> bool {
        let Bound::Known { ms, writing } = &mut self.bound else {
            return false;
        };
        let Some(done) = writing.take_if(|writing| writing.ticket == ticket) else {
            return false;
        };
        if stored {
            *ms = done.ms.max(*ms);
        }
        true
    }
}

/// Magic and version, milliseconds, checksum.
fn encode(ms: u64) -> Bytes {
    let mut out = BytesMut::from(&b"QSB\x01"[..]);
    out.extend_from_slice(&ms.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.freeze()
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let (body, crc) = bytes.split_last_chunk()?;
    let ms = body.strip_prefix(b"QSB\x01")?.try_into().ok()?;
    (crc32c::crc32c(body).to_le_bytes() == *crc).then(|| u64::from_le_bytes(ms))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_gossip::Instant;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const START_MS: u64 = 1_750_000_000_000;

    fn at(mono_ms: u64, wall_ms: u64) -> Moment {
        let mono = Instant::from_nanos(0) + Duration::from_millis(mono_ms);
        Moment { mono, wall_ms }
    }

    fn peer(id: u64) -> NodeId {
        NodeId::new(id)
    }

    /// One that knows two peers, whose clocks show `START_MS`, and has its bound durable.
    fn hybrid() -> Hybrid {
        let mut hybrid = Hybrid::new();
        let now = at(0, START_MS);
        hybrid.heard(peer(2), START_MS, now);
        hybrid.heard(peer(3), START_MS, now);
        hybrid.reading(Ticket(1));
        assert!(hybrid.read(Ticket(1), &Ok(None), now));
        assert!(hybrid.extend(now, Ticket(2)).is_some());
        assert!(hybrid.extend(now, Ticket(3)).is_none(), "one at a time");
        assert!(hybrid.written(Ticket(2), true));
        hybrid
    }

    #[test]
    fn a_clock_that_is_hours_off_is_outvoted() {
        let mut hybrid = hybrid();
        for wall in [START_MS + HOUR_MS, START_MS - HOUR_MS] {
            let stamp = hybrid.take(at(100, wall), 3).unwrap();
            assert_eq!(stamp.ms(), START_MS + 100);
        }
        assert!(hybrid.refuses(
            Stamp::at_ms(START_MS + HOUR_MS),
            at(100, START_MS + HOUR_MS)
        ));
    }

    #[test]
    fn of_two_clocks_the_earlier_is_believed() {
        let mut hybrid = Hybrid::new();
        let now = at(0, START_MS + HOUR_MS);
        hybrid.heard(peer(2), START_MS, now);
        assert_eq!(hybrid.time_ms(now), START_MS);
    }

    #[test]
    fn without_a_majority_of_clocks_no_stamp_is_taken() {
        let mut hybrid = hybrid();
        assert_eq!(hybrid.take(at(1, START_MS), 6), Err("clocks_compared"));
        assert!(hybrid.take(at(1, START_MS), 5).is_ok());
    }

    #[test]
    fn stamps_rise_though_clocks_go_back() {
        let mut hybrid = hybrid();
        let mut before = hybrid.take(at(500, START_MS + 500), 3).unwrap();
        for wall in [START_MS + 500, START_MS, START_MS - 5_000] {
            let now = at(500, wall);
            hybrid.heard(peer(2), wall, now);
            let stamp = hybrid.take(now, 3).unwrap();
            assert!(before < stamp);
            before = stamp;
        }
    }

    #[test]
    fn a_process_goes_on_above_the_stamps_of_the_one_before() {
        let mut first = hybrid();
        let stamp = first.take(at(900, START_MS + 900), 1).unwrap();
        let write = first
            .extend(at(3_000, START_MS + 3_000), Ticket(4))
            .unwrap();
        let Write::Put { value, .. } = write else {
            unreachable!("a bound is put")
        };
        let mut second = Hybrid::new();
        let now = at(0, START_MS - 9_000);
        assert_eq!(
            second.take(now, 1),
            Err("stamp_lease"),
            "nothing is known yet"
        );
        second.reading(Ticket(1));
        second.read(Ticket(1), &Ok(Some(value)), now);
        assert_eq!(
            second.take(now, 1),
            Err("clock_skew"),
            "the clock is too far behind"
        );
        let now = at(0, START_MS);
        assert_eq!(
            second.take(now, 1),
            Err("stamp_lease"),
            "all of them may be used"
        );
        second.extend(now, Ticket(2)).unwrap();
        assert!(second.written(Ticket(2), true));
        assert!(stamp < second.take(now, 1).unwrap());
    }

    #[test]
    fn no_stamp_is_taken_beyond_what_is_durable() {
        let mut hybrid = hybrid();
        let late = at(BOUND_AHEAD_MS, START_MS + BOUND_AHEAD_MS);
        assert_eq!(hybrid.take(late, 3), Err("stamp_lease"));
        hybrid.extend(late, Ticket(5)).unwrap();
        assert!(hybrid.written(Ticket(5), false), "refused by the disk");
        assert_eq!(hybrid.take(late, 3), Err("stamp_lease"));
        hybrid.extend(late, Ticket(6)).unwrap();
        assert!(hybrid.written(Ticket(6), true));
        assert!(hybrid.take(late, 3).is_ok());
    }

    #[test]
    fn damage_to_the_stored_bound_is_noticed() {
        let good = encode(START_MS);
        assert_eq!(decode(&good), Some(START_MS));
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None);
        }
    }
}
