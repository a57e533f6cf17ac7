//! What is wrong with a policy file: where, what, and how to mend it.

use std::fmt;

use serde::Serialize;

use super::model::Origin;

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
