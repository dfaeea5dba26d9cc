//! Values that say whose they are: record and number first, then filler.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Room for the record and the number.
pub(crate) const VALUE_BYTES_MIN: usize = 16;

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

/// The key of a record.
pub(crate) fn key(record: usize) -> String {
    format!("r{record:09}")
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
}
