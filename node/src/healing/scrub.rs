//! Scrubbing: everything stored is read again and again, so that damage is found while the other
//! replicas still have what is lost.
//!
//! The pages are those that the audit of the trees reads: one reading serves both. Decided here is
//! when the next page and the next pass may be, at most at so many bytes a second, never while the
//! governor says rest; and what becomes of damage. A damaged record is set aside (it speaks for its
//! key no more), looked at once more *on the disk*, whatever is remembered of it, which counts and
//! reports it, and its key is recovered from the other replicas; a few at a time, and the pass
//! waits for them. A pass that somebody wished for leaves out the limit of bytes.
//!
//! A pass that has ended has found every record that was damaged when it began.

use std::{collections::VecDeque, time::Duration};

use quorate_gossip::Instant;

use super::care::ScrubProgress;
use crate::{
    core::Core,
    event::Event,
    replica::{Address, Caller, Done, Job, Refusal},
};

/// The task under which damaged records are looked at; comparisons have other numbers.
pub(crate) const LOOK_TASK: u64 = 0;
/// A page that came faster than this still rests so long, if nobody wished for the pass.
const PAGE_STEP: Duration = Duration::from_millis(50);
/// Damaged records looked at in one step.
const LOOKS_MAX: usize = 16;
/// How long to wait until the recoveries under way have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Pass {
    /// The wishes up to here are fulfilled when it ends.
    wish: u64,
    records: u64,
    bytes: u64,
    damaged: u64,
    /// All pages have been read.
    read: bool,
}

/// The scrub of one node.
#[derive(Debug)]
pub(crate) struct Scrub {
    wished: u64,
    fulfilled: u64,
    passes: u64,
    /// The pass under way.
    pass: Option<Pass>,
    /// The last one that ended, and when.
    last: Option<(Pass, Instant)>,
    /// The next pass begins then.
    from: Instant,
    /// Damaged records that have not been looked at.
    due: VecDeque<Address>,
    rests: Instant,
    looking: usize,
}

impl Scrub {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            wished: 0,
            fulfilled: 0,
            passes: 0,
            pass: None,
            last: None,
            from: now,
            due: VecDeque::new(),
            rests: now,
            looking: 0,
        }
    }

    /// Somebody wants everything read from now on. True if the pass under way has to begin anew:
    /// one that serves an earlier wish goes on, and another follows.
    pub(crate) fn wish(&mut self, now: Instant) -> bool {
        self.wished += 1;
        self.from = now;
        if self.is_hurried() {
            return false;
        }
        self.pass.take().is_some()
    }

    fn is_hurried(&self) -> bool {
        let hurried = |pass: &Pass| self.fulfilled < pass.wish;
        self.pass.as_ref().is_some_and(hurried)
    }

    /// True if the next page of the audit may be read.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.is_idle() && (self.is_reading() || self.from <= now)
    }

    fn is_idle(&self) -> bool {
        self.due.is_empty() && self.looking == 0
    }

    fn is_reading(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| !pass.read)
    }

    /// When there is something to do, if nothing comes in between; none while the store is asked.
    pub(crate) fn wakes(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.rests);
        }
        (self.looking == 0).then_some(self.from)
    }

    /// A page of the audit is asked for.
    pub(crate) fn begin(&mut self) {
        let wish = self.wished;
        self.pass.get_or_insert_with(|| Pass {
            wish,
            ..Pass::default()
        });
    }

    /// A page has come, with these damaged records.
    pub(crate) fn page(&mut self, records: usize, bytes: usize, damaged: Vec<Address>) {
        if let Some(pass) = &mut self.pass {
            pass.records += records as u64;
            pass.bytes += bytes as u64;
            pass.damaged += damaged.len() as u64;
        }
        self.due.extend(damaged);
    }

    /// How long to rest after a page of so many bytes.
    pub(crate) fn pace(&self, bytes: usize, per_second: u64) -> Duration {
        if self.is_hurried() {
            return Duration::ZERO;
        }
        let micros = (bytes as u64).saturating_mul(1_000_000) / per_second.max(1);
        Duration::from_micros(micros).max(PAGE_STEP)
    }

    /// The end of the token space was reached.
    pub(crate) fn round(&mut self, core: &mut Core) {
        if let Some(pass) = &mut self.pass {
            pass.read = true;
        }
        self.from = core.now.mono + core.limits.audit_pause;
        self.close(core);
    }

    /// Looks at a few damaged records, if it is time.
    pub(crate) fn step(&mut self, core: &mut Core) {
        if self.due.is_empty() || core.now.mono < self.rests {
            return;
        }
        self.rests = core.now.mono + LOOK_AGAIN;
        while self.looking < LOOKS_MAX
            && core.upkeep.recovering + self.looking < core.limits.recoveries_max
            && let Some(address) = self.due.pop_front()
        {
            self.looking += 1;
            core.submit_for(Caller::Tree(LOOK_TASK), &address, Job::Look);
        }
    }

    /// A damaged record has been looked at.
    pub(crate) fn looked(&mut self, core: &mut Core, address: &Address, done: &Done) {
        self.looking = self.looking.saturating_sub(1);
        if matches!(done, Done::Refused(Refusal::Limit(_))) {
            self.due.push_back(address.clone());
        }
        self.close(core);
    }

    fn close(&mut self, core: &mut Core) {
        if !self.is_idle() {
            return;
        }
        let Some(pass) = self.pass.take_if(|pass| pass.read) else {
            return;
        };
        self.fulfilled = pass.wish;
        self.passes += 1;
        core.event(Event::Scrubbed {
            records: pass.records,
            bytes: pass.bytes,
            damaged: pass.damaged,
        });
        self.last = Some((pass, core.now.mono));
        core.upkeep.scrubbed = Some(core.now.mono);
        if self.fulfilled < self.wished {
            self.from = core.now.mono;
        }
    }

    /// How far it is; `reached` of the token space has been read.
    pub(crate) fn progress(&self, now: Instant, reached_millionths: u32) -> ScrubProgress {
        let last = self.last.as_ref();
        let shown = self.pass.as_ref().or_else(|| last.map(|(pass, _)| pass));
        let ago = |at: Instant| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        ScrubProgress {
            wished: self.wished,
            fulfilled: self.fulfilled,
            passes: self.passes,
            running: self.pass.is_some(),
            reached_millionths: match &self.pass {
                Some(pass) if !pass.read => reached_millionths,
                Some(_) => 1_000_000,
                None => 0,
            },
            records: shown.map_or(0, |pass| pass.records),
            bytes: shown.map_or(0, |pass| pass.bytes),
            damaged: shown.map_or(0, |pass| pass.damaged),
            ended_ms_ago: last.map(|(_, at)| ago(*at)),
        }
    }
}
