//! Which record comes next: the distributions of YCSB (Cooper et al., "Benchmarking cloud serving
//! systems with YCSB", 2010), with the constants of its Java sources.
//!
//! `zipf` is its scrambled Zipfian: a rank among ten billion by Zipf's law with exponent 0.99,
//! scattered over the records by a hash, so that the most popular record gets 3.8 % of the requests
//! however many records there are. `latest` is its skewed latest: a rank by Zipf's law over those
//! that exist, counted back from the newest. Which operation comes next is not decided here.

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::options::KeyDist;

const THETA: f64 = 0.99;
/// What scrambled ranks are drawn from.
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;
/// The sum of rank^-0.99 over all of those.
const SCRAMBLED_ZETA: f64 = 26.469_028_201_783_02;

/// Draws records below a count that may grow.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    Uniform,
    Zipf(Zipf),
    Latest(Zipf),
}

/// Zipf's law by the method of Gray et al., "Quickly generating billion-record synthetic
/// databases", SIGMOD 1994, section 3.2.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    items: u64,
    zeta: f64,
    eta: f64,
}

impl Keys {
    pub(crate) fn new(dist: KeyDist, count: usize) -> Self {
        match dist {
            KeyDist::Uniform => Self::Uniform,
            KeyDist::Zipf => Self::Zipf(Zipf::with_zeta(SCRAMBLED_ITEMS, SCRAMBLED_ZETA)),
            KeyDist::Latest => {
                let mut zipf = Zipf::with_zeta(0, 0.0);
                zipf.grow(count as u64);
                Self::Latest(zipf)
            }
        }
    }

    /// A record below `count`, which is above zero and never shrinks.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below a count that is a usize"
    )]
    pub(crate) fn next(&mut self, rng: &mut Pcg64Mcg, count: usize) -> usize {
        let items = count as u64;
        match self {
            Self::Uniform => rng.random_range(0..count),
            Self::Zipf(zipf) => (fnv(zipf.rank(rng.random())) % items) as usize,
            Self::Latest(zipf) => {
                zipf.grow(items);
                count - 1 - (zipf.rank(rng.random()).min(items - 1)) as usize
            }
        }
    }
}

impl Zipf {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn with_zeta(items: u64, zeta: f64) -> Self {
        let zeta_two = 1.0 + power(2);
        let eta = (1.0 - (2.0 / items.max(1) as f64).powf(1.0 - THETA)) / (1.0 - zeta_two / zeta);
        Self { items, zeta, eta }
    }

    /// Adds what more items add to the sum.
    fn grow(&mut self, items: u64) {
        if self.items < items {
            let more: f64 = (self.items + 1..=items).map(power).sum();
            *self = Self::with_zeta(items, self.zeta + more);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is a small number, and clamped"
    )]
    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + power(2) {
            return 1;
        }
        let base = self.eta * uniform - self.eta + 1.0;
        let rank = self.items as f64 * base.powf(1.0 / (1.0 - THETA));
        (rank as u64).min(self.items.saturating_sub(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn power(rank: u64) -> f64 {
    (rank as f64).powf(-THETA)
}

/// The 64-bit FNV-1a hash of a number, as YCSB has it: signed, and made positive.
fn fnv(mut number: u64) -> u64 {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    for _ in 0..8 {
        hash ^= number & 0xff;
        hash = hash.wrapping_mul(1_099_511_628_211);
        number >>= 8;
    }
    hash.cast_signed().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const DRAWS: usize = 100_000;

    fn drawn(dist: KeyDist, count: usize) -> Vec<usize> {
        let mut keys = Keys::new(dist, count);
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut drawn = vec![0; count];
        for _ in 0..DRAWS {
            drawn[keys.next(&mut rng, count)] += 1;
        }
        drawn
    }

    #[test]
    fn the_scrambled_favourite_has_its_share_wherever_it_lies() {
        // 1 / 26.469 is 3.78 %; a share of the long tail comes on top.
        let mut zipf = drawn(KeyDist::Zipf, 100_000);
        let favourite = zipf[usize::try_from(fnv(0) % 100_000).unwrap()];
        assert!((3_600..4_000).contains(&favourite), "{favourite}");
        assert!(zipf[0] < 1_000, "the first record is nothing special");
        zipf.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(zipf[0], favourite);
        // The second rank: 2^-0.99 of the first.
        assert!((1_750..2_150).contains(&zipf[1]), "{}", zipf[1]);
    }

    #[test]
    fn the_latest_are_read_most_by_zipf_over_what_exists() {
        // 1 / (sum of rank^-0.99 for 1,000 ranks) is 13 %, for the newest.
        let latest = drawn(KeyDist::Latest, 1_000);
        assert!((12_000..14_000).contains(&latest[999]), "{}", latest[999]);
        assert!((6_000..7_200).contains(&latest[998]), "{}", latest[998]);
        assert!(latest[0] < latest[900]);
    }

    #[test]
    fn the_latest_follow_as_records_are_added() {
        let (mut grown, mut made) = (
            Keys::new(KeyDist::Latest, 10),
            Keys::new(KeyDist::Latest, 500),
        );
        let mut one = Pcg64Mcg::seed_from_u64(2);
        for count in 11..500 {
            assert!(grown.next(&mut one, count) < count);
        }
        let (mut one, mut two) = (Pcg64Mcg::seed_from_u64(3), Pcg64Mcg::seed_from_u64(3));
        for _ in 0..1_000 {
            assert_eq!(grown.next(&mut one, 500), made.next(&mut two, 500));
        }
    }

    #[test]
    fn uniform_is_even() {
        let drawn = drawn(KeyDist::Uniform, 100);
        assert!(drawn.iter().all(|times| (800..1_200).contains(times)));
    }

    #[test]
    fn one_record_is_enough() {
        for dist in [KeyDist::Zipf, KeyDist::Uniform, KeyDist::Latest] {
            assert_eq!(drawn(dist, 1), [DRAWS]);
            assert_eq!(drawn(dist, 2).iter().sum::<usize>(), DRAWS);
        }
    }

    #[test]
    fn the_hash_is_the_usual_fnv() {
        // FNV-1a of eight zero bytes, as a negative number made positive.
        assert_eq!(
            fnv(0),
            0xa8c7_f832_281a_39c5_u64.cast_signed().unsigned_abs()
        );
    }
}
