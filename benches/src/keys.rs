//! Which record comes next.
//!
//! Zipf's law by the method of Gray et al., "Quickly generating billion-record synthetic
//! databases", SIGMOD 1994, section 3.2, with the ranks scattered over the records, so that popular
//! ones do not lie side by side.

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::options::KeyDist;

const THETA: f64 = 0.99;
/// A large prime.
const SCATTER: usize = 2_654_435_761;

/// Draws numbers below a maximum.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    Uniform { count: usize },
    Zipf(Zipf),
}

#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: usize,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Keys {
    pub(crate) fn new(dist: KeyDist, count: usize) -> Self {
        match dist {
            KeyDist::Uniform | KeyDist::Latest => Self::Uniform { count },
            KeyDist::Zipf => Self::Zipf(Zipf::new(count)),
        }
    }

    pub(crate) fn next(&self, rng: &mut Pcg64Mcg) -> usize {
        match self {
            Self::Uniform { count } => rng.random_range(0..*count),
            Self::Zipf(zipf) => zipf.next(rng),
        }
    }
}

impl Zipf {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn new(count: usize) -> Self {
        let power = |rank: usize| 1.0 / (rank as f64).powf(THETA);
        let zeta: f64 = (1..=count).map(power).sum();
        let zeta2: f64 = (1..=count.min(2)).map(power).sum();
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta2 / zeta);
        Self {
            count,
            alpha: 1.0 / (1.0 - THETA),
            zeta,
            eta,
        }
    }

    fn next(&self, rng: &mut Pcg64Mcg) -> usize {
        let rank = self.rank(rng.random());
        // An odd multiplier modulo a count that is no power of two is no permutation, and need not
        // be one: two ranks that share a record are both popular.
        rank.wrapping_mul(SCATTER) % self.count
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is a small number, and clamped"
    )]
    fn rank(&self, uniform: f64) -> usize {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1.min(self.count - 1);
        }
        let rank = self.count as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as usize).min(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn shares(dist: KeyDist, count: usize) -> Vec<usize> {
        let keys = Keys::new(dist, count);
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut drawn = vec![0; count];
        for _ in 0..100_000 {
            drawn[keys.next(&mut rng)] += 1;
        }
        drawn.sort_unstable_by(|a, b| b.cmp(a));
        drawn
    }

    #[test]
    fn the_most_popular_record_has_its_share() {
        // 1 / (sum of rank^-0.99 for 1,000 ranks) is 13 %.
        let drawn = shares(KeyDist::Zipf, 1_000);
        assert!((11_000..16_000).contains(&drawn[0]), "{}", drawn[0]);
        assert!(drawn[1] < drawn[0] && drawn[10] < drawn[1]);
    }

    #[test]
    fn uniform_is_even() {
        let drawn = shares(KeyDist::Uniform, 100);
        assert!(drawn[0] < 1_200 && 800 < drawn[99]);
    }

    #[test]
    fn one_record_is_enough() {
        assert_eq!(shares(KeyDist::Zipf, 1), [100_000]);
        assert_eq!(shares(KeyDist::Zipf, 2).len(), 2);
    }
}
