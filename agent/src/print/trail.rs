//! `bulkhead trail show`, for people.

use super::Look;
use super::table::columns;
use crate::trail::chain::Entry;

/// `bulkhead trail show`.
#[must_use]
pub fn trail(entries: &[Entry], look: Look) -> String {
    if entries.is_empty() {
        return "nothing of that is in the trail\n".to_owned();
    }
    let short = |hash: &Option<String>| hash.as_ref().map_or("-".to_owned(), |hash| hash.chars().take(12).collect());
    let rows = entries.iter().map(|entry| {
        [
            entry.sequence.to_string(),
            entry.time.chars().take(19).collect::<String>() + "Z",
            entry.kind.clone(),
            entry.what.replace('_', " "),
            short(&entry.old),
            short(&entry.new),
            entry.generation.map_or("-".to_owned(), |generation| generation.to_string()),
            entry.cause.clone(),
        ]
    });
    columns(["", "TIME", "KIND", "WHAT", "OLD", "NEW", "GENERATION", "CAUSE"], rows, look)
}
