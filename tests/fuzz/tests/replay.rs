//! Everything that fuzzing started from and found holds today: the corpus, without the engine.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_fuzz::{packets, policies};

/// Set, the corpus gets today's seeds.
const BLESS: &str = "BULKHEAD_BLESS";

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Runs every file, and says which one it was where something does not hold.
fn replay(target: &str, check: fn(&[u8])) {
    let mut files: Vec<PathBuf> = fs::read_dir(corpus(target))
        .expect("the corpus is there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() > 10, "only {} files", files.len());
    let failed: Vec<_> = files
        .iter()
        .filter(|path| {
            let bytes = fs::read(path).expect("readable");
            std::panic::catch_unwind(|| check(&bytes)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "it does not hold of {failed:#?}");
}

#[test]
fn every_packet_of_the_corpus_holds() {
    replay("packets", packets::check);
}

#[test]
fn every_policy_of_the_corpus_holds() {
    replay("policies", policies::check);
}

/// The seeds of today's generator, which may be others than those that the corpus began with.
#[test]
fn every_seed_holds() {
    for (name, bytes) in packets::seeds::seeds() {
        if std::env::var_os(BLESS).is_some() {
            fs::write(corpus("packets").join(format!("seed-{name}")), &bytes).expect("the corpus is writable");
        }
        let result = std::panic::catch_unwind(|| packets::check(&bytes));
        assert!(result.is_ok(), "it does not hold of the seed {name}");
    }
}

#[test]
fn every_example_holds() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    for example in fs::read_dir(examples).expect("the examples") {
        policies::check(&fs::read(example.expect("readable").path()).expect("readable"));
    }
}
