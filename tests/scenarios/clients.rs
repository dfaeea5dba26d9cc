//! What clients do: forge contexts, pile up siblings, come all at once, have no time.

use bytes::Bytes;
use quorate_client::wire::{Condition, ErrorCode};
use quorate_sim::{Options, history::OpIndex, story::Story};

const KEY: u32 = 0;

/// Row 50: a context counts only as a node gave it out, and only for its key.
#[test]
fn a_forged_context_deletes_nothing() {
    let mut story = Story::begin(50);
    let a = story.owner(KEY, 0);
    let (first, _) = story.put(a, KEY, None);
    story.put(a, 1, None);
    let own = story.get(a, KEY, 2).seen().context;
    let foreign = story.get(a, 1, 2).seen().context;
    let mut changed = own.to_vec();
    changed[12] ^= 1;
    let forgeries = [
        foreign,
        Bytes::from(changed),
        own.slice(..own.len() - 1),
        Bytes::new(),
    ];
    for forged in forgeries {
        let op = story.prepare(KEY, true, None, Condition::None);
        story.world.history.ops[op.at()].forged = Some(forged);
        assert_eq!(story.send(a, op).code(), Some(ErrorCode::BadContext));
    }
    assert_eq!(story.get(a, KEY, 3).ops(), [first]);
    story.end();
}

/// Row 43: beyond the bucket's limit only writes that make fewer siblings are taken.
#[test]
fn too_many_siblings_refuse_only_those_who_add_one() {
    let mut story = Story::begin(43);
    let a = story.owner(KEY, 0);
    let mut written: Vec<OpIndex> = Vec::new();
    let refused = loop {
        let (op, answer) = story.put(a, KEY, None);
        match answer.code() {
            None => written.push(op),
            Some(code) => break code,
        }
        assert!(written.len() < 1_000, "there is a limit");
    };
    assert_eq!(refused, ErrorCode::TooManySiblings);
    let all = story.get(a, KEY, 2);
    assert_eq!(all.ops(), written, "none was dropped to make room");
    let (merged, answer) = story.put(a, KEY, Some(all.seen()));
    assert_eq!(answer.ops(), [merged]);
    assert_eq!(story.get(a, KEY, 3).ops(), [merged]);
    story.end();
}

/// Row 46: what is refused for want of room has not happened.
#[test]
fn overload_is_refused_before_anything_happens() {
    let mut options = Options::calm(46);
    options.limits.requests_max = 2;
    options.workload.retry = 0;
    options.workload.needless_retry = 0;
    let mut story = Story::with(options);
    let a = story.owner(KEY, 0);
    let ops: Vec<OpIndex> = (0..20)
        .map(|_| story.prepare(KEY, false, None, Condition::None))
        .collect();
    let serials: Vec<u64> = ops.iter().map(|&op| story.start(a, op)).collect();
    let answers: Vec<_> = serials
        .into_iter()
        .map(|serial| story.hear(serial))
        .collect();
    let refused = |code| code == Some(ErrorCode::Overloaded);
    let count = answers
        .iter()
        .filter(|answer| refused(answer.code()))
        .count();
    assert!((1..20).contains(&count), "{count} were refused");
    story.wait(1_000);
    let live = story.get(a, KEY, 3).ops();
    for (op, answer) in ops.iter().zip(&answers) {
        assert_eq!(live.contains(op), answer.code().is_none(), "{op:?}");
    }
    story.end();
}

/// Row 46: a request without time left is answered, and never with less than the truth.
#[test]
fn a_request_without_time_is_answered() {
    let mut options = Options::calm(47);
    options.workload.timeout = std::time::Duration::ZERO;
    let mut story = Story::with(options);
    let a = story.owner(KEY, 0);
    let (op, answer) = story.put(a, KEY, None);
    story.wait(5_000);
    let written = story.world.record(a, KEY).is_some();
    match answer.code() {
        None | Some(ErrorCode::UnknownOutcome) => {}
        Some(_) => assert!(!written, "{op:?} was called not applied"),
    }
}
