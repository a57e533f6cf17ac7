//! Counters: one per hook, verdict and reason, and one per rule, each per CPU.

use super::{Hook, Reason, Verdict};

/// Rules whose hits are counted. A policy with more is refused whole.
pub const MAX_RULES: u32 = 131_072;
/// No rule: the number that stands where none decided.
pub const RULE_NONE: u32 = u32::MAX;

const REASONS: u32 = Reason::ALL.len() as u32;
const VERDICTS: u32 = Verdict::ALL.len() as u32;

/// Entries of the map `COUNTERS`.
pub const COUNTERS: u32 = Hook::ALL.len() as u32 * VERDICTS * REASONS;

/// Value of `COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets; system calls at the connect and sendmsg hooks.
    pub packets: u64,
    /// Bytes from the IP header on; 0 at the connect and sendmsg hooks.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Count>() == 16);

/// Index into `COUNTERS`.
#[inline(always)]
#[must_use]
pub const fn counter_index(hook: Hook, verdict: Verdict, reason: Reason) -> u32 {
    (hook as u32 * VERDICTS + verdict as u32) * REASONS + reason as u32
}

/// What an index into `COUNTERS` counts.
#[must_use]
pub fn counter_parts(index: u32) -> Option<(Hook, Verdict, Reason)> {
    let hook = Hook::from_number(u8::try_from(index / (VERDICTS * REASONS)).ok()?)?;
    let verdict = Verdict::from_number(u8::try_from(index / REASONS % VERDICTS).ok()?)?;
    let reason = Reason::from_number(u8::try_from(index % REASONS).ok()?)?;
    Some((hook, verdict, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_says_what_it_counts() {
        for index in 0..COUNTERS {
            let (hook, verdict, reason) = counter_parts(index).expect("an index below COUNTERS");
            assert_eq!(counter_index(hook, verdict, reason), index);
        }
        assert_eq!(counter_parts(COUNTERS), None);
    }
}
