//! Values that say whose they are: record and number first, then filler; and the keys of records.
//!
//! Numbers begin at the second in which the run began, so that no value of an earlier run is taken
//! for one of this.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Room for the record and the number.
pub(crate) const VALUE_BYTES_MIN: usize = 16;
/// Room in a number for the writes of one run to one record.
const NUMBER_BITS: u32 = 24;

/// The `number`th value of a record.
pub(crate) fn make(record: usize, number: u64, size: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size);
    bytes.put_u64_le(record as u64);
    bytes.put_u64_le(number);
    let mut word = (record as u64) << 32 ^ number;
    while bytes.len() < size {
        // Filler that does not compress to nothing: the multiplier of Knuth's MMIX generator.
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let room = (size - bytes.len()).min(8);
        bytes.put_slice(&word.to_le_bytes()[..room]);
    }
    bytes.freeze()
}

/// Which value of `record` this is; none if it is none of ours.
pub(crate) fn number(record: usize, value: &[u8]) -> Option<u64> {
    let (mine, rest) = value.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    (u64::from_le_bytes(*mine) == record as u64).then_some(u64::from_le_bytes(*number))
}

/// The keys of a run: records that outlive it, and those it inserts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    records: usize,
    started: u64,
}

impl Names {
    /// `started` is the Unix second in which the run began.
    pub(crate) fn new(records: usize, started: u64) -> Self {
        Self { records, started }
    }

    /// The number below which values are of earlier runs.
    pub(crate) fn first_number(self) -> u64 {
        self.started << NUMBER_BITS
    }

    /// The key of a record. Inserted ones carry the run, so that no two runs insert the same.
    pub(crate) fn key(self, record: usize) -> String {
        match record.checked_sub(self.records) {
            None => format!("r{record:09}"),
            Some(inserted) => format!("i{:x}-{inserted:09}", self.started),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_whose_it_is() {
        for size in [16, 17, 100, 4_096] {
            let value = make(7, 9, size);
            assert_eq!(value.len(), size);
            assert_eq!(number(7, &value), Some(9));
            assert_eq!(number(8, &value), None);
        }
        assert_eq!(number(0, b"short"), None);
    }

    #[test]
    fn runs_insert_keys_of_their_own() {
        let (one, two) = (Names::new(10, 5), Names::new(10, 6));
        assert_eq!(one.key(9), two.key(9));
        assert_ne!(one.key(10), two.key(10));
        assert!(one.first_number() + 1_000_000 < two.first_number());
    }
}
