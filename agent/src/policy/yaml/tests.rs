//! Where nodes stand.

use super::*;

/// Every scalar of a text, with line and column.
fn scalars(text: &str) -> Vec<(String, usize, usize)> {
    fn walk(node: Node<'_>, into: &mut Vec<(String, usize, usize)>) {
        if matches!(node.value(), Value::List | Value::Map) {
            node.children().for_each(|child| walk(child, into));
        } else {
            into.push((node.raw().to_owned(), node.mark().line, node.mark().column));
        }
    }
    let tree = Tree::read(text).unwrap_or_else(|flaw| panic!("{text:?}: {flaw:?}"));
    let mut found = Vec::new();
    tree.documents().for_each(|node| walk(node, &mut found));
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
        assert_eq!(Tree::read(text).map(|tree| tree.documents().count()), Ok(count), "{text:?}");
    }
}

/// What serde_yaml reads, as far as it is comparable.
fn known(value: &serde_yaml::Value) -> Value {
    match value {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(value) => Value::Bool(*value),
        serde_yaml::Value::Number(number) => {
            match number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) {
                Some(number) => Value::Integer(number),
                None => Value::Float,
            }
        }
        serde_yaml::Value::String(_) => Value::Text,
        serde_yaml::Value::Sequence(_) => Value::List,
        serde_yaml::Value::Mapping(_) => Value::Map,
        serde_yaml::Value::Tagged(_) => panic!("tags are refused"),
    }
}

/// Whether another reader finds the same values in the same places.
fn is_same(node: Node<'_>, value: &serde_yaml::Value) -> bool {
    match value {
        serde_yaml::Value::Sequence(values) => {
            node.value() == Value::List
                && node.children().len() == values.len()
                && node.children().zip(values).all(|(node, value)| is_same(node, value))
        }
        serde_yaml::Value::Mapping(fields) => {
            node.value() == Value::Map
                && node.fields().count() == fields.len()
                && node.fields().zip(fields).all(|((a, b), (c, d))| is_same(a, c) && is_same(b, d))
        }
        // How many line breaks an empty block has, they do not agree on.
        serde_yaml::Value::String(text) => {
            node.value() == Value::Text
                && (node.raw() == text || [node.raw(), text].iter().all(|it| it.trim().is_empty()))
        }
        value => node.value() == known(value),
    }
}

#[test]
fn scalars_mean_what_another_reader_finds_in_them() {
    for text in [
        "1",
        "-1",
        "+1",
        "0",
        "-0",
        "00",
        "010",
        "-010",
        "0x10",
        "-0x10",
        "+0xfF",
        "0x",
        "0x+1",
        "0o17",
        "0o8",
        "0b101",
        "0b2",
        "1.5",
        "1.",
        ".5",
        "-.5",
        "1e3",
        "+1e3",
        "++1",
        "+-1",
        "--1",
        "-",
        "+",
        ".",
        "..",
        ".inf",
        "-.INF",
        "+.inf",
        ".nan",
        "-.nan",
        "inf",
        "nan",
        "1_000",
        "1e999",
        "0.0",
        "00.5",
        "true",
        "True",
        "TRUE",
        "tRue",
        "false",
        "yes",
        "no",
        "on",
        "null",
        "Null",
        "NULL",
        "nUll",
        "~",
        "'true'",
        "\"1\"",
        "''",
        "10.0.0.0/8",
        "18446744073709551615",
        "99999999999999999999999999999999999999999",
        "12:30",
        "2001-01-01",
        "a b",
        "é",
        "-a",
        "+a",
        "0a",
        "1a",
        "!a",
    ] {
        let Ok(tree) = Tree::read(&format!("- {text}\n")) else {
            assert_eq!(text, "!a", "only tags are refused");
            continue;
        };
        let value: serde_yaml::Value = serde_yaml::from_str(&format!("- {text}\n")).expect("YAML");
        let document = tree.documents().next().expect("a document");
        let node = document.children().next().expect("an entry");
        assert!(is_same(document, &value), "{text}: {:?}, and elsewhere {value:?}", node.value());
    }
}

#[test]
fn aliases_stand_for_what_they_repeat_and_count_for_it() {
    let text = "a: &a [1, &b {c: d}]\ne: *a\nf: [*b, *b]\n";
    let tree = Tree::read(text).expect("YAML");
    let value: serde_yaml::Value = serde_yaml::from_str(text).expect("YAML");
    assert!(is_same(tree.documents().next().expect("a document"), &value));
    let laughs: String =
        (1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))).collect();
    let flaw = Tree::read(&format!("a0: &a0 [x]\n{laughs}")).expect_err("it would fill the memory");
    assert!(flaw.message.contains("250000 values") && flaw.mark == Mark { line: 7, column: 10 }, "{flaw:?}");
}

/// `?` before a word between braces is left out: libyaml takes it for a key's sign there, and YAML 1.2.2 (7.4.2) for a letter.
#[test]
fn whatever_two_readers_take_they_read_the_same() {
    let good = concat!(
        "kind: Group # web\nmetadata: {name: 'web', labels: {a: \"b\", c: 1}}\nspec:\n  list:\n",
        "    - from: [{cidr: \"::/0\"}, {group: db}]\n      port: 443\n    - &x {to: ~, text: a b\n        c}\n",
        "  again: *x\n  text: |\n    long\n    text\n  folded: >-\n    more\n    of it\n---\nkind: Other\nspec: []\n",
    );
    let pieces = [
        "", " ", "  ", "\n", "-", "- ", ":", ": ", "#", " #", "'", "\"", "[", "]", "{", "}", ",", "|", ">", "&a ",
        "*x", "\t", "~", "0", "---\n", "%", "\\",
    ];
    // A small generator of its own: the cases are the same every time.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut both = 0;
    for _ in 0..20_000 {
        let mut text = good.to_owned();
        for _ in 0..=random(2) {
            let start = random(text.len());
            let end = (start + random(4)).min(text.len());
            text.replace_range(start..end, pieces[random(pieces.len())]);
        }
        let Ok(tree) = Tree::read(&text) else { continue };
        let values: Result<Vec<serde_yaml::Value>, _> =
            serde_yaml::Deserializer::from_str(&text).map(serde::Deserialize::deserialize).collect();
        let Ok(values) = values else { continue };
        let values = values.iter().filter(|value| !value.is_null());
        both += 1;
        assert_eq!(tree.documents().count(), values.clone().count(), "{text}");
        assert!(tree.documents().zip(values).all(|(node, value)| is_same(node, value)), "{text}");
    }
    assert!(both > 1_000, "{both}");
}

/// Found by fuzzing: YAML 1.1 also ends lines at U+2028, which editors do not count.
#[test]
fn a_place_is_on_the_line_that_editors_show() {
    let tree = Tree::read("# ä\r\n\u{2028}'").expect("a text");
    let node = tree.documents().next().expect("one document");
    assert_eq!(node.mark(), Mark { line: 2, column: 1 });
}
