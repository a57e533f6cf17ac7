//! The repository's own rules, which no compiler checks. (That each `unsafe` says why it is sound is clippy's part.)

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

mod links;

/// Lines beyond which a source file holds more than one concept.
const LONGEST: usize = 500;

/// What must not be committed, and why. Put together here, so that this file itself may be.
const REFUSED: [(&str, &str); 5] = [
    (concat!("TO", "DO"), "do it, or open an issue"),
    (concat!("FIX", "ME"), "do it, or open an issue"),
    (concat!("/ho", "me/"), "a path of one person's machine"),
    (concat!("/ro", "ot/"), "a path of one person's machine"),
    (concat!("/wo", "rk/"), "a path of one person's machine"),
];

/// What is not the repository's. (In a linked worktree `.git` is a file.)
const FOREIGN: [&str; 2] = ["target", ".git"];

/// Checks every file; lists every problem.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let mut problems = Vec::new();
    for path in files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        problems.extend(text_problems(&name, &text));
        if name.ends_with(".md") {
            problems.extend(links::problems(&path, &text).into_iter().map(|problem| format!("{name}: {problem}")));
        }
    }
    if !files(&root.join("policies")).is_ok_and(|policies| policies.iter().any(|path| has_extension(path, "yaml"))) {
        problems.push("policies: it holds no example; the README and the demo need one".into());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} of the repository's rules broken", problems.len());
    }
    Ok(())
}

/// What is wrong with one file.
fn text_problems(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if name.ends_with(".rs") && lines > LONGEST {
        problems.push(format!("{name}: {lines} lines; split it by concept (at most {LONGEST})"));
    }
    // A module's tests.rs needs no word: the module says what it is.
    if name.ends_with(".rs") && !name.ends_with("/tests.rs") && !text.starts_with("//!") {
        problems.push(format!("{name}:1: says nothing of what it is; begin with a `//!` line"));
    }
    // Words of other people's texts are theirs.
    if !name.starts_with("LICENSE") && name != "Cargo.lock" {
        for (index, line) in text.lines().enumerate() {
            let refused = REFUSED.iter().filter(|(word, _)| line.contains(word));
            problems.extend(refused.map(|(word, why)| format!("{name}:{}: {word}: {why}", index + 1)));
        }
    }
    if name.ends_with("/Cargo.toml") && !text.contains("[lints]\nworkspace = true") {
        problems.push(format!("{name}: add `[lints]` with `workspace = true`"));
    }
    problems
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| format!("{} can't be read", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if FOREIGN.iter().any(|foreign| entry.file_name() == *foreign) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "//! What it is.\n";

    #[test]
    fn a_short_file_that_says_what_it_is_passes() {
        assert_eq!(text_problems("agent/src/lib.rs", FINE), [""; 0]);
        assert_eq!(text_problems("agent/Cargo.toml", "[lints]\nworkspace = true\n"), [""; 0]);
    }

    #[test]
    fn each_broken_rule_is_named_with_its_place() {
        let long = FINE.repeat(LONGEST + 1);
        let refused = format!("{FINE}// {}: later\n", REFUSED[0].0);
        let cases = [
            ("agent/src/lib.rs", long.as_str(), "agent/src/lib.rs: 501 lines"),
            ("agent/src/lib.rs", "fn main() {}\n", "agent/src/lib.rs:1: says nothing"),
            ("docs/policy.md", &refused, "docs/policy.md:2: "),
            ("agent/Cargo.toml", "[package]\n", "agent/Cargo.toml: add `[lints]`"),
        ];
        for (name, text, expected) in cases {
            let problems = text_problems(name, text);
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{name}: {problems:?}");
        }
    }

    #[test]
    fn only_sources_have_to_be_short() {
        assert_eq!(text_problems("Cargo.lock", &FINE.repeat(9999)), [""; 0]);
    }
}
