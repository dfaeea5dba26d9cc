//! Planted bugs must be plantable: whoever moves the lines that one changes moves it along.
//!
//! That each is caught is checked by `quorate-sim strength`, which takes too long for a test.

use std::path::Path;

use quorate_sim::strength::mutant;

#[test]
fn every_planted_bug_still_has_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mutants = mutant::all(&root).expect("the bugs can be read");
    assert!(20 <= mutants.len(), "there are {}", mutants.len());
    let lost: Vec<String> = mutants
        .iter()
        .filter_map(|mutant| mutant.plant(&root).err())
        .map(|error| error.to_string())
        .collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
