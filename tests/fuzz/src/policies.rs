//! The text of policy files: what holds of it, whatever it is.
//!
//! A form feed, which no YAML may hold, separates files.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead::policy::compile::{GroupSet, RuleNumbers, TooLarge, compile};
use bulkhead::policy::model::{Origin, PolicySet};
use bulkhead::policy::problem::Problem;
use bulkhead::policy::validate::{PolicyFile, validate};
use bulkhead::policy::warnings::warnings;
use bulkhead_ebpf::abi::{DENY_ENTRIES, SLOTS};

const FILE_SEPARATOR: char = '\u{c}';

/// Validates, and compiles what holds.
///
/// # Panics
/// Something does not hold.
pub fn check(input: &[u8]) {
    // A file that is no UTF-8 is refused before it gets here.
    let Ok(text) = std::str::from_utf8(input) else { return };
    let files: Vec<PolicyFile> = text
        .split(FILE_SEPARATOR)
        .enumerate()
        .map(|(number, text)| PolicyFile { path: path(number), text: text.to_owned() })
        .collect();
    let result = validate(&files);
    assert_eq!(validate(&files), result, "the same text, validated twice");
    match result {
        Ok(policy) => check_policy(&policy, &files),
        Err(problems) => check_problems(&problems, &files),
    }
}

fn path(number: usize) -> Arc<PathBuf> {
    Arc::new(format!("{number}.yaml").into())
}

fn check_policy(policy: &PolicySet, files: &[PolicyFile]) {
    for warning in warnings(policy) {
        check_problem(&warning, files);
    }
    let origins = policy.groups.iter().flat_map(|group| {
        let rules = group.all_rules();
        rules.map(|rule| &rule.origin).chain([&group.origin])
    });
    let rails =
        policy.guardrails.iter().flat_map(|rail| rail.entries.iter().map(|entry| &entry.origin).chain([&rail.origin]));
    origins.chain(rails).for_each(|origin| check_place(origin, files));

    // A workload in each group, and one in all of them.
    let each = policy.groups.iter().map(|group| GroupSet::from([group.id]));
    let all: GroupSet = policy.groups.iter().map(|group| group.id).collect();
    let sets = each.chain([all]).collect();
    let entries: usize = policy.guardrails.iter().map(|rail| rail.entries.len()).sum();
    match compile(policy, &sets, &mut RuleNumbers::default()) {
        Ok(_) => {}
        Err(TooLarge::DenyEntries(found)) => {
            assert!(found == entries && entries > DENY_ENTRIES, "{found} entries")
        }
        Err(TooLarge::Slots(found)) => assert!(found > SLOTS, "{found} slots are too many"),
        // A text as short as those that are tried here fits.
        Err(other) => panic!("what validates does not compile: {other}"),
    }
}

fn check_problems(problems: &[Problem], files: &[PolicyFile]) {
    assert!(!problems.is_empty(), "refused without a problem");
    assert!(problems.is_sorted_by(|one, other| one.origin <= other.origin), "out of order: {problems:#?}");
    for problem in problems {
        check_problem(problem, files);
    }
}

/// One problem or warning: a line that a terminal can show, and a place that an editor can go to.
fn check_problem(problem: &Problem, files: &[PolicyFile]) {
    let Problem { origin, message, cure } = problem;
    for words in [message, cure] {
        assert!(!words.trim().is_empty() && !words.contains(char::is_control), "{problem:?}");
    }
    check_place(origin.as_ref().unwrap_or_else(|| panic!("{problem:?} is nowhere")), files);
}

/// Whether a place is within its file: at most at the end of a line, or on the line behind the last.
fn check_place(origin: &Origin, files: &[PolicyFile]) {
    let file = files.iter().find(|file| file.path == origin.file).expect("one of the files");
    let lengths = lengths(&file.text);
    let columns = match lengths.get(origin.line.wrapping_sub(1)) {
        Some(length) => length + 1,
        None => usize::from(origin.line == lengths.len() + 1),
    };
    assert!((1..=columns).contains(&origin.column), "{origin} is not within {:?}", file.text);
}

/// How many characters each line has, as YAML 1.2 and editors break lines.
fn lengths(text: &str) -> Vec<usize> {
    let text = text.replace("\r\n", "\n");
    text.split_inclusive(['\n', '\r']).map(|line| line.trim_end_matches(['\n', '\r']).chars().count()).collect()
}
