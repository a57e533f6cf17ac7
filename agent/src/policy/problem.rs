//! What is wrong with a policy file: where, what, and how to mend it.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::model::Origin;
use super::yaml::Mark;

/// One problem. `Display` prints `file:line:column: what; cure`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where; `None` where no file is to blame (an empty directory).
    pub origin: Option<Origin>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}; {}", self.message, self.cure)
    }
}

/// Where the problems of one file are collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter<'a> {
    file: &'a Arc<PathBuf>,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Reporter<'a> {
    pub(super) const fn new(file: &'a Arc<PathBuf>, problems: &'a RefCell<Vec<Problem>>) -> Self {
        Self { file, problems }
    }

    /// A place in the file.
    pub(super) fn origin(self, mark: Mark) -> Origin {
        Origin { file: self.file.clone(), line: mark.line, column: mark.column }
    }

    /// Notes a problem.
    pub(super) fn add(self, mark: Mark, message: impl Into<String>, cure: impl Into<String>) {
        let (message, cure) = (plain(&message.into()), plain(&cure.into()));
        self.problems.borrow_mut().push(Problem { origin: Some(self.origin(mark)), message, cure });
    }
}

/// What files say is quoted in messages, and has no business with the terminal or the log's lines.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
