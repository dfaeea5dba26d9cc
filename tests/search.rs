//! The exhaustive search, as deep as a quick test allows; `quorate-sim search` goes deeper.
//!
//! With any one of the four minting rules left out a shortest history that loses an acknowledged
//! write is found; with all of them there is none of that length, nor a longer one within reach.

use quorate_node::causality::Rule;
use quorate_sim::search::{self, Reports};

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
