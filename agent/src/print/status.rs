//! `bulkhead status`: what matters first, then the tables.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Look;
use super::table::{clean, columns};
use crate::view::StatusView;

/// Refused objects of the Kubernetes API that are shown.
const OBJECTS: usize = 20;

/// `bulkhead status`, as of `now`.
#[must_use]
pub fn status(status: &StatusView, now: SystemTime, look: Look) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {}", clean(value));
    };
    let up = span(status.uptime_seconds);
    line("bulkhead", &format!("{}, pid {}, up {up}", status.version, status.pid));
    line("enforcing", if status.enforcing { "yes" } else { "NO" });
    line("policy", &policy(status, now));
    line("workloads", &workloads(status));
    if status.repairs > 0 {
        line("repairs", &format!("{}: somebody else writes what the agent writes; see its log", status.repairs));
    }
    for problem in &status.problems {
        line("problem", problem);
    }
    for object in status.objects.iter().take(OBJECTS) {
        let said = object.problems.first().map_or("", String::as_str);
        let more = if object.problems.len() > 1 {
            format!(" (and {} more)", object.problems.len() - 1)
        } else {
            String::new()
        };
        line("object", &format!("{}, {}: {said}{more}", object.object, object.standing));
    }
    if status.objects.len() > OBJECTS {
        line("objects", &format!("{} more are refused; `--json` has them all", status.objects.len() - OBJECTS));
    }
    for warning in &status.warnings {
        line("warning", warning);
    }
    if !status.attachments.is_empty() {
        let rows = status.attachments.iter().map(|at| [at.program.clone(), at.target.clone(), at.mode.clone()]);
        text.push('\n');
        text.push_str(&columns(["PROGRAM", "ATTACHED TO", "MODE"], rows, look));
    }
    if !status.maps.is_empty() {
        let rows = status.maps.iter().map(|map| {
            let share = map.entries.saturating_mul(100).checked_div(map.capacity).unwrap_or_default();
            [map.map.clone(), map.entries.to_string(), map.capacity.to_string(), format!("{share}%")]
        });
        text.push('\n');
        text.push_str(&columns(["MAP", "ENTRIES", "CAPACITY", "FULL"], rows, look));
    }
    text
}

fn policy(status: &StatusView, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an `as` from a float saturates")]
    let age = (now - status.policy_loaded_at).max(0.0) as u64;
    let loaded =
        if status.policy_loaded_at > 0.0 { format!("loaded {} ago", span(age)) } else { "none loaded".to_owned() };
    format!(
        "generation {}, {loaded}; {}, {}, {}; {}, {}",
        status.generation,
        counted(status.groups, "group"),
        counted(status.rules, "rule"),
        counted(status.guardrails, "guardrail"),
        counted(status.reloads, "reload"),
        counted(status.refusals, "refusal"),
    )
}

fn workloads(status: &StatusView) -> String {
    let total: u64 = status.workloads.values().sum();
    if total == 0 {
        return "0".to_owned();
    }
    let by_source: Vec<_> = status.workloads.iter().map(|(source, count)| format!("{source} {count}")).collect();
    format!("{total} ({})", by_source.join(", "))
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A span of time in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
