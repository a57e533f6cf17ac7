//! Tables without lines: columns that fit the terminal.

use comfy_table::presets::NOTHING as NO_LINES;
use comfy_table::{ContentArrangement, Table};

use super::Look;

/// What stands for an empty list.
pub(super) const NOTHING: &str = "-";

/// A table with a head. Where there is a width, cells wrap to fit it.
pub(super) fn columns<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    look: Look,
) -> String {
    let mut table = Table::new();
    table.load_preset(NO_LINES).force_no_tty().set_header(head);
    match look.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| clean(&cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Items with commas, or a dash.
pub(super) fn list(items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(item.as_ref());
    }
    if text.is_empty() { NOTHING.to_owned() } else { text }
}

/// `text` with control characters written out, so that a name cannot drive the terminal.
pub(super) fn clean(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_treacherous(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Control characters, and those that reorder the text around them (Unicode TR 9, explicit formatting).
fn is_treacherous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(clean("web\u{1b}[2J\n"), "web\\u{1b}[2J\\n");
        assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(clean("café-1"), "café-1");
    }

    #[test]
    fn a_table_wraps_to_the_width_and_only_where_there_is_one() {
        let rows = || [["a".to_owned(), "one two three four five six".to_owned()]];
        let narrow = columns(["N", "TEXT"], rows(), Look { width: Some(20), colour: false });
        assert!(narrow.lines().all(|line| line.chars().count() <= 20), "{narrow}");
        assert!(narrow.lines().count() > 2, "{narrow}");
        assert_eq!(columns(["N", "TEXT"], rows(), Look::default()), "N  TEXT\na  one two three four five six\n");
    }
}
