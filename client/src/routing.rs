//! Which node gets a request.
//!
//! Pure: told what is known of each candidate, in the order of the key's preference list, it picks
//! one. A write goes to the first replica there is a connection to, since a replica must
//! coordinate it; reads spread over the replicas by how many requests each has in flight. A node
//! that is not known to be reachable comes after those that are: trying it costs the caller time.

/// What is known of a node.
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
}

/// How to choose among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preference {
    /// The first in order.
    First,
    /// The one with the least to do.
    Idlest,
}

/// How good a candidate is; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    class: u8,
    load: usize,
}

impl Score {
    pub(crate) fn of(candidate: Candidate, preference: Preference) -> Self {
        let class = match (candidate.health, candidate.replica) {
            (Health::Up, true) => 0,
            (Health::Untried, true) => 1,
            (Health::Up, false) => 2,
            (Health::Untried, false) => 3,
            (Health::Down, true) => 4,
            (Health::Down, false) => 5,
        };
        let load = match preference {
            Preference::First => 0,
            Preference::Idlest => candidate.in_flight,
        };
        Self { class, load }
    }

    /// True for a replica that is not known to be down: looking further would not find better.
    pub(crate) const fn is_good(self) -> bool {
        self.class <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(candidates: &[(Health, bool, usize)], preference: Preference) -> usize {
        let score = |at: &usize| {
            let (health, replica, in_flight) = candidates[*at];
            let candidate = Candidate {
                health,
                replica,
                in_flight,
            };
            Score::of(candidate, preference)
        };
        (0..candidates.len()).min_by_key(score).unwrap()
    }

    #[test]
    fn a_write_goes_to_the_first_replica_that_is_up() {
        let nodes = [
            (Health::Down, true, 0),
            (Health::Up, true, 9),
            (Health::Up, true, 0),
        ];
        assert_eq!(choose(&nodes, Preference::First), 1);
    }

    #[test]
    fn a_read_goes_to_the_idlest_replica_that_is_up() {
        let nodes = [
            (Health::Up, true, 3),
            (Health::Up, true, 2),
            (Health::Untried, true, 0),
            (Health::Up, false, 0),
        ];
        assert_eq!(choose(&nodes, Preference::Idlest), 1);
    }

    #[test]
    fn an_untried_replica_comes_before_a_node_that_would_forward() {
        let nodes = [(Health::Up, false, 0), (Health::Untried, true, 0)];
        assert_eq!(choose(&nodes, Preference::First), 1);
    }

    #[test]
    fn nodes_that_are_down_come_last_replicas_first() {
        let nodes = [
            (Health::Down, false, 0),
            (Health::Down, true, 5),
            (Health::Untried, false, 0),
        ];
        assert_eq!(choose(&nodes, Preference::Idlest), 2);
        assert_eq!(choose(&nodes[..2], Preference::Idlest), 1);
    }
}
