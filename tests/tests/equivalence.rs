//! Model, user-space decision and the programs in the kernel are of one mind over random worlds and packet sequences.
//!
//! `BULKHEAD_SEED` repeats a run, `BULKHEAD_SEQUENCES` says how many sequences it has.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Instant;

use bulkhead_tests::equivalence::{Difference, Kernel, Tally, Userspace, run, shrink, story};
use bulkhead_tests::world::{Case, Random, Stage, case, world};

/// Sequences that happen in one world before there is another.
const SEQUENCES_PER_WORLD: u64 = 100;
/// The same every time, so that a change is to blame for what it breaks; `cargo xtask fuzz` looks further, with fresh ones.
const SEED: u64 = 20_261_125;
/// Kinds of difference after which a run gives up.
const MOST_STORIES: usize = 8;

#[test]
fn the_user_space_decision_is_the_models() {
    let stage = Stage::imagined();
    let mut userspace = Userspace::new(stage.clone());
    compare(&stage, 50_000, |case, tally| run(case, &mut [&mut userspace], tally), |_| Ok(()));
}

#[test]
fn the_programs_in_the_kernel_decide_as_user_space_and_model_do() {
    let (mut kernel, stage) = Kernel::new().expect("the kernel's tests need root, cgroup v2 and BPF");
    let mut userspace = Userspace::new(stage.clone());
    let implementations = RefCell::new((&mut userspace, &mut kernel));
    let run = |case: &Case, tally: &mut Tally| {
        let (userspace, kernel) = &mut *implementations.borrow_mut();
        run(case, &mut [*userspace, *kernel], tally)
    };
    // Of a single packet the kernel only tells whether it passes; its counters tell the verdicts and reasons.
    let counts = |_: &str| {
        let (userspace, kernel) = &mut *implementations.borrow_mut();
        let (expected, found) = (userspace.take_counts(), kernel.take_counts());
        if expected == found { Ok(()) } else { Err(format!("user space counted {expected:?},\nthe kernel {found:?}")) }
    };
    compare(&stage, 20_000, run, counts);
}

/// Runs random cases. `end_of_world` is asked whether all is well each time before another world begins.
fn compare(
    stage: &Stage,
    sequences: u64,
    mut run: impl FnMut(&Case, &mut Tally) -> Option<Difference>,
    end_of_world: impl Fn(&str) -> Result<(), String>,
) {
    let seed = number("BULKHEAD_SEED").unwrap_or(SEED);
    let sequences = number("BULKHEAD_SEQUENCES").unwrap_or(sequences);
    println!("BULKHEAD_SEED={seed} BULKHEAD_SEQUENCES={sequences}");
    let (mut random, mut tally, begin) = (Random::new(seed), Tally::default(), Instant::now());
    let (mut kinds, mut stories) = (BTreeSet::new(), Vec::new());
    let mut at = world(&mut random, stage);
    for sequence in 0..sequences {
        let place = format!("sequence {sequence} of BULKHEAD_SEED={seed}");
        if sequence % SEQUENCES_PER_WORLD == 0 {
            if stories.is_empty()
                && let Err(problem) = end_of_world(&place)
            {
                panic!("in the {SEQUENCES_PER_WORLD} sequences before {place}: {problem}");
            }
            at = world(&mut random, stage);
        }
        let case = case(&mut random, stage, &at);
        let Some(difference) = run(&case, &mut tally) else { continue };
        if kinds.insert(kind(&difference)) {
            stories.push(format!("{place}:\n{}", smallest(&case, &difference, &mut run)));
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

fn smallest(
    case: &Case,
    difference: &Difference,
    run: &mut impl FnMut(&Case, &mut Tally) -> Option<Difference>,
) -> String {
    let mut differs = |case: &Case| run(case, &mut Tally::default());
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
