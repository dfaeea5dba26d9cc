//! The exhaustive search, as deep as a quick test allows; `quorate-sim search` goes deeper.
//!
//! With any one of the four minting rules left out a shortest history that loses an acknowledged
//! write is found; with all of them there is none of that length, nor a longer one within reach.

use quorate_node::causality::Rule;
use quorate_sim::search::{
    self, Reports, reap,
    transition::{Change, Need},
};

/// The steps of the first loss without the rule.
fn lost_without(rule: Rule) -> usize {
    let reports = search::minting(9, &[rule]);
    let lost = reports.lost();
    lost.unwrap_or_else(|| panic!("nothing is lost without {rule:?}:\n{reports}"))
        .steps
        .len()
}

fn assert_nothing_broken(reports: &Reports) {
    if let Some(finding) = reports.broken() {
        panic!("{finding}\n{reports}");
    }
}

#[test]
fn without_rule_0_a_power_cut_loses_a_write() {
    assert_eq!(lost_without(Rule::Restart), 7);
}

#[test]
fn without_rule_1_a_hand_off_loses_a_write() {
    assert_eq!(lost_without(Rule::Absent), 6);
}

#[test]
fn without_rule_2_a_lost_key_loses_a_write() {
    assert_eq!(lost_without(Rule::Amnesia), 9);
}

#[test]
fn without_rule_3_a_lost_key_loses_a_write() {
    assert_eq!(lost_without(Rule::Received), 9);
}

#[test]
fn with_all_rules_no_short_history_loses_a_write_or_reuses_a_dot() {
    assert_nothing_broken(&search::minting(9, &[]));
}

#[test]
fn a_request_repeated_elsewhere_takes_effect_once_in_every_short_history() {
    assert_nothing_broken(&search::retries(9));
}

#[test]
fn no_history_of_a_ring_change_loses_or_overlooks_an_acknowledged_write() {
    for (r, w) in [(2, 2), (3, 1), (1, 3)] {
        let change = Change {
            r,
            w,
            replaced: 1,
            loss: true,
            without: None,
        };
        let outcome = change.search();
        assert!(outcome.broken.is_none(), "{outcome}");
    }
}

#[test]
fn no_rule_of_a_ring_change_can_be_left_out() {
    let breaks = |need: &Need| {
        [(2, 2), (3, 1), (1, 3)].into_iter().any(|(r, w)| {
            let change = Change {
                r,
                w,
                replaced: 1,
                loss: true,
                without: Some(*need),
            };
            change.search().broken.is_some()
        })
    };
    let needless: Vec<Need> = Need::ALL.into_iter().filter(|need| !breaks(need)).collect();
    assert!(needless.is_empty(), "nothing breaks without {needless:?}");
}

#[test]
fn no_history_of_a_reaped_key_brings_back_what_was_deleted() {
    let outcome = reap::reaping(2, None);
    assert!(outcome.broken.is_none(), "{outcome}");
}

#[test]
fn no_rule_of_reaping_can_be_left_out() {
    for need in reap::Need::ALL {
        let mut few = 2..=3;
        let found = few.find(|writes| reap::reaping(*writes, Some(need)).broken.is_some());
        assert!(found.is_some(), "nothing breaks without {need:?}");
    }
}
