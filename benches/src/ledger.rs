//! What was acknowledged, and what reads make of it.
//!
//! A record belongs to one client, which numbers its values and writes each with the context of the
//! last answer. So whoever sees a number has seen all acknowledged ones below it: a read that shows
//! only smaller numbers than what was acknowledged before it began is stale, and at the end such a
//! record has lost a write.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_client::Got;

use crate::value;

/// Acknowledged numbers by record, 0 for none.
#[derive(Debug)]
pub(crate) struct Ledger {
    acknowledged: Vec<AtomicU64>,
}

impl Ledger {
    pub(crate) fn new(records: usize) -> Self {
        Self {
            acknowledged: (0..records).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The greatest acknowledged number of a record.
    pub(crate) fn acknowledged(&self, record: usize) -> u64 {
        self.acknowledged[record].load(Ordering::Acquire)
    }

    pub(crate) fn acknowledge(&self, record: usize, number: u64) {
        self.acknowledged[record].fetch_max(number, Ordering::AcqRel);
    }
}

/// The greatest number a read shows, 0 if there is no value.
pub(crate) fn newest(record: usize, got: &Got) -> u64 {
    let numbers = got.siblings.iter().filter_map(|version| {
        let value = version.value.as_ref()?;
        value::number(record, value)
    });
    numbers.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use quorate_client::wire::Version;

    use super::*;

    fn got(numbers: &[u64]) -> Got {
        let version = |number: &u64| Version {
            dot: String::new(),
            value: Some(value::make(3, *number, 20)),
            tombstone: false,
            written_at_ms: 0,
            op_id: bytes::Bytes::new(),
        };
        Got {
            siblings: numbers.iter().map(version).collect(),
            context: None,
            asked: 3,
            answered: 2,
        }
    }

    #[test]
    fn a_lost_write_shows() {
        let ledger = Ledger::new(4);
        ledger.acknowledge(3, 5);
        ledger.acknowledge(3, 4);
        assert_eq!(ledger.acknowledged(3), 5);
        assert!(newest(3, &got(&[4])) < ledger.acknowledged(3));
        assert!(newest(3, &got(&[])) < ledger.acknowledged(3));
        assert!(ledger.acknowledged(3) <= newest(3, &got(&[2, 5])));
        assert!(ledger.acknowledged(3) <= newest(3, &got(&[6])));
        assert_eq!(newest(2, &got(&[9])), 0, "a value of another record");
    }
}
