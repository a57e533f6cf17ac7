//! Every subcommand that has a `--json` has a shape, and the manual has it too.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};

use super::*;
use crate::cli::Cli;

/// The subcommands below `command` that have a `--json`, as [`Shape::name`] has them.
fn with_json(command: &Command, prefix: &str, found: &mut BTreeSet<String>) {
    for sub in command.get_subcommands() {
        let name = format!("{prefix}{}", sub.get_name());
        if sub.get_arguments().any(|argument| argument.get_long() == Some("json")) {
            found.insert(name.clone());
        }
        with_json(sub, &format!("{name}-"), found);
    }
}

#[test]
fn every_subcommand_with_json_has_a_shape_and_no_other() {
    let mut found = BTreeSet::new();
    with_json(&Cli::command(), "", &mut found);
    let shapes: BTreeSet<String> = SHAPES.iter().map(|shape| shape.name.to_owned()).collect();
    assert_eq!(found, shapes);
}

#[test]
fn every_shape_is_a_schema_that_says_what_each_field_is() {
    fn fields(path: &str, schema: &Value) {
        for (key, below) in schema.as_object().into_iter().flatten() {
            if key == "properties" {
                for (name, field) in below.as_object().into_iter().flatten() {
                    let says = field.get("description").and_then(Value::as_str).unwrap_or_default();
                    assert!(!says.is_empty() && !says.contains("[`"), "{path}: {name}: `{says}`");
                }
            }
            fields(&format!("{path}.{key}"), below);
        }
    }
    for shape in &SHAPES {
        let schema = shape.schema();
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{}: {error}", shape.name));
        fields(shape.name, &schema);
    }
}

#[test]
fn what_a_shape_does_not_have_is_refused() {
    let schema = SHAPES.iter().find(|shape| shape.name == "trail-head").expect("there is one").schema();
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let head = serde_json::json!({"sequence": 1, "time": "2026-01-01T00:00:00Z", "hash": "0"});
    assert!(validator.is_valid(&head));
    for (field, wrong) in [("sequence", Value::from("1")), ("hash", Value::Null)] {
        let mut head = head.clone();
        head[field] = wrong;
        assert!(!validator.is_valid(&head), "{head}");
    }
}

#[test]
fn the_manual_has_every_shape() {
    crate::manual::up_to_date("json.md", &page::page());
}
