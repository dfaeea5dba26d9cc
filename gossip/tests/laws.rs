//! What holds of one detector whatever it is told, and of pages.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use quorate_gossip::{Config, Gossip, Instant, Kind, Message, Output, PAGE_MAX, State, Update};
use quorate_ring::{NodeId, NodeUuid};

const MEMBERS: u64 = 150;

fn row(node: u64, incarnation: u64, state: State) -> Update {
    Update {
        node: NodeId::new(node),
        uuid: NodeUuid::new(u128::from(node)),
        boot: 1,
        incarnation,
        state,
    }
}

fn detector(node: u64, members: u64) -> Gossip {
    let process = (NodeUuid::new(u128::from(node)), 1);
    let peers = (1..=members).map(NodeId::new);
    let config = Config::local();
    Gossip::new(
        config,
        NodeId::new(node),
        process,
        peers,
        node,
        Instant::START,
    )
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Up), Just(State::Suspect), Just(State::Down)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        any::<u64>().prop_map(Kind::Ping),
        any::<u64>().prop_map(Kind::Ack),
        any::<u64>().prop_map(Kind::Nack),
        (any::<u64>(), 0..20_u64).prop_map(|(number, target)| Kind::PingRequest {
            number,
            target: NodeId::new(target)
        }),
        (0..200_u64, any::<u64>()).prop_map(|(first, last)| Kind::Push {
            first: NodeId::new(first),
            last: NodeId::new(last)
        }),
        Just(Kind::Pull),
    ]
}

/// What happens to a detector.
#[derive(Clone, Debug)]
enum Step {
    Hear(u64, Kind, Vec<(u64, u64, State)>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let news = prop::collection::vec((0..20_u64, any::<u64>(), state()), 0..100);
    prop_oneof![
        3 => (0..20_u64, kind(), news).prop_map(|(from, kind, news)| Step::Hear(from, kind, news)),
        2 => (0..3_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Nothing panics, every message keeps to its maximum, the own row is never thought ill of,
    /// no row goes back, and patience stays within its bounds.
    #[test]
    fn a_detector_keeps_its_bounds_whatever_it_hears(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut detector = detector(3, 12);
        let mut now = Instant::START;
        let mut known: BTreeMap<u64, (u64, State)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Hear(from, kind, news) => {
                    let news = news.into_iter().map(|(n, i, s)| row(n, i, s));
                    let message = Message {
                        kind,
                        me: row(from, 1, State::Up),
                        updates: news.collect(),
                    };
                    detector.handle_message(now, NodeId::new(from), message);
                }
                Step::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    detector.handle_timeout(now);
                }
            }
            while let Some(output) = detector.poll_output() {
                if let Output::Send { to, message } = output {
                    prop_assert!(message.updates.len() <= message.kind.updates_max());
                    prop_assert_eq!(message.me.state, State::Up);
                    prop_assert_ne!(to, NodeId::new(3));
                }
            }
            prop_assert!(detector.health() <= Config::local().health_max);
            for node in (1..=12).filter(|node| *node != 3) {
                let update = detector.row(NodeId::new(node)).unwrap().0;
                let row = (update.incarnation, update.state);
                let before = known.insert(node, row);
                prop_assert!(before.is_none_or(|before| before <= row));
            }
        }
    }

    /// One row is news for a number of messages that grows with the logarithm of the members.
    #[test]
    fn news_ride_a_bounded_number_of_times(members in 2_u64..600) {
        let mut detector = detector(1, members);
        while detector.poll_output().is_some() {}
        let told = row(members, 9, State::Suspect);
        let mut rides = 0;
        for number in 0..400 {
            let message = Message {
                kind: Kind::Ping(number),
                me: row(2, 1, State::Up),
                updates: if number == 0 { vec![told] } else { Vec::new() },
            };
            detector.handle_message(Instant::START, NodeId::new(2), message);
            while let Some(output) = detector.poll_output() {
                if let Output::Send { to, message } = output {
                    let carries = message.updates.contains(&told);
                    rides += u32::from(carries && to != told.node);
                }
            }
        }
        let bits = u64::BITS - members.leading_zeros();
        prop_assert!(members == 2 || 0 < rides);
        prop_assert!(rides <= 3 * bits + 3);
    }
}

/// Hands on what one says, losing whatever is no page; how many rows the largest one had.
fn hand_on(now: Instant, one: &mut Gossip, other: &mut Gossip) -> Option<usize> {
    let mut most = None;
    while let Some(output) = one.poll_output() {
        if let Output::Send { message, .. } = output
            && matches!(message.kind, Kind::Push { .. } | Kind::Pull)
        {
            most = most.max(Some(message.updates.len()));
            // Whoever it was for: here there are two.
            other.handle_message(now, message.me.node, message);
        }
    }
    most
}

#[test]
fn pages_carry_what_no_news_did() {
    let (mut a, mut b) = (detector(1, MEMBERS), detector(2, MEMBERS));
    for node in 3..=MEMBERS {
        let states = [State::Up, State::Suspect, State::Down];
        let told = row(node, node, states[usize::try_from(node % 3).unwrap()]);
        let message = Message {
            kind: Kind::Ack(0),
            me: row(2, 1, State::Up),
            updates: vec![told],
        };
        a.handle_message(Instant::START, NodeId::new(2), message);
    }
    let mut now = Instant::START;
    let mut most = 0;
    for _ in 0..6_000 {
        now = now + Duration::from_millis(100);
        a.handle_timeout(now);
        b.handle_timeout(now);
        loop {
            let there = hand_on(now, &mut a, &mut b);
            let back = hand_on(now, &mut b, &mut a);
            most = most.max(there.max(back).unwrap_or(0));
            if there.is_none() && back.is_none() {
                break;
            }
        }
    }
    assert!(0 < most && most <= PAGE_MAX);
    for node in (3..=MEMBERS).map(NodeId::new) {
        let seen = |detector: &Gossip| detector.row(node).unwrap().0.incarnation;
        assert_eq!(seen(&a), seen(&b), "{node}");
    }
}
