//! Model, user-space decision and the programs in the kernel are of one mind over random worlds and packet sequences.
//!
//! `BULKHEAD_SEED` repeats a run, `BULKHEAD_SEQUENCES` says how many sequences it has.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bulkhead_tests::equivalence::{Difference, Implementation, Tally, Userspace, run, shrink, story};
use bulkhead_tests::world::{Case, Random, Stage, case, world};

/// Sequences that happen in one world before there is another.
const SEQUENCES_PER_WORLD: u64 = 100;
/// Kinds of difference after which a run gives up.
const MOST_STORIES: usize = 8;

#[test]
fn the_user_space_decision_is_the_models() {
    let stage = Stage::imagined();
    compare(&stage, 100_000, &mut Userspace::new(stage.clone()), |stage| Userspace::new(stage.clone()));
}

fn compare<I: Implementation>(stage: &Stage, sequences: u64, under_test: &mut I, fresh: impl Fn(&Stage) -> I) {
    let seed = number("BULKHEAD_SEED").unwrap_or_else(fresh_seed);
    let sequences = number("BULKHEAD_SEQUENCES").unwrap_or(sequences);
    println!("BULKHEAD_SEED={seed} BULKHEAD_SEQUENCES={sequences}");
    let (mut random, mut tally, begin) = (Random::new(seed), Tally::default(), Instant::now());
    let (mut kinds, mut stories) = (BTreeSet::new(), Vec::new());
    let mut at = world(&mut random, stage);
    for sequence in 0..sequences {
        if sequence % SEQUENCES_PER_WORLD == 0 {
            at = world(&mut random, stage);
        }
        let case = case(&mut random, stage, &at);
        let Some(difference) = run(&case, &mut [under_test], &mut tally) else { continue };
        if kinds.insert(kind(&difference)) {
            let at = format!("sequence {sequence} of BULKHEAD_SEED={seed}");
            stories.push(format!("{at}:\n{}", smallest(&case, &difference, stage, &fresh)));
        }
        if stories.len() == MOST_STORIES {
            break;
        }
    }
    println!("{sequences} sequences, {tally:?}, {:.1} s", begin.elapsed().as_secs_f64());
    assert!(stories.is_empty(), "they differ:\n\n{}", stories.join("\n"));
}

/// What is expected and what is found instead: differences of one kind mostly have one cause.
fn kind(difference: &Difference) -> String {
    let Difference { expected, found, .. } = difference;
    format!("{:?} {:?} {} {:?}", expected.verdict, expected.reasons, found.passes, found.verdict)
}

fn smallest<I: Implementation>(
    case: &Case,
    difference: &Difference,
    stage: &Stage,
    fresh: &impl Fn(&Stage) -> I,
) -> String {
    let differs = |case: &Case| run(case, &mut [&mut fresh(stage)], &mut Tally::default());
    let wanted = kind(difference);
    let small = shrink(case, |case| differs(case).is_some_and(|difference| kind(&difference) == wanted));
    differs(&small).map_or_else(
        || "it differs only after the sequences before it: repeat with the seed".to_owned(),
        |difference| story(&small, &difference),
    )
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}
