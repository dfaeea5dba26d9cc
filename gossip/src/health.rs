//! How well this process itself is doing (Lifeguard: Dadgar, Phillips, Currey 2018, section 4.1).
//!
//! Who hears from nobody should doubt its own ears first. Each sign that something is wrong here
//! adds to a score, each probe that is answered takes from it, and all patience grows with it: a
//! process that is slow, starved or cut off accuses few others, and late.

use std::time::Duration;

/// A score from zero, all well, to a maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    score: u32,
    max: u32,
}

impl Health {
    pub(crate) const fn new(max: u32) -> Self {
        Self { score: 0, max }
    }

    pub(crate) const fn score(self) -> u32 {
        self.score
    }

    /// So many signs that something is wrong here.
    pub(crate) fn worse(&mut self, signs: u32) {
        self.score = self.score.saturating_add(signs).min(self.max);
    }

    /// A sign that all is well.
    pub(crate) fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// A waiting time, as long as it has to be.
    pub(crate) fn scale(self, time: Duration) -> Duration {
        time * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_every_sign_up_to_its_maximum_and_comes_back() {
        let mut health = Health::new(4);
        let second = Duration::from_secs(1);
        health.worse(3);
        assert_eq!(health.scale(second), second * 4);
        health.worse(3);
        assert_eq!(health.scale(second), second * 5);
        for _ in 0..9 {
            health.better();
        }
        assert_eq!(health.scale(second), second);
    }

    #[test]
    fn without_a_maximum_there_is_no_multiplier() {
        let mut health = Health::new(0);
        health.worse(u32::MAX);
        assert_eq!(health.scale(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
