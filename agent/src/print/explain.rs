//! `bulkhead explain`, for people: the verdict, the way to it, and what would change it.

use std::fmt::Write;

use super::Look;
use super::flow::verdict;
use super::table::clean;
use crate::view::explain::{AnswerView, ExplainView};

/// `bulkhead explain`.
#[must_use]
pub fn explain(view: &ExplainView, look: Look) -> String {
    let mut text = String::new();
    for answer in &view.answers {
        if !text.is_empty() {
            text.push('\n');
        }
        one(answer, look, &mut text);
    }
    if view.mixed {
        let count = |verdict: &str| view.answers.iter().filter(|answer| answer.verdict == verdict).count();
        let _ = writeln!(
            text,
            "\n{} answers: {} allow, {} audit, {} deny",
            view.answers.len(),
            count("allow"),
            count("audit"),
            count("deny")
        );
    }
    text
}

fn one(answer: &AnswerView, look: Look, text: &mut String) {
    let name = |workload: &Option<String>, address| match workload {
        Some(name) => format!("{} ({address})", clean(name)),
        None => format!("{address}"),
    };
    let _ = writeln!(
        text,
        "{} {} -> {} {}",
        verdict(&answer.verdict, look),
        name(&answer.from.workload, answer.from.address),
        name(&answer.to.workload, answer.to.address),
        answer.port
    );
    for step in &answer.steps {
        let mark = match (step.kind.as_str(), step.matches) {
            (_, Some(true)) => "*",
            (_, Some(false)) => "-",
            ("verdict", _) => "=",
            ("assumption", _) => "?",
            _ => " ",
        };
        let origin = step.origin.as_ref().map(|origin| format!("  [{}]", clean(origin))).unwrap_or_default();
        let _ = writeln!(text, "  {mark} {}{origin}", clean(&step.text));
    }
    let _ = writeln!(text, "  to {} it:", if answer.change.verdict == "deny" { "deny" } else { "allow" });
    for what in &answer.change.what {
        let _ = writeln!(text, "    {}", clean(what));
    }
    for line in answer.change.yaml.iter().flat_map(|yaml| yaml.lines()) {
        let _ = writeln!(text, "      {}", clean(line));
    }
}
