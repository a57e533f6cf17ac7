//! Everything that fuzzing started from and found holds today: the corpus, without the engine.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_fuzz::{packets, policies};

/// Set, the seeds are written anew.
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

#[test]
fn the_corpus_has_every_seed() {
    for (name, bytes) in packets::seeds::seeds() {
        let path = corpus("packets").join(format!("seed-{name}"));
        if std::env::var_os(BLESS).is_some() {
            fs::write(&path, &bytes).expect("the corpus is writable");
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(found == bytes, "{} is another: with {BLESS}=1 this test writes the seeds anew", path.display());
    }
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")).expect("the examples") {
        let example = entry.expect("readable").path();
        let path = corpus("policies").join(example.file_name().expect("a file"));
        if std::env::var_os(BLESS).is_some() {
            fs::copy(&example, &path).expect("the corpus is writable");
        }
        let same = fs::read(&path).unwrap_or_default() == fs::read(&example).expect("readable");
        assert!(same, "{} is another: with {BLESS}=1 this test writes the seeds anew", path.display());
    }
}
