//! The bytes of messages about hints, written out. They may only ever be added to.

use quorate_ring::NodeUuid;

use super::*;
use crate::{
    causality::{Actor, Clock, Dot},
    message::{Message, Verdict},
    wire::golden,
};

const RECORD: Bytes = Bytes::from_static(b"\x00record");

fn samples() -> Vec<Message> {
    let place = Place {
        token: u64::MAX,
        bucket: BucketId(1),
        key: Bytes::from_static(b"key"),
    };
    let epoch = RingEpoch::new(1);
    let (uuid, owner) = (NodeUuid::new(0xabcd), NodeId::new(2));
    let mut clock = Clock::new();
    let actor = Actor { uuid, epoch: 3 };
    clock.insert(Dot { actor, n: 5 });
    let kept = Kept {
        count: 3,
        bytes: 4,
        oldest_ms: 5,
        per_minute: 6,
        trouble: "t".to_owned(),
    };
    let bodies = vec![
        HintMessage::Keep {
            epoch,
            place: place.clone(),
            owner,
            record: RECORD,
            generation: 9,
        },
        HintMessage::Hand {
            epoch,
            place: place.clone(),
            record: RECORD,
            generation: 9,
        },
        HintMessage::Handed {
            verdict: Verdict::Durable,
            clock,
        },
        HintMessage::Handed {
            verdict: Verdict::Overloaded("disk_full".to_owned()),
            clock: Clock::new(),
        },
        HintMessage::Ask { place },
        HintMessage::Held {
            complete: true,
            hints: vec![(owner, RECORD)],
            generation: 9,
        },
        HintMessage::Count,
        HintMessage::Counted {
            complete: false,
            kept: vec![(owner, kept)],
        },
    ];
    let id = RpcId(0x102);
    let message = |body| Message::Hint { id, body };
    bodies.into_iter().map(message).collect()
}

/// In the order of [`samples`].
const GOLDEN: &[&str] = &[
    "2a000000f0000001020100000000000087a16501a16201a174cfffffffffffffffffa16bc4036b6579a16f02\
     a172c407007265636f7264a16709",
    "27000000f1000001020100000000000086a16501a16201a174cfffffffffffffffffa16bc4036b6579a172c4\
     07007265636f7264a16709",
    "1c000000f2000001020100000000000082a17601a163c414010000000000000000000000000000abcd010305",
    "15000000f2000001020100000000000083a17603a164a96469736b5f66756c6ca163c40100",
    "16000000f3000001020100000000000083a16201a174cfffffffffffffffffa16bc4036b6579",
    "2d000000f4000001020100000000000083a8636f6d706c657465c3a568696e74739182a16f02a172c4070072\
     65636f7264aa67656e65726174696f6e09",
    "01000000f5000001020100000000000080",
    "48000000f6000001020100000000000082a8636f6d706c657465c2a46b6570749186a56f776e657202a5636f\
     756e7403a5627974657304a96f6c646573745f6d7305aa7065725f6d696e75746506a774726f75626c65a174",
];

#[test]
fn messages_about_hints_have_these_bytes() {
    golden::have_these_bytes(&samples(), GOLDEN);
}

#[test]
fn a_cut_message_about_hints_is_refused() {
    golden::are_refused_when_cut(&samples());
}
