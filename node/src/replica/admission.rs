//! What must hold of a key's merged state just before a write is minted on it.
//!
//! Decides on preconditions, on the limit of siblings and on the space that is left. An operation
//! that has been done already is let through whatever holds: its answer is what it wrote. It does
//! not merge, and does not know what replicas or quorums are.

use super::{Intent, Precondition, Refusal};
use crate::causality::Container;

pub(super) fn check(local: Option<&Container>, intent: &Intent) -> Result<(), Refusal> {
    if local.is_some_and(|local| local.knows(intent.write.op).is_some()) {
        return Ok(());
    }
    // A delete makes room in the end.
    if intent.disk_low && intent.write.value.is_some() {
        return Err(Refusal::Limit("disk_full"));
    }
    let stamp = local
        .and_then(Container::stamp)
        .max(intent.write.context.stamp);
    if intent.stamp_max.is_some_and(|most| Some(most) <= stamp) {
        return Err(Refusal::Limit("clock_skew"));
    }
    let Some(local) = local else {
        return match intent.precondition {
            Precondition::Match => Err(Refusal::PreconditionFailed),
            Precondition::None | Precondition::Absent => Ok(()),
        };
    };
    let clock = &intent.write.context.clock;
    let mut dots = local.siblings().map(|(dot, _)| dot);
    let replaces = dots.clone().any(|dot| clock.covers(dot));
    let count = dots.clone().count();
    // Where the last write wins there is only one.
    let replaces = replaces || intent.stamp_max.is_some();
    if intent.siblings_max <= count && !replaces {
        return Err(Refusal::TooManySiblings(count));
    }
    let now = intent.write.now_ms;
    let live = local.live_values(now).next().is_some();
    let holds = match intent.precondition {
        Precondition::None => true,
        Precondition::Match => live && dots.all(|dot| clock.covers(dot)),
        Precondition::Absent => !live,
    };
    if holds {
        Ok(())
    } else {
        Err(Refusal::PreconditionFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{
        Stamp,
        tests::sample::{minter, put, write},
    };

    fn intent(id: u128, value: Option<&str>, disk_low: bool, siblings_max: usize) -> Intent {
        Intent {
            write: write(id, value),
            base: None,
            generation: 0,
            siblings_max,
            stamp_max: None,
            disk_low,
            precondition: Precondition::None,
        }
    }

    #[test]
    fn with_little_space_new_data_is_refused_and_a_delete_is_not() {
        let refused = check(None, &intent(1, Some("milk"), true, 100)).unwrap_err();
        assert_eq!(refused, Refusal::Limit("disk_full"));
        check(None, &intent(2, None, true, 100)).unwrap();
        check(None, &intent(3, Some("milk"), false, 100)).unwrap();
    }

    #[test]
    fn a_write_done_already_is_answered_however_little_space_there_is() {
        let done = put(None, &mut minter(1), 1, &[], Some("milk"));
        check(Some(&done), &intent(1, Some("milk"), true, 1)).unwrap();
    }

    #[test]
    fn no_write_is_stamped_above_what_is_not_believed() {
        let mut doomed = intent(1, Some("milk"), false, 1);
        doomed.write.context.stamp = Some(Stamp::at_ms(5));
        doomed.stamp_max = Some(Stamp::at_ms(6));
        check(None, &doomed).unwrap();
        doomed.stamp_max = Some(Stamp::at_ms(5));
        let refused = check(None, &doomed).unwrap_err();
        assert_eq!(refused, Refusal::Limit("clock_skew"));
    }

    #[test]
    fn where_the_last_write_wins_one_version_is_not_too_many() {
        let one = put(None, &mut minter(1), 1, &[], Some("milk"));
        let mut second = intent(2, Some("eggs"), false, 1);
        second.stamp_max = Some(Stamp::at_ms(6));
        check(Some(&one), &second).unwrap();
    }

    #[test]
    fn beyond_the_limit_of_siblings_only_a_write_that_has_seen_one_is_let_in() {
        let mut minter = minter(1);
        let one = put(None, &mut minter, 1, &[], Some("milk"));
        let two = put(Some(&one), &mut minter, 2, &[], Some("eggs"));
        let mut third = intent(3, Some("tea"), false, 2);
        let refused = check(Some(&two), &third).unwrap_err();
        assert_eq!(refused, Refusal::TooManySiblings(2));
        third.write.context = one.context();
        check(Some(&two), &third).unwrap();
    }
}
