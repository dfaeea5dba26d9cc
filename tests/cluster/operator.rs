//! The node through which a ring is changed dies while it does that.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{dev::Dev, pause, writing};

/// What the command says through this node; none if it fails.
fn asked(dev: &Dev, node: u16, args: &[&str]) -> Option<Value> {
    let output = dev
        .command()
        .args([
            "--node",
            &dev.address(node),
            "--timeout",
            "5s",
            "--output",
            "json",
        ])
        .args(args)
        .output()
        .expect("it runs");
    let success = output.status.success();
    success.then(|| serde_json::from_slice(&output.stdout).expect("json"))
}

/// The ring's epoch at these nodes, when it is the same and no change is under way.
fn agreed(dev: &Dev, nodes: &[u16]) -> u64 {
    let limit = Instant::now() + Duration::from_mins(1);
    loop {
        let seen: Vec<_> = nodes.iter().map(|node| ring(dev, *node)).collect();
        if let Some((epoch, state)) = &seen[0]
            && seen.windows(2).all(|pair| pair[0] == pair[1])
            && state == "stable"
        {
            return *epoch;
        }
        assert!(Instant::now() < limit, "they do not agree: {seen:?}");
        pause();
    }
}

fn ring(dev: &Dev, node: u16) -> Option<(u64, String)> {
    let ring = asked(dev, node, &["ring", "show"])?;
    Some((ring["epoch"].as_u64()?, ring["state"].as_str()?.to_owned()))
}

/// Row 38: whoever was asked to change the ring is killed before, while and after it is agreed on.
/// If it was, the others go on as far as they can without it, and take the change back if they
/// are told to; when it is back, all agree.
#[test]
fn a_change_outlives_the_node_that_was_asked_for_it() {
    let dev = Dev::of(4);
    let others = [2, 3, 4];
    writing(&dev, |progress| {
        let mut ends = Vec::new();
        for (round, wait_ms) in [0, 3, 10, 30, 100, 300].into_iter().enumerate() {
            let before = agreed(&dev, &[1, 2, 3, 4]);
            let weight = if round % 2 == 0 { "3" } else { "1" };
            asked(&dev, 1, &["ring", "stage", "weight", "n4", weight]).expect("it is staged");
            let plan = asked(&dev, 1, &["ring", "plan"]).expect("a plan");
            let digest = plan["digest"].as_str().expect("it has one").to_owned();
            let mut commit = dev
                .command()
                .args(["--node", &dev.address(1), "ring", "commit", &digest])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it runs");
            // A process takes some milliseconds to begin at all.
            thread::sleep(Duration::from_millis(10 + wait_ms));
            dev.node("kill", 1);
            progress(50);
            if 2 < round {
                // Nothing to be taken back, or too late for it: then it is refused.
                let taken_back = asked(&dev, 3, &["ring", "abort"]).is_some();
                assert!(!taken_back || before < agreed(&dev, &others));
            }
            progress(50);
            commit.wait().expect("it ends");
            dev.node("start", 1);
            let after = agreed(&dev, &[1, 2, 3, 4]);
            ends.push((before, after));
            asked(&dev, 3, &["ring", "unstage"]).expect("nothing stays behind");
        }
        eprintln!("epochs before and after: {ends:?}");
    });
}
