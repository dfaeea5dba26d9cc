//! What a directory remembers of itself: its last lives, each with a random mark.
//!
//! Lives are numbered from one. Two directories that were one once agree on the lives they had in
//! common, and on no later one; so whoever knows one life can tell whether a directory goes on
//! from it. A few are enough: a directory that nobody takes note of begins no new ones but by being
//! started.

use bytes::{BufMut as _, BytesMut};

/// Lives that a directory remembers.
pub const LIVES_MAX: usize = 8;

/// The last lives of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    number: u64,
    /// Newest first; as many count as there have been.
    marks: [u64; LIVES_MAX],
}

impl Lives {
    /// The lives of that number and before; none if there are too many marks, or too few.
    #[must_use]
    pub fn of(number: u64, newest_first: &[u64]) -> Option<Self> {
        let mut marks = [0; LIVES_MAX];
        marks
            .get_mut(..newest_first.len())?
            .copy_from_slice(newest_first);
        let lives = Self { number, marks };
        (lives.marks().len() == newest_first.len()).then_some(lives)
    }

    /// One more.
    #[must_use]
    pub fn and(self, mark: u64) -> Self {
        let mut marks = [mark; LIVES_MAX];
        marks[1..].copy_from_slice(&self.marks[..LIVES_MAX - 1]);
        Self {
            number: self.number + 1,
            marks,
        }
    }

    /// Number and mark of the last one; zeros if there was none.
    #[must_use]
    pub const fn newest(&self) -> (u64, u64) {
        (self.number, self.marks[0])
    }

    /// Marks of those remembered, newest first.
    #[must_use]
    pub fn marks(&self) -> &[u64] {
        let count = usize::try_from(self.number).unwrap_or(LIVES_MAX);
        &self.marks[..count.min(LIVES_MAX)]
    }

    /// Whether that life was one of these; none if it is too long ago to be remembered.
    #[must_use]
    pub fn include(&self, number: u64, mark: u64) -> Option<bool> {
        let Some(ago) = self.number.checked_sub(number) else {
            return Some(false);
        };
        let ago = usize::try_from(ago).unwrap_or(LIVES_MAX);
        self.marks().get(ago).map(|known| *known == mark)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.number);
        for mark in self.marks() {
            out.put_u64_le(*mark);
        }
    }

    /// The reverse of [`put`](Self::put); none if bytes are missing.
    pub(super) fn take(rest: &mut &[u8]) -> Option<Self> {
        let mut word = || {
            let (head, tail) = rest.split_first_chunk()?;
            *rest = tail;
            Some(u64::from_le_bytes(*head))
        };
        let number = word()?;
        let count = usize::try_from(number).unwrap_or(LIVES_MAX).min(LIVES_MAX);
        let marks: Option<Vec<u64>> = (0..count).map(|_| word()).collect();
        Self::of(number, &marks?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_were_one_agree_on_what_they_had_in_common() {
        let common = (1..=20).fold(Lives::default(), Lives::and);
        let (one, two) = (common.and(100).and(101), common.and(200));
        assert_eq!(one.include(20, 20), Some(true));
        assert_eq!(two.include(20, 20), Some(true));
        assert_eq!(one.include(21, 200), Some(false));
        assert_eq!(two.include(22, 101), Some(false), "has not lived it yet");
        assert_eq!(one.include(3, 7), None, "long ago");
        assert_eq!(Lives::default().include(1, 7), Some(false));
    }

    #[test]
    fn lives_survive_their_bytes() {
        let mut lives = Lives::default();
        for mark in 0..20 {
            let mut out = BytesMut::new();
            lives.put(&mut out);
            let mut rest = &out[..];
            assert_eq!(Lives::take(&mut rest), Some(lives));
            assert!(rest.is_empty());
            assert_eq!(Lives::take(&mut &out[..out.len() - 1]), None);
            lives = lives.and(mark);
        }
    }
}
