//! Buckets that are made and changed by several people at once, by those who are cut off, and while
//! the ring changes.

use std::time::Duration;

use quorate_client::wire::{BucketInfo, ErrorBody, ErrorCode};
use quorate_ring::Phase;
use quorate_sim::{Options, steer::commit, story::Story};

type Told = Result<Vec<BucketInfo>, Option<ErrorBody>>;

/// Five members and perhaps others, and clients who wait for what a node says in the end.
fn patient(seed: u64, spare: usize) -> Story {
    let mut options = Options::calm(seed);
    options.spare = spare;
    options.workload.timeout = Duration::from_secs(10);
    Story::with(options)
}

fn code(told: &Told) -> Option<ErrorCode> {
    match told {
        Err(Some(error)) => Some(error.code),
        Ok(_) | Err(None) => None,
    }
}

fn replicas(told: &Told) -> Option<u8> {
    let list = told.as_ref().ok()?;
    list.first().map(|info| info.n)
}

/// What a node shows of a bucket.
fn shown(story: &mut Story, node: usize, name: &str) -> Told {
    let serial = story.start_bucket(node, "show", name, None);
    story.hear_bucket(serial)
}

/// Row 37, of buckets: of two people who make one bucket at one time and mean different things, one
/// makes it and the other is told that it is there.
#[test]
fn of_two_who_make_one_bucket_one_is_told_that_it_is_there() {
    for seed in 0..6 {
        let mut story = patient(370 + seed, 0);
        let asked =
            [(0, 1), (3, 3)].map(|(node, n)| story.start_bucket(node, "create", "b", Some(n)));
        let told = asked.map(|serial| story.hear_bucket(serial));
        let codes = told.each_ref().map(code);
        assert!(
            [
                [None, Some(ErrorCode::Conflict)],
                [Some(ErrorCode::Conflict), None]
            ]
            .contains(&codes),
            "{told:?}"
        );
        let won = told.iter().find_map(replicas);
        for node in 0..5 {
            let there = shown(&mut story, node, "b");
            assert_eq!(
                replicas(&there),
                won,
                "n{} shows what was agreed on",
                node + 1
            );
        }
        story.end();
    }
}

/// Row 37, of buckets: who is cut off with a minority makes nothing; the majority does, and the
/// others learn what it made.
#[test]
fn a_bucket_is_made_by_the_side_with_the_majority_only() {
    let mut story = patient(376, 0);
    for (few, many) in [3, 4]
        .iter()
        .flat_map(|few| [0, 1, 2].map(|many| (*few, many)))
    {
        story.world.network.set_cut(few, many, true);
        story.world.network.set_cut(many, few, true);
    }
    let few = story.start_bucket(3, "create", "b", Some(1));
    let many = story.start_bucket(0, "create", "b", Some(3));
    let (few, many) = (story.hear_bucket(few), story.hear_bucket(many));
    assert!(
        matches!(
            code(&few),
            Some(ErrorCode::UnknownOutcome | ErrorCode::Unavailable)
        ),
        "{few:?}"
    );
    story.wait(20_000);
    // The others are known to be away by now.
    let again = story.start_bucket(0, "create", "b", Some(2));
    let again = story.hear_bucket(again);
    assert!(
        many.is_ok() || code(&again) == Some(ErrorCode::Conflict),
        "{many:?} {again:?}"
    );
    let refused = story.start_bucket(4, "create", "c", Some(1));
    assert_eq!(
        code(&story.hear_bucket(refused)),
        Some(ErrorCode::Unavailable)
    );
    story.world.network.mend();
    story.wait(20_000);
    for node in 0..5 {
        assert_eq!(
            replicas(&shown(&mut story, node, "b")),
            Some(3),
            "n{}",
            node + 1
        );
        assert_eq!(
            code(&shown(&mut story, node, "c")),
            Some(ErrorCode::UnknownBucket)
        );
    }
    story.end();
}

/// While the ring changes a bucket waits; it is made when that is over, and refused when its time
/// is over before.
#[test]
fn a_bucket_waits_for_the_end_of_a_ring_change() {
    let mut story = patient(378, 2);
    let digest = story.stage(0, &[("join", 5)]);
    story.ring(0, commit(&digest)).expect("it is agreed on");
    assert_ne!(story.decree().phase, Phase::Stable);
    let asked = story.start_bucket(2, "create", "b", Some(2));
    assert_eq!(replicas(&story.hear_bucket(asked)), Some(2));
    assert_eq!(
        story.decree().phase,
        Phase::Stable,
        "the change was over first"
    );
    story.wait_until_settled();
    let digest = story.stage(0, &[("join", 6)]);
    story.world.isolate(6);
    story.ring(0, commit(&digest)).expect("it is agreed on");
    let asked = story.start_bucket(2, "create", "c", Some(2));
    let told = story.hear_bucket(asked);
    assert_eq!(code(&told), Some(ErrorCode::Conflict), "{told:?}");
    story.world.network.mend();
    story.wait_until_settled();
    assert_eq!(
        code(&shown(&mut story, 6, "c")),
        Some(ErrorCode::UnknownBucket)
    );
    assert_eq!(replicas(&shown(&mut story, 6, "b")), Some(2));
    story.end();
}
