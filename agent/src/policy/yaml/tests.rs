//! Where nodes stand.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::policy::problem::Problem;

fn read(text: &str) -> (Option<Vec<Node>>, Vec<Problem>) {
    let problems = RefCell::new(Vec::new());
    let file = Arc::new(PathBuf::from("test.yaml"));
    let nodes = documents(text, Reporter::new(&file, &problems));
    (nodes, problems.into_inner())
}

/// Every scalar of a text, with line and column.
fn scalars(text: &str) -> Vec<(String, usize, usize)> {
    fn walk(node: &Node, into: &mut Vec<(String, usize, usize)>) {
        match &node.value {
            Value::List(nodes) => nodes.iter().for_each(|node| walk(node, into)),
            Value::Map(entries) => entries.iter().for_each(|(key, value)| {
                walk(key, into);
                walk(value, into);
            }),
            _ => into.push((node.raw.clone(), node.mark.line, node.mark.column)),
        }
    }
    let (nodes, problems) = read(text);
    let mut found = Vec::new();
    nodes.unwrap_or_else(|| panic!("{text:?}: {problems:?}")).iter().for_each(|node| walk(node, &mut found));
    found
}

#[test]
fn every_value_knows_its_line_and_column() {
    let text = "a: 1\nb:\n  - x\n  - {c: 'y', d: \"z\"}\n---\nä: ü\ne: |\n  long\n  text\n";
    let expected = [
        ("a", 1, 1),
        ("1", 1, 4),
        ("b", 2, 1),
        ("x", 3, 5),
        ("c", 4, 6),
        ("y", 4, 9),
        ("d", 4, 14),
        ("z", 4, 17),
        ("ä", 6, 1),
        ("ü", 6, 4),
        ("e", 7, 1),
        ("long\ntext\n", 8, 3),
    ];
    assert_eq!(scalars(text), expected.map(|(text, line, column)| (text.to_owned(), line, column)));
}

#[test]
fn empty_documents_are_no_documents_and_a_byte_order_mark_is_no_text() {
    for (text, count) in [
        ("", 0),
        ("# only a comment\n", 0),
        ("---\n", 0),
        ("---\n---\n...\n", 0),
        ("---\na: 1\n---\n# none\n---\nb: 2\n", 2),
        ("a: 1\n---\n", 1),
        ("\u{feff}a: 1\n", 1),
        ("a: 1\r\nb: 2\r\n", 1),
        ("~", 0),
    ] {
        let (nodes, problems) = read(text);
        assert_eq!(nodes.map(|nodes| nodes.len()), Some(count), "{text:?}: {problems:?}");
    }
}

#[test]
fn values_have_the_types_that_serde_yaml_gives_them() {
    let (nodes, _) = read("[1, -1, 0x10, 1.5, true, 'true', ~, yes, 10.0.0.0/8, 18446744073709551615]");
    let nodes = nodes.expect("YAML");
    let Value::List(nodes) = &nodes[0].value else { panic!("{nodes:?}") };
    let kinds: Vec<String> = nodes.iter().map(|node| format!("{:?}", node.value)).collect();
    let expected = [
        "Integer(1)",
        "Integer(-1)",
        "Integer(16)",
        "Float",
        "Bool(true)",
        "Text",
        "Null",
        "Text",
        "Text",
        "Integer(18446744073709551615)",
    ];
    assert_eq!(kinds, expected);
}

/// Found by fuzzing: for one of the two readers a line ends at U+2028, so that the problem was on a second line of one.
#[test]
fn a_problem_is_on_the_line_that_editors_show() {
    let (_, problems) = read("# ä\r\n\u{2028}'");
    let origin = problems[0].origin.as_ref().expect("a place");
    assert_eq!((origin.line, origin.column), (2, 3), "{problems:?}");
}
