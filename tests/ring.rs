//! Rings that change while everything else goes on: what was acknowledged stays, reads never go
//! back behind it, there is one history of rings, and in the end everybody holds what is theirs.

use quorate_sim::{Options, run};

/// Runs a seed with an operator who never rests, with and without other faults.
fn changes(seed: u64, calm: bool) -> u64 {
    let mut options = if calm {
        Options::calm(seed)
    } else {
        Options::from_seed(seed)
    };
    let harmed = options.classes.bit_rot || options.classes.silent_loss;
    if harmed || options.classes.misdirected {
        // Damage strikes one place of each key's list, which must not change.
        return 0;
    }
    options.spare = 2;
    options.ring_interval = Some(500_000_000);
    options.duration = 20_000_000_000;
    let report = run(options, false);
    if let Some(broken) = report.broken {
        panic!("seed {seed}: {broken}");
    }
    report.faults["ring_changes"]
}

#[test]
fn nodes_join_leave_and_replace_each_other_under_load() {
    let changed: u64 = (0..8).map(|seed| changes(seed, true)).sum();
    assert!(20 < changed, "only {changed} changes came to their end");
}

#[test]
fn rings_change_while_everything_else_fails() {
    let changed: u64 = (100..130).map(|seed| changes(seed, false)).sum();
    assert!(10 < changed, "only {changed} changes came to their end");
}

#[test]
fn who_left_while_another_joined_is_known_after_all_were_started_anew() {
    changes(2225, false);
}
