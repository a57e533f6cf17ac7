//! Counting what libtest prints.

use std::fmt::Write;

/// What one harness printed, line by line.
#[derive(Debug, Default)]
pub struct Run {
    passed: usize,
    failed: Vec<String>,
    ignored: Vec<String>,
    slow: Vec<String>,
    /// Totals of `test result:` lines; rustdoc prints one for each package.
    results: Option<(usize, usize)>,
    /// What failed tests printed, quoted by libtest after the tests.
    details: Vec<String>,
    quoting: bool,
}

/// What all harnesses came to.
#[derive(Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    failures: Vec<String>,
}

impl Run {
    /// Takes one line.
    pub fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let (passed, failed) = self.results.unwrap_or_default();
            self.results = Some((passed + number(result, " passed"), failed + number(result, " failed")));
            self.quoting = false;
        } else if line == "failures:" {
            // libtest prints this twice: first with what they printed, then with their names alone.
            self.quoting = !self.quoting;
        } else if self.quoting {
            self.details.push(line.to_owned());
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) {
            match outcome.split_once(", ").unwrap_or((outcome, "no reason given")) {
                ("ok", _) => self.passed += 1,
                ("FAILED", _) => self.failed.push(name.to_owned()),
                ("ignored", reason) => self.ignored.push(format!("{name}: {reason}")),
                _ => {}
            }
        } else if let Some((name, _)) =
            line.strip_prefix("test ").and_then(|it| it.split_once(" has been running for "))
        {
            self.slow.push(name.to_owned());
        }
    }
}

impl Tally {
    /// Adds a harness; `end` says how it ended other than well, if it did.
    pub fn add(&mut self, name: &str, run: Run, end: Option<String>) {
        self.skipped.extend(run.ignored.iter().map(|it| format!("{name}: {it}")));
        let (passed, failed) = run.results.unwrap_or((run.passed, run.failed.len()));
        self.passed += passed;
        // Ending badly is how a harness says that tests failed; without a failed test it is a failure of its own.
        let end = end.filter(|_| run.results.is_none_or(|(_, failed)| failed == 0));
        if let Some(end) = end.or_else(|| run.results.is_none().then(|| "it ended before it reported its tests".into()))
        {
            let slow = if run.slow.is_empty() { String::new() } else { format!("; slow: {}", run.slow.join(", ")) };
            self.fail(&format!("{name}: {end}{slow}"));
        }
        self.failed += failed;
        self.failures.extend(run.failed.iter().map(|test| format!("{name}: {test}")));
        self.failures.extend(run.details);
    }

    /// Adds a failure that is no test's own.
    pub fn fail(&mut self, what: &str) {
        self.failed += 1;
        self.failures.push(what.to_owned());
    }

    /// Tests that passed or failed.
    pub fn ran(&self) -> usize {
        self.passed + self.failed
    }

    /// Whether something ran and nothing failed.
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// Failures, then skipped tests, then one line of numbers.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        if !self.failures.is_empty() {
            text.push_str("failures:\n");
        }
        for line in &self.failures {
            let _ = writeln!(text, "  {line}");
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "skipped: {skipped}");
        }
        let _ = write!(text, "{} passed, {} failed", self.passed, self.failed);
        if !self.skipped.is_empty() {
            let _ = write!(text, ", {} skipped", self.skipped.len());
        }
        text.push('\n');
        text
    }
}

/// The number before a word: 3 in `ok. 3 passed; 0 failed`.
fn number(result: &str, word: &str) -> usize {
    let before = result.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "
running 4 tests
test policy::a_denied_flow_names_its_rule ... ok
test policy::two ... FAILED
test policy::three ... ignored, needs a VLAN device
test policy::four - should panic ... ok

failures:

---- policy::two stdout ----
thread 'policy::two' panicked at agent/src/policy.rs:1:1:
the rule is web's

failures:
    policy::two

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn run(output: &str) -> Run {
        let mut run = Run::default();
        output.lines().for_each(|line| run.read(line));
        run
    }

    fn tally(output: &str, end: Option<&str>) -> Tally {
        let mut tally = Tally::default();
        tally.add("agent: lib", run(output), end.map(str::to_owned));
        tally
    }

    #[test]
    fn the_last_line_counts_and_what_failed_or_was_skipped_stands_before_it() {
        let tally = tally(MIXED, None);
        let summary = tally.summary();
        assert_eq!(summary.lines().last(), Some("2 passed, 1 failed, 1 skipped"));
        assert!(summary.contains("agent: lib: policy::two\n"), "{summary}");
        assert!(summary.contains("the rule is web's"), "{summary}");
        assert!(summary.contains("skipped: agent: lib: policy::three: needs a VLAN device\n"), "{summary}");
        assert!(!tally.is_success());
    }

    #[test]
    fn passing_ends_with_exactly_two_numbers() {
        let tally = tally("test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored", None);
        assert_eq!(tally.summary(), "1 passed, 0 failed\n");
        assert!(tally.is_success());
    }

    #[test]
    fn a_harness_that_crashes_is_a_failure_beside_what_had_passed() {
        let tally = tally("test a ... ok\ntest b has been running for over 60 seconds", Some("killed by signal 9"));
        assert_eq!(tally.summary(), "failures:\n  agent: lib: killed by signal 9; slow: b\n1 passed, 1 failed\n");
    }

    #[test]
    fn a_harness_that_ends_well_but_reports_nothing_has_failed() {
        assert!(!tally("running 3 tests\ntest a ... ok", None).is_success());
    }

    #[test]
    fn a_harness_that_fails_after_its_report_has_failed() {
        assert_eq!(tally("test result: ok. 3 passed; 0 failed", Some("killed by signal 11")).failed, 1);
        assert_eq!(tally(MIXED, Some("ended with exit code 101")).failed, 1);
    }

    #[test]
    fn no_test_at_all_is_no_success() {
        let tally = tally("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored", None);
        assert_eq!((tally.ran(), tally.is_success()), (0, false));
    }

    #[test]
    fn documentation_reports_once_for_each_package() {
        let tally = tally("test result: ok. 2 passed; 0 failed\n\ntest result: FAILED. 1 passed; 1 failed", None);
        assert_eq!((tally.passed, tally.failed), (3, 1));
    }

    #[test]
    fn what_a_failed_test_printed_is_not_counted() {
        let quoted = MIXED.replace("the rule is web's", "test nested ... ok");
        assert_eq!(tally(&quoted, None).passed, 2);
    }
}
