//! Messages about reaping: their bytes, and what is refused.

use super::*;
use crate::wire::{decode, golden};

fn samples() -> Vec<Message> {
    let epoch = RingEpoch::FIRST;
    let place = Place {
        token: u64::MAX,
        bucket: BucketId(1),
        key: Bytes::from_static(b"key"),
    };
    let candidate = |goal| Candidate {
        place: place.clone(),
        digest: 1 << 64 | 2,
        goal,
    };
    let (slot, generation) = (255, 1 << 32);
    let bodies = [
        ReapMessage::Vote {
            epoch,
            slot,
            candidates: vec![candidate(Goal::Reap), candidate(Goal::Compact)],
        },
        ReapMessage::Voted {
            standing: Standing::Good,
            generation,
            agreed: vec![true, false],
        },
        ReapMessage::Fence {
            epoch,
            slot,
            generation,
        },
        ReapMessage::Fenced {
            standing: Standing::Hints,
        },
        ReapMessage::Commit {
            epoch,
            slot,
            generation,
            candidates: vec![candidate(Goal::Reap)],
        },
        ReapMessage::Committed { done: 1 },
        ReapMessage::Behind { slot, generation },
    ];
    let id = RpcId(0x0102);
    bodies.map(|body| Message::Reap { id, body }).to_vec()
}

/// In the order of [`samples`].
const GOLDEN: &[&str] = &[
    "4900000022010001020100000000000083a16501a173ccffa1699286a174cfffffffffffffffffa16201a16b\
     c4036b6579a16801a16c02a1770186a174cfffffffffffffffffa16201a16bc4036b6579a16801a16c02a177\
     02",
    "1700000023010001020100000000000084a17300a167cf0000000100000000a16301a16192c3c2",
    "1300000024010001020100000000000083a16501a173ccffa167cf0000000100000000",
    "0700000025010001020100000000000082a17300a16305",
    "3500000026010001020100000000000084a16501a173ccffa167cf0000000100000000a1699186a174cfffff\
     ffffffffffffa16201a16bc4036b6579a16801a16c02a17701",
    "0700000027010001020100000000000082a17300a16301",
    "1000000028010001020100000000000082a173ccffa167cf0000000100000000",
];

#[test]
fn messages_about_reaping_have_these_bytes() {
    golden::have_these_bytes(&samples(), GOLDEN);
}

#[test]
fn a_cut_message_about_reaping_is_refused() {
    golden::are_refused_when_cut(&samples());
}

#[test]
fn goals_and_standings_that_nobody_knows_are_refused() {
    let id = RpcId(1);
    let mut out = BytesMut::new();
    let body = Body {
        code: 99,
        ..Body::default()
    };
    append_body(&mut out, kind::REAP_FENCED, id, &body).unwrap();
    assert!(decode(&out.freeze()).is_err());
}
