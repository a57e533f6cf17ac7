//! What `bulkhead check` prints.

use serde_json::Value;

use super::*;

const GOOD: &str =
    "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: web}\nspec: {selector: {}}\n";

fn judged(text: &str) -> (usize, Judged) {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let (files, problems) = load::read(&[file.path().to_owned()]);
    (files.len(), load::judge(&files, problems))
}

#[test]
fn a_good_policy_is_counted() {
    let (files, result) = judged(GOOD);
    assert_eq!(text(files, &result), "ok: 1 file, 1 group, 0 rules, 0 guardrails, 0 workloads\n");
    let json: Value = serde_json::from_str(&json(files, &result)).expect("JSON");
    assert_eq!(json["valid"], true);
    assert_eq!((&json["files"], &json["groups"]), (&1.into(), &1.into()));
    assert_eq!(json["problems"], Value::Array(Vec::new()));
}

#[test]
fn warnings_do_not_refuse() {
    let twice = GOOD.replace("{}}", "{}, egress: [{to: [{entity: host}]}, {to: [{entity: host}]}]}");
    let (files, result) = judged(&twice);
    let text = text(files, &result);
    assert!(text.contains(":4:55: warning: "), "{text}");
    assert!(text.ends_with("ok: 1 file, 1 group, 2 rules, 0 guardrails, 0 workloads, 1 warning\n"), "{text}");
}

#[test]
fn every_problem_is_a_line_with_its_place_and_a_summary_follows() {
    let (files, result) = judged(&GOOD.replace("{}}", "{}, id: 0, mode: \"a\\nb\"}"));
    let text = text(files, &result);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains(".yaml:4:26: ID 0 stands for no group; "), "{text}");
    assert!(lines[1].contains("a\u{fffd}b"), "{text}");
    assert_eq!(lines[2], "refused: 2 problems in 1 of 1 file");
    let json: Value = serde_json::from_str(&json(files, &result)).expect("JSON");
    assert_eq!(json["valid"], false);
    assert_eq!(json["problems"][0]["line"], 4);
    assert_eq!(json["problems"][0]["column"], 26);
    assert!(json["problems"][0]["cure"].as_str().is_some_and(|cure| cure.contains("derived")), "{json}");
}

#[test]
fn a_problem_without_a_file_has_no_place() {
    let (files, problems) = load::read(&["/nonexistent/policies".into()]);
    let result = load::judge(&files, problems);
    assert!(text(files.len(), &result).ends_with("refused: 1 problem in 0 files\n"));
    let json: Value = serde_json::from_str(&json(files.len(), &result)).expect("JSON");
    assert_eq!(json["problems"][0]["file"], Value::Null);
}
