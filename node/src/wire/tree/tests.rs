//! The bytes of messages about trees, written out. They may only ever be added to.

use quorate_ring::NodeUuid;

use super::*;
use crate::{
    causality::{Actor, Clock, Dot},
    message::Message,
    wire::{decode, golden},
};

const KEY: Bytes = Bytes::from_static(b"key");
const RECORD: Bytes = Bytes::from_static(b"\x00record");

fn place() -> Place {
    Place {
        token: u64::MAX,
        bucket: BucketId(1),
        key: KEY,
    }
}

fn report() -> PairReport {
    PairReport {
        peer: NodeId::new(2),
        n: 3,
        root: 4,
        leads: true,
        generation: 5,
        agreed_ms_ago: Some(6),
        behind_keys: 7,
        moved_keys: 8,
        moved_bytes: 9,
        trouble: "t".to_owned(),
    }
}

fn samples() -> Vec<Message> {
    let prefix = Prefix::new(8, 3).unwrap();
    let mut clock = Clock::new();
    let uuid = NodeUuid::new(7);
    let actor = Actor { uuid, epoch: 2 };
    clock.insert(Dot { actor, n: 5 });
    let epoch = RingEpoch::FIRST;
    let entry = |holds| Entry {
        place: place(),
        holds,
    };
    let bodies = [
        TreeMessage::Ask {
            epoch,
            n: 3,
            branches: vec![Branch { prefix, sum: 9 }],
            doubtful: vec![1],
        },
        TreeMessage::Sums {
            standing: Standing::Ready,
            differing: vec![Differing {
                prefix,
                sums: vec![0, u64::MAX],
            }],
        },
        TreeMessage::AskLeaves {
            epoch,
            n: 3,
            leaves: vec![4],
            after: Some(place()),
        },
        TreeMessage::Leaves {
            entries: vec![
                entry(Holds::Record { clock, hash: 6 }),
                entry(Holds::Unreadable),
            ],
            more: true,
        },
        TreeMessage::Pull {
            places: vec![place()],
        },
        TreeMessage::Pulled {
            records: vec![
                (place(), ReplicaState::Present(RECORD), 0),
                (place(), ReplicaState::Absent, 0),
                (place(), ReplicaState::Unreadable, 0),
            ],
        },
        TreeMessage::Push {
            records: vec![(place(), RECORD, 0)],
        },
        TreeMessage::Pushed { failed: 1 },
        TreeMessage::AskRoots { compare: true },
        TreeMessage::Roots {
            ready: true,
            hints: 1,
            generation: 2,
            pairs: vec![report()],
        },
    ];
    let id = RpcId(0x0102);
    bodies.map(|body| Message::Tree { id, body }).to_vec()
}

/// In the order of [`samples`].
const GOLDEN: &[&str] = &[
    "12000000fa000001020100000000000084a16501a16e03a1629193080309a1649101",
    "15000000fb000001020100000000000082a17301a164919308039200cfffffffffffffffff",
    "23000000fc000001020100000000000084a16501a16e03a16c9104a16183a174cfffffffffffffffffa16201\
     a16bc4036b6579",
    "51000000fd000001020100000000000082a1699285a174cfffffffffffffffffa16201a16bc4036b6579a163\
     c4140100000000000000000000000000000007010205a1680684a174cfffffffffffffffffa16201a16bc403\
     6b6579a16800a16dc3",
    "1a000000fe000001020100000000000081a1699183a174cfffffffffffffffffa16201a16bc4036b6579",
    "62000000ff000001020100000000000081a1699385a174cfffffffffffffffffa16201a16bc4036b6579a173\
     02a172c407007265636f726485a174cfffffffffffffffffa16201a16bc4036b6579a17301a172c40085a174\
     cfffffffffffffffffa16201a16bc4036b6579a17303a172c400",
    "2800000000010001020100000000000081a1699185a174cfffffffffffffffffa16201a16bc4036b6579a173\
     02a172c407007265636f7264",
    "0400000001010001020100000000000081a16601",
    "0a00000002010001020100000000000081a7636f6d70617265c3",
    "8400000003010001020100000000000084a57265616479c3a568696e747301aa67656e65726174696f6e02a5\
     7061697273918aa47065657202a16e03a4726f6f7404a56c65616473c3aa67656e65726174696f6e05ad6167\
     726565645f6d735f61676f06ab626568696e645f6b65797307aa6d6f7665645f6b65797308ab6d6f7665645f\
     627974657309a774726f75626c65a174",
];

#[test]
fn messages_about_trees_have_these_bytes() {
    golden::have_these_bytes(&samples(), GOLDEN);
}

#[test]
fn a_cut_message_about_trees_is_refused() {
    golden::are_refused_when_cut(&samples());
}

#[test]
fn prefixes_that_do_not_exist_are_refused() {
    for (depth, bits) in [(21, 0), (8, 256), (255, 1)] {
        let mut out = BytesMut::new();
        let (e, n, b, d) = (1, 3, vec![(depth, bits, 0)], Vec::new());
        let body = Ask { e, n, b, d };
        append_body(&mut out, kind::TREE_ASK, RpcId(1), &body).unwrap();
        assert!(decode(&out.freeze()).is_err());
    }
}
