//! What was acknowledged, and what reads make of it.
//!
//! A record belongs to one client, which numbers its values and writes each with the context of the
//! last answer. So whoever sees a number has seen all acknowledged ones below it:
//! - a read that shows only smaller numbers than what was acknowledged before it began is *stale*,
//!   and at the end such a record has *lost* a write;
//! - a number shown twice was applied twice: *duplicated*;
//! - an acknowledged number shown beside a greater one had been replaced: *resurrected*. One whose
//!   outcome is unknown may stand there, since no context needs to cover it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::value;

/// Writes of unknown outcome that are remembered; beyond, nothing counts as resurrected any more.
const UNCERTAIN_MAX: usize = 100_000;

/// Acknowledged numbers by record, 0 for none.
#[derive(Debug)]
pub(crate) struct Ledger {
    acknowledged: Vec<AtomicU64>,
    uncertain: Mutex<Uncertain>,
    /// Smaller numbers are of earlier runs, and not judged.
    first: u64,
}

#[derive(Debug, Default)]
struct Uncertain {
    by_record: BTreeMap<usize, Vec<u64>>,
    count: usize,
}

/// What is wrong with a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The greatest number it shows, 0 if there is no value.
    pub(crate) newest: u64,
    pub(crate) stale: bool,
    pub(crate) duplicated: bool,
    pub(crate) resurrected: bool,
}

impl Ledger {
    pub(crate) fn new(records: usize, first: u64) -> Self {
        Self {
            acknowledged: (0..records).map(|_| AtomicU64::new(0)).collect(),
            uncertain: Mutex::default(),
            first,
        }
    }

    /// The greatest acknowledged number of a record.
    pub(crate) fn acknowledged(&self, record: usize) -> u64 {
        self.acknowledged[record].load(Ordering::Acquire)
    }

    pub(crate) fn acknowledge(&self, record: usize, number: u64) {
        self.acknowledged[record].fetch_max(number, Ordering::AcqRel);
    }

    /// Remembers that a write may or may not have been applied.
    pub(crate) fn doubt(&self, record: usize, number: u64) {
        let mut uncertain = self
            .uncertain
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        uncertain.count += 1;
        if uncertain.count <= UNCERTAIN_MAX {
            uncertain.by_record.entry(record).or_default().push(number);
        }
    }

    /// Judges a read that began when `known` was the greatest acknowledged number.
    pub(crate) fn judge(&self, record: usize, values: &[Bytes], known: u64) -> Verdict {
        let numbers = || {
            values
                .iter()
                .filter_map(|value| value::number(record, value))
        };
        let newest = numbers().max().unwrap_or(0);
        let mut verdict = Verdict {
            newest,
            stale: newest < known,
            ..Verdict::default()
        };
        if values.len() < 2 {
            return verdict;
        }
        let mut shown: Vec<u64> = numbers().filter(|number| self.first < *number).collect();
        shown.sort_unstable();
        verdict.duplicated = shown.windows(2).any(|pair| pair[0] == pair[1]);
        let uncertain = self
            .uncertain
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let doubted = uncertain.by_record.get(&record);
        let is_doubted = |number| doubted.is_some_and(|doubted| doubted.contains(&number));
        verdict.resurrected = uncertain.count <= UNCERTAIN_MAX
            && shown
                .into_iter()
                .any(|number| number < newest && !is_doubted(number));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ledger: &Ledger, numbers: &[u64]) -> Verdict {
        let values: Vec<_> = numbers
            .iter()
            .map(|number| value::make(3, *number, 20))
            .collect();
        ledger.judge(3, &values, ledger.acknowledged(3))
    }

    #[test]
    fn a_lost_write_shows() {
        let ledger = Ledger::new(4, 0);
        ledger.acknowledge(3, 5);
        ledger.acknowledge(3, 4);
        assert_eq!(ledger.acknowledged(3), 5);
        assert!(judged(&ledger, &[4]).stale);
        assert!(judged(&ledger, &[]).stale);
        assert!(!judged(&ledger, &[2, 5]).stale);
        assert!(!judged(&ledger, &[6]).stale);
        let other = [value::make(2, 9, 20)];
        assert_eq!(
            ledger.judge(3, &other, 5).newest,
            0,
            "a value of another record"
        );
    }

    #[test]
    fn a_replaced_value_beside_its_successor_is_resurrected() {
        let ledger = Ledger::new(4, 2);
        ledger.acknowledge(3, 6);
        assert!(judged(&ledger, &[5, 6]).resurrected);
        ledger.doubt(3, 5);
        assert_eq!(
            judged(&ledger, &[5, 6]),
            Verdict {
                newest: 6,
                ..Verdict::default()
            }
        );
        assert!(judged(&ledger, &[4, 5, 6]).resurrected);
        assert!(!judged(&ledger, &[1, 6]).resurrected, "of an earlier run");
    }

    #[test]
    fn a_value_shown_twice_is_duplicated() {
        let ledger = Ledger::new(4, 0);
        assert!(judged(&ledger, &[6, 6]).duplicated);
        assert!(!judged(&ledger, &[5, 6]).duplicated);
    }
}
