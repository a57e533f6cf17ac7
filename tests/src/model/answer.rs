//! What the model says of one packet.

use bulkhead_ebpf::abi::{Reason, Verdict};

use super::{RuleName, Ruling};

/// What the model says of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it passes.
    pub verdict: Verdict,
    /// Reasons that may truly be given for it. Several where the design leaves open which of them is named.
    pub reasons: Vec<Reason>,
    /// Rules that allow the flow, where a rule does.
    pub rules: Vec<RuleName>,
}

impl Answer {
    pub(super) fn new(verdict: Verdict, reasons: &[Reason]) -> Self {
        Self { verdict, reasons: reasons.to_vec(), rules: Vec::new() }
    }

    pub(super) fn allow(reason: Reason) -> Self {
        Self::new(Verdict::Allow, &[reason])
    }
}

/// What several sides say together: all must let it pass.
pub(super) fn strictest(answers: Vec<Answer>) -> Answer {
    let rank = |verdict| match verdict {
        Verdict::Deny => 2,
        Verdict::Audit => 1,
        Verdict::Allow => 0,
    };
    let worst = answers.iter().map(|answer| rank(answer.verdict)).max().unwrap_or(0);
    let mut alike = answers.into_iter().filter(|answer| rank(answer.verdict) == worst);
    let mut merged = alike.next().expect("somebody was asked");
    for other in alike {
        merged.reasons.extend(other.reasons);
        merged.rules.extend(other.rules);
    }
    merged
}

/// What a ruling comes to.
pub(super) fn answer(ruling: &Ruling, established: bool) -> Answer {
    let mut answer = match ruling {
        Ruling::Ungoverned => Answer::new(Verdict::Allow, &[Reason::Ungoverned]),
        Ruling::Unidentified { denies: false } => Answer::allow(Reason::Unidentified),
        Ruling::Unidentified { denies: true } => Answer::new(Verdict::Deny, &[Reason::Unidentified]),
        Ruling::OpenIngress => Answer::new(Verdict::Allow, &[Reason::OpenIngress]),
        Ruling::OpenEgress => Answer::new(Verdict::Allow, &[Reason::OpenEgress]),
        Ruling::Failsafe => Answer::new(Verdict::Allow, &[Reason::Failsafe]),
        Ruling::Allowed(rules) => Answer { verdict: Verdict::Allow, reasons: vec![Reason::Rule], rules: rules.clone() },
        Ruling::Audited => Answer::new(Verdict::Audit, &[Reason::NoRule]),
        Ruling::Denied => Answer::new(Verdict::Deny, &[Reason::NoRule]),
        Ruling::Guarded(entries) => {
            Answer { verdict: Verdict::Deny, reasons: vec![Reason::Guardrail], rules: entries.clone() }
        }
    };
    if established {
        answer.reasons.push(Reason::Established);
    }
    answer
}
