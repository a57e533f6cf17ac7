//! How the agent ends: exit codes, and the failure that carries one with what to do about it.

use std::fmt;
use std::process::ExitCode;

/// The exit codes in use: 1 and 2 as grep and clap have them, 3 of `plan` alone, the others as in sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked about fails: a bad policy in `check`, an agent that does not enforce in `status`.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `plan`: something would change.
    Changes = 3,
    /// Something that is needed is not there: an agent at the socket, cgroup2, BTF, a kernel that is new enough.
    Unavailable = 69,
    /// A fault in Bulkhead itself.
    Software = 70,
    /// The operating system refused.
    OsErr = 71,
    /// Reading or writing failed.
    IoErr = 74,
    /// Another agent holds the host, or a port is in use: it may work later.
    TempFail = 75,
    /// Not root.
    NoPerm = 77,
    /// The configuration at start is wrong: a bad policy, an uplink that does not exist.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends, what to do about it, and the exit code for it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, with its causes.
    pub error: anyhow::Error,
    /// What to do about it; empty where the error says so itself.
    pub cure: String,
}

impl Failure {
    /// A failure with its cure.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>, cure: impl Into<String>) -> Self {
        Self { exit, error: error.into(), cure: cure.into() }
    }

    /// A failure that is a sentence.
    pub fn message(exit: Exit, message: impl fmt::Display, cure: impl Into<String>) -> Self {
        Self::new(exit, anyhow::anyhow!("{message}"), cure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)?;
        if !self.cure.is_empty() {
            write!(f, "; {}", self.cure)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// An error that nobody gave a cure is a fault of Bulkhead's.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(Exit::Software, error, "please report this as a fault in Bulkhead"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let error = anyhow::anyhow!("permission denied").context("cannot open /x");
        let failure = Failure::new(Exit::NoPerm, error, "run it as root");
        assert_eq!(failure.to_string(), "cannot open /x: permission denied; run it as root");
    }

    #[test]
    fn a_failure_keeps_its_exit_code_on_its_way_through_anyhow() {
        let error = anyhow::Error::from(Failure::message(Exit::Config, "no such uplink", "name another"));
        assert_eq!(Failure::from(error).exit, Exit::Config);
        assert_eq!(Failure::from(anyhow::anyhow!("surprise")).exit, Exit::Software);
    }
}
