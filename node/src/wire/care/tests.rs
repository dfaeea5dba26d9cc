//! The bytes of messages about care, written out. They may only ever be added to.

use super::*;
use crate::{message::Message, wire::golden};

fn samples() -> Vec<Message> {
    let seen = |hash, suspect| Seen {
        place: Place {
            token: u64::MAX,
            bucket: BucketId(1),
            key: Bytes::from_static(b"key"),
        },
        hash,
        suspect,
    };
    let progress = ScrubProgress {
        wished: 2,
        fulfilled: 1,
        passes: 3,
        running: true,
        reached_millionths: 500_000,
        records: 4,
        bytes: 5,
        damaged: 6,
        ended_ms_ago: Some(7),
    };
    let bodies = [
        CareMessage::Scrub { begin: true },
        CareMessage::Scrubbing(progress),
        CareMessage::Inspect {
            first: Bytes::from_static(b"f"),
            end: Bytes::new(),
            look: 2,
        },
        CareMessage::Inspected {
            look: 2,
            records: vec![seen(Some(9), false), seen(None, false), seen(Some(0), true)],
            bytes: 10,
            next: Bytes::from_static(b"n"),
            blind_until: Bytes::from_static(b"b"),
        },
        CareMessage::Drain { on: true },
        CareMessage::Drained { on: false },
        CareMessage::Aside {
            first: Bytes::from_static(b"f"),
        },
        CareMessage::AsideIs {
            records: vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))],
            next: Bytes::from_static(b"n"),
        },
        CareMessage::Discard {
            keys: vec![Bytes::from_static(b"k"), Bytes::from_static(b"l")],
        },
        CareMessage::Discarded { count: 2 },
    ];
    let id = RpcId(0x0102);
    bodies.map(|body| Message::Care { id, body }).to_vec()
}

/// In the order of [`samples`].
const GOLDEN: &[&str] = &[
    "0800000004010001020100000000000081a5626567696ec3",
    "5900000005010001020100000000000089a677697368656402a966756c66696c6c656401a670617373657303\
     a772756e6e696e67c3a772656163686564ce0007a120a77265636f72647304a5627974657305a764616d6167\
     656406ac656e6465645f6d735f61676f07",
    "1600000006010001020100000000000083a56669727374c40166a3656e64c400a46c6f6f6b02",
    "6d00000007010001020100000000000085a46c6f6f6b02a1699384a174cfffffffffffffffffa16201a16bc4\
     036b6579a1680983a174cfffffffffffffffffa16201a16bc4036b657985a174cfffffffffffffffffa16201\
     a16bc4036b6579a16800a178c3a562797465730aa46e657874c4016ea5626c696e64c40162",
    "0500000008010001020100000000000081a26f6ec3",
    "0500000009010001020100000000000081a26f6ec2",
    "0a0000000a010001020100000000000081a56669727374c40166",
    "170000000b010001020100000000000082a1699182a16bc4016ba176c40176a46e657874c4016e",
    "0d0000000c010001020100000000000081a46b65797392c4016bc4016c",
    "080000000d010001020100000000000081a5636f756e7402",
];

#[test]
fn messages_about_care_have_these_bytes() {
    golden::have_these_bytes(&samples(), GOLDEN);
}

#[test]
fn a_cut_message_about_care_is_refused() {
    golden::are_refused_when_cut(&samples());
}
