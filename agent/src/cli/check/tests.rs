//! What `bulkhead check` prints.

use serde_json::Value;

use super::*;

const GOOD: &str =
    "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: web}\nspec: {selector: {}}\n";

fn checked(text: &str) -> Checked {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    std::fs::write(file.path(), text).expect("written");
    checked_file(file.path())
}

fn checked_file(file: &std::path::Path) -> Checked {
    let paths = [file.to_owned()];
    let (files, problems) = load::read(&paths);
    Checked { files: files.len(), result: load::judge(&files, problems), warnings: load::trust::problems(&paths) }
}

#[test]
fn a_file_that_others_can_write_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    let allow =
        |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("it is ours");
    std::fs::write(file.path(), GOOD).expect("written");
    allow(0o666);
    let told = text(&checked_file(file.path()));
    assert!(told.starts_with("warning: the file ") && told.contains("chmod go-w"), "{told}");
    assert!(told.ends_with("0 workloads, 1 warning\n"), "{told}");
    std::fs::write(file.path(), GOOD.replace("{}}", "{}, id: 0}")).expect("written");
    let told = text(&checked_file(file.path()));
    assert!(told.starts_with("warning: the file ") && told.ends_with("refused: 1 problem in 1 of 1 file\n"), "{told}");
    allow(0o644);
    let told = text(&checked_file(file.path()));
    assert!(!told.contains("warning"), "{told}");
}

#[test]
fn a_good_policy_is_counted() {
    let checked = checked(GOOD);
    assert_eq!(text(&checked), "ok: 1 file, 1 group, 0 rules, 0 guardrails, 0 workloads\n");
    let json: Value = serde_json::from_str(&json(&checked)).expect("JSON");
    assert_eq!(json["valid"], true);
    assert_eq!((&json["files"], &json["groups"]), (&1.into(), &1.into()));
    assert_eq!(json["problems"], Value::Array(Vec::new()));
}

#[test]
fn warnings_do_not_refuse() {
    let twice = GOOD.replace("{}}", "{}, egress: [{to: [{entity: host}]}, {to: [{entity: host}]}]}");
    let checked = checked(&twice);
    let text = text(&checked);
    assert!(text.contains(":4:55: warning: "), "{text}");
    assert!(text.ends_with("ok: 1 file, 1 group, 2 rules, 0 guardrails, 0 workloads, 1 warning\n"), "{text}");
}

#[test]
fn every_problem_is_a_line_with_its_place_and_a_summary_follows() {
    let checked = checked(&GOOD.replace("{}}", "{}, id: 0, mode: \"a\\nb\"}"));
    let text = text(&checked);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains(".yaml:4:26: ID 0 stands for no group; "), "{text}");
    assert!(lines[1].contains("a\u{fffd}b"), "{text}");
    assert_eq!(lines[2], "refused: 2 problems in 1 of 1 file");
    let json: Value = serde_json::from_str(&json(&checked)).expect("JSON");
    assert_eq!(json["valid"], false);
    assert_eq!(json["problems"][0]["line"], 4);
    assert_eq!(json["problems"][0]["column"], 26);
    assert!(json["problems"][0]["cure"].as_str().is_some_and(|cure| cure.contains("derived")), "{json}");
}

#[test]
fn a_problem_without_a_file_has_no_place() {
    let checked = checked_file("/nonexistent/policies".as_ref());
    assert!(text(&checked).ends_with("refused: 1 problem in 0 files\n"));
    let json: Value = serde_json::from_str(&json(&checked)).expect("JSON");
    assert_eq!(json["problems"][0]["file"], Value::Null);
}
