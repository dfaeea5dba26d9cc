//! An epoch is given out once, and only under a lease that is durable.

use proptest::prelude::*;

use super::sample;
use crate::causality::{EPOCH_LEASE, Minter};

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u16),
    AskForMore,
    MoreIsDurable,
    /// The asked-for lease may or may not have reached the disk.
    Crash(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6_000_u16).prop_map(Step::Take),
        Just(Step::AskForMore),
        Just(Step::MoreIsDurable),
        any::<bool>().prop_map(Step::Crash),
    ]
}

proptest! {
    #[test]
    fn no_epoch_is_taken_twice_or_beyond_the_durable_lease(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut durable = 1 + EPOCH_LEASE;
        let mut minter = Minter::new(sample::uuid(1), 1, durable);
        let mut asked = None;
        let mut last = 0;
        for step in steps {
            match step {
                Step::Take(times) => {
                    for _ in 0..times {
                        let Ok(epoch) = minter.take() else {
                            prop_assert!(minter.wants_extension().is_some());
                            break;
                        };
                        prop_assert!(last < epoch && epoch < durable);
                        last = epoch;
                    }
                }
                Step::AskForMore => asked = asked.or_else(|| minter.wants_extension()),
                Step::MoreIsDurable => {
                    if let Some(end) = asked.take() {
                        durable = end;
                        minter.extended(end);
                    }
                }
                Step::Crash(written) => {
                    let asked = asked.take().filter(|_| written);
                    let start = asked.unwrap_or(durable);
                    durable = start + EPOCH_LEASE;
                    minter = Minter::new(sample::uuid(1), start, durable);
                    prop_assert!(last < minter.boot_epoch());
                }
            }
        }
    }
}

#[test]
fn more_is_asked_for_when_four_fifths_are_used() {
    let mut minter = sample::minter(1);
    for _ in 0..EPOCH_LEASE / 5 * 4 - 1 {
        minter.take().unwrap();
    }
    assert_eq!(minter.wants_extension(), None);
    minter.take().unwrap();
    assert_eq!(minter.wants_extension(), Some(1 + 2 * EPOCH_LEASE));
}
