//! Links in the documentation: what they point to has to exist.

use std::fs;
use std::path::Path;

/// The links of one Markdown file that lead nowhere in this repository. Links to other sites are not followed.
pub fn problems(file: &Path, text: &str) -> Vec<String> {
    let directory = file.parent().unwrap_or(Path::new("."));
    let broken = |link: &&str| {
        if link.contains("://") || link.starts_with("mailto:") {
            return false;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { file.to_path_buf() } else { directory.join(path) };
        !target.exists() || !anchor.is_empty() && !fs::read_to_string(&target).is_ok_and(|it| has_anchor(&it, anchor))
    };
    links(text).into_iter().filter(broken).map(|link| format!("the link {link} leads nowhere")).collect()
}

/// The targets of `[words](target)`.
fn links(text: &str) -> Vec<&str> {
    let starts = text.match_indices("](").map(|(at, start)| &text[at + start.len()..]);
    starts.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Whether a Markdown text has a heading that the anchor names.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#').trim())).any(|slug| slug == anchor)
}

/// A heading's anchor, as the usual forges make it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn a_link_to_a_file_that_is_not_there_is_broken() {
        let file = workspace::root().join("docs/some.md");
        let text =
            "[a](operations.md) [b](../Cargo.toml) [c](nowhere.md) [d](https://example.org) [e](#no-such-heading)";
        let problems = problems(&file, text);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("nowhere.md") && problems[1].contains("#no-such-heading"), "{problems:?}");
    }

    #[test]
    fn anchors_are_headings_in_lower_case_with_hyphens() {
        assert!(has_anchor("# Top\n## When a table is full\n", "when-a-table-is-full"));
        assert!(!has_anchor("# Top\nWhen a table is full\n", "when-a-table-is-full"));
        assert_eq!(slug("Options of `bulkhead run`"), "options-of-bulkhead-run");
    }
}
