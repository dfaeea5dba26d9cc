//! Reads: of large values, which cross the wire once, and from replicas that are slow.

use quorate_sim::{Options, answers::Answers, story::Story};

const KEY: u32 = 0;
const LARGE: usize = 64 << 10;

fn begin(seed: u64) -> Story {
    Story::with(Options::calm(seed))
}

/// What is answered while something is done.
fn during<T>(story: &mut Story, what: impl FnOnce(&mut Story) -> T) -> (T, Answers) {
    let before = story.world.answers;
    let result = what(story);
    let after = story.world.answers;
    let answers = Answers {
        whole: after.whole - before.whole,
        brief: after.brief - before.brief,
        bytes: after.bytes - before.bytes,
    };
    (result, answers)
}

/// Bytes that nodes answer each other, for one read of 64 KiB from so many replicas.
fn bytes_of_a_read(whole_max: u32, at_owner: bool, r: u8) -> u64 {
    let mut options = Options::calm(61);
    options.limits.whole_max = whole_max;
    let mut story = Story::with(options);
    let owners = [0, 1, 2].map(|place| story.owner(KEY, place));
    let other = (0..5).find(|node| !owners.contains(node));
    let (a, other) = (owners[0], other.expect("there are five nodes"));
    let (op, _) = story.put_large(a, KEY, None, LARGE);
    story.wait(1_500);
    let node = if at_owner { a } else { other };
    // The first one also asks how quick those are whom it does not need.
    story.get(node, KEY, r);
    let (answer, answers) = during(&mut story, |story| story.get(node, KEY, r));
    assert_eq!(answer.ops(), [op]);
    story.end();
    answers.bytes
}

#[test]
#[expect(clippy::print_stdout, reason = "who measures wants to see it")]
fn a_large_value_is_sent_once_or_not_at_all() {
    for (at_owner, where_it_is) in [(true, "an owner"), (false, "another node")] {
        for r in [1, 2, 3] {
            let before = bytes_of_a_read(u32::MAX, at_owner, r);
            let after = bytes_of_a_read(4_096, at_owner, r);
            println!("64 KiB read at {where_it_is}, r={r}: {before} bytes whole, {after} brief");
            let copies = u64::from(!at_owner);
            assert!(after < copies * 66_000 + 1_000, "{after}");
        }
    }
}

#[test]
fn a_version_that_the_whole_record_lacks_is_asked_for() {
    for seed in 62..66 {
        let mut story = begin(seed);
        let [a, b, c] = [0, 1, 2].map(|place| story.owner(KEY, place));
        let (first, _) = story.put_large(a, KEY, None, LARGE);
        story.wait(1_000);
        story.world.isolate(c);
        let (second, _) = story.put_large(b, KEY, None, LARGE);
        story.world.network.mend();
        let (answer, answers) = during(&mut story, |story| story.get(c, KEY, 2));
        assert_eq!(answer.ops(), [first, second]);
        assert!(0 < answers.brief && 0 < answers.whole, "{answers:?}");
        story.end();
    }
}

#[test]
fn a_read_does_not_wait_for_a_replica_that_is_slow_for_once() {
    for slow in [1, 2] {
        let mut story = begin(60);
        let [a, b] = [0, slow].map(|place| story.owner(KEY, place));
        let (op, _) = story.put(a, KEY, None);
        for _ in 0..600 {
            story.get(a, KEY, 2);
        }
        // One of the two others is not asked at all, usually.
        let until = story.world.now + 400_000_000;
        story.world.network.clog(b, a, until);
        let begun = story.world.now;
        assert_eq!(story.get(a, KEY, 2).ops(), [op]);
        let took = story.world.now - begun;
        assert!(took < 15_000_000, "{took} ns");
        story.end();
    }
}

#[test]
fn a_version_that_was_replaced_is_not_asked_for() {
    let mut story = begin(66);
    let [a, b, c] = [0, 1, 2].map(|place| story.owner(KEY, place));
    let (_, answer) = story.put_large(a, KEY, None, LARGE);
    story.wait(1_500);
    story.world.isolate(c);
    let (second, _) = story.put_large(b, KEY, Some(answer.seen()), LARGE);
    story.world.network.mend();
    story.world.isolate(a);
    let (answer, answers) = during(&mut story, |story| story.get(b, KEY, 2));
    assert_eq!(answer.ops(), [second]);
    assert_eq!(answers.whole, 0, "{answers:?}");
    story.world.network.mend();
    story.end();
}

#[test]
fn a_damaged_record_is_read_from_the_others() {
    for seed in 67..71 {
        let mut story = begin(seed);
        let a = story.owner(KEY, 0);
        let (op, _) = story.put_large(a, KEY, None, LARGE);
        story.wait(1_000);
        assert!(story.world.damage(a, KEY), "the record was there");
        assert_eq!(story.get(a, KEY, 2).ops(), [op]);
        assert_eq!(story.get(a, KEY, 2).ops(), [op]);
        story.end();
    }
}
