//! Which node gets a request.
//!
//! Pure: told what is known of each candidate, in the order of the key's preference list, and a
//! random word, it picks one. Candidates are ranked first by what they are: a replica before a
//! node that would have to ask or forward, a node that answers before one that is *gray* (it is
//! connected, but slow or silent beside the others), and last who cannot be reached. Among the
//! best of these a read draws two and takes the one that will answer sooner, by what its answers
//! took and how many it owes (the power of two choices: the best of all would be everybody's, and
//! then the worst). A write goes to the first in order, so that the versions of a key are named by
//! one node, unless the second would be much faster.

use std::time::Duration;

/// What is known of a node's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// There is a connection.
    Up,
    /// Nobody has tried.
    Untried,
    /// The last try failed.
    Down,
}

/// A node that may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) health: Health,
    /// Whether it holds the key.
    pub(crate) replica: bool,
    /// Requests of ours that it has not answered.
    pub(crate) in_flight: usize,
    /// What its answers take; zero if that is not known.
    pub(crate) latency: Duration,
    /// It owes answers and has given none for longer than is usual with it.
    pub(crate) silent: bool,
}

/// How to choose among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preference {
    /// The first in order.
    First,
    /// The one that will answer soonest.
    Soonest,
    /// Any node, replica or not: what a client does that knows no ring.
    Any,
}

/// So many times slower than the fastest is gray...
const GRAY_FACTOR: u32 = 4;
/// ...if it is slower by this at least: less is the network's or the machine's own noise.
const GRAY_MIN: Duration = Duration::from_millis(10);
/// The first replica coordinates a write unless the second would be so many times faster.
const MUCH_FASTER: u64 = 3;

impl Candidate {
    /// About the microseconds until one more request is answered.
    fn cost(&self) -> u64 {
        let latency = u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX >> 20);
        latency
            .max(1)
            .saturating_mul(u64::try_from(self.in_flight).unwrap_or(u64::MAX) + 1)
    }

    fn is_gray(&self, fastest: Duration) -> bool {
        let slow = (fastest * GRAY_FACTOR).max(fastest + GRAY_MIN);
        self.silent || slow < self.latency
    }

    /// What it is; the least is the best.
    fn class(&self, fastest: Duration) -> u8 {
        let class = match self.health {
            Health::Up if self.is_gray(fastest) => 4,
            Health::Up => 0,
            // Nobody knows it: before one that would have to ask another.
            Health::Untried => 1,
            Health::Down => 6,
        };
        match (self.replica, class) {
            (true, class) => class,
            (false, 0 | 1) => class + 2,
            (false, class) => class + 1,
        }
    }
}

fn fastest(candidates: &[Candidate]) -> Duration {
    let known = candidates
        .iter()
        .filter(|one| one.health == Health::Up && !one.silent && !one.latency.is_zero());
    let fastest = known.map(|one| one.latency).min();
    fastest.unwrap_or(Duration::MAX / (2 * GRAY_FACTOR))
}

/// True for a replica that is neither down nor gray: looking further would not find better.
pub(crate) fn is_good(candidates: &[Candidate], at: usize) -> bool {
    candidates[at].class(fastest(candidates)) <= 1
}

/// The place of the best among `candidates`; `word` is random. None only if there are none.
pub(crate) fn pick(candidates: &[Candidate], preference: Preference, word: u64) -> Option<usize> {
    let fastest = fastest(candidates);
    let class = |one: &Candidate| match preference {
        Preference::Any => u8::from(one.health == Health::Down),
        Preference::First | Preference::Soonest => one.class(fastest),
    };
    let best = candidates.iter().map(class).min()?;
    let equals: Vec<usize> = (0..candidates.len())
        .filter(|at| class(&candidates[*at]) == best)
        .collect();
    let cost = |at: &usize| candidates[*at].cost();
    match preference {
        Preference::First => match equals[..] {
            [first, second, ..] if MUCH_FASTER * cost(&second) < cost(&first) => Some(second),
            _ => equals.first().copied(),
        },
        Preference::Any => Some(equals[draw(word, equals.len())]),
        Preference::Soonest => {
            let one = draw(word, equals.len());
            if equals.len() == 1 {
                return Some(equals[one]);
            }
            let other = (one + 1 + draw(word >> 32, equals.len() - 1)) % equals.len();
            let (one, other) = (equals[one], equals[other]);
            Some(if cost(&other) < cost(&one) {
                other
            } else {
                one
            })
        }
    }
}

/// A number below `bound`, which is small, from 32 random bits.
fn draw(word: u64, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("few nodes");
    usize::try_from(((word & 0xffff_ffff) * bound) >> 32).expect("below a small number")
}

/// Spreads a counter over all words: the finaliser of splitmix64.
pub(crate) const fn scatter(count: u64) -> u64 {
    let word = count.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn replica() -> Candidate {
        Candidate {
            health: Health::Up,
            replica: true,
            in_flight: 0,
            latency: MS,
            silent: false,
        }
    }

    fn other() -> Candidate {
        let mut other = replica();
        other.replica = false;
        other
    }

    fn with(candidate: Candidate, health: Health) -> Candidate {
        Candidate {
            health,
            ..candidate
        }
    }

    /// How often each is picked.
    fn picks(candidates: &[Candidate], preference: Preference) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for count in 0..3000 {
            counts[pick(candidates, preference, scatter(count)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn a_write_goes_to_the_first_replica_that_is_up() {
        let busy = Candidate {
            in_flight: 1,
            ..replica()
        };
        let nodes = [with(replica(), Health::Down), busy, replica()];
        assert_eq!(picks(&nodes, Preference::First), [0, 3000, 0]);
    }

    #[test]
    fn a_write_goes_to_the_second_if_that_is_much_faster() {
        let busy = Candidate {
            in_flight: 9,
            ..replica()
        };
        assert_eq!(picks(&[busy, replica()], Preference::First), [0, 3000]);
    }

    #[test]
    fn reads_avoid_the_worst_and_do_not_all_go_to_the_best() {
        let busy = |in_flight| Candidate {
            in_flight,
            ..replica()
        };
        let counts = picks(&[busy(3), busy(0), busy(9)], Preference::Soonest);
        assert_eq!(counts[2], 0);
        assert!(800 < counts[0] && 1800 < counts[1], "{counts:?}");
    }

    #[test]
    fn reads_among_equals_are_spread_evenly() {
        let counts = picks(&[replica(); 3], Preference::Soonest);
        assert!(counts.iter().all(|count| (900..1100).contains(count)));
    }

    #[test]
    fn latency_and_what_is_owed_count_together() {
        let near = Candidate {
            in_flight: 3,
            ..replica()
        };
        let far = Candidate {
            latency: 3 * MS,
            ..replica()
        };
        // The near one would take four milliseconds, the far one three.
        assert_eq!(picks(&[near, far], Preference::Soonest), [0, 3000]);
    }

    #[test]
    fn who_is_gray_comes_after_every_node_that_answers() {
        let slow = Candidate {
            latency: 50 * MS,
            ..replica()
        };
        let silent = Candidate {
            silent: true,
            ..replica()
        };
        for preference in [Preference::First, Preference::Soonest] {
            for gray in [slow, silent] {
                assert_eq!(picks(&[gray, replica()], preference), [0, 3000]);
                assert_eq!(picks(&[gray, other()], preference), [0, 3000]);
                let down = with(replica(), Health::Down);
                assert_eq!(picks(&[gray, down], preference), [3000, 0]);
            }
            let unknown = with(other(), Health::Untried);
            assert_eq!(picks(&[silent, unknown], preference), [0, 3000]);
        }
    }

    #[test]
    fn nobody_is_gray_for_noise_or_when_all_are_slow() {
        let jittery = Candidate {
            latency: 9 * MS,
            ..replica()
        };
        let counts = picks(&[jittery, replica(), replica()], Preference::First);
        assert_eq!(counts, [0, 3000, 0]);
        let slow = Candidate {
            latency: 300 * MS,
            ..replica()
        };
        assert_eq!(picks(&[slow, slow], Preference::First), [3000, 0]);
    }

    #[test]
    fn an_untried_replica_comes_before_a_node_that_would_forward() {
        let nodes = [other(), with(replica(), Health::Untried)];
        assert_eq!(picks(&nodes, Preference::First), [0, 3000]);
    }

    #[test]
    fn nodes_that_are_down_come_last_replicas_first() {
        let nodes = [
            with(other(), Health::Down),
            with(replica(), Health::Down),
            with(other(), Health::Untried),
        ];
        assert_eq!(picks(&nodes, Preference::Soonest), [0, 0, 3000]);
        assert_eq!(picks(&nodes[..2], Preference::Soonest), [0, 3000]);
        assert_eq!(pick(&[], Preference::Soonest, 7), None);
    }

    #[test]
    fn who_knows_no_ring_asks_anybody_who_is_there() {
        let nodes = [replica(), other(), with(replica(), Health::Down)];
        let counts = picks(&nodes, Preference::Any);
        assert!((1400..1600).contains(&counts[0]) && counts[2] == 0);
    }

    /// A queue at each of three nodes; one serves a tenth as fast. Told only how long its answers
    /// took and what it owes, routing gives it little, and the others share the rest.
    #[test]
    fn a_slow_node_gets_few_reads_and_the_others_share_the_rest() {
        let service = [100_u64, 100, 1000];
        let mut free_at = [0_u64; 3];
        let mut owed: [Vec<(u64, u64)>; 3] = Default::default();
        let mut latency = [0_u64; 3];
        let mut counts = [0_u32; 3];
        for (now, count) in (0..).step_by(60).zip(0..20_000) {
            for node in 0..3 {
                let done = owed[node].extract_if(.., |(ends, _)| *ends <= now);
                for (ends, began) in done.collect::<Vec<_>>() {
                    latency[node] = (7 * latency[node] + ends - began) / 8;
                }
            }
            let candidates = [0, 1, 2].map(|node: usize| Candidate {
                in_flight: owed[node].len(),
                latency: Duration::from_micros(latency[node]),
                ..replica()
            });
            let node = pick(&candidates, Preference::Soonest, scatter(count)).unwrap();
            counts[node] += 1;
            free_at[node] = free_at[node].max(now) + service[node];
            owed[node].push((free_at[node], now));
        }
        assert!(counts[2] < 2_000, "{counts:?}");
        assert!(counts[0].abs_diff(counts[1]) < 1_000, "{counts:?}");
    }
}
