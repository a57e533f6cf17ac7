//! docs/json.md: the shapes as tables, made of their schemas.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::{SHAPES, Shape};

const HEAD: &str = "\
# JSON

What every `--json` prints, made of the types in the code. `bulkhead schema --output NAME` prints the JSON Schema (draft 2020-12) of one of
them. Fields may be added in a later version, so leave alone those that you don't know; one that is here keeps its name and meaning, and
is always there: what is unknown is `null`. Times are in seconds since the Unix epoch, unless a field says otherwise.

";

/// The whole page.
pub fn page() -> String {
    let mut page = Page { text: HEAD.to_owned(), told: BTreeSet::new() };
    for shape in &SHAPES {
        page.shape(shape);
    }
    page.text.trim_end().to_owned() + "\n"
}

struct Page {
    text: String,
    /// Types that have their table.
    told: BTreeSet<String>,
}

impl Page {
    fn shape(&mut self, shape: &Shape) {
        let schema = shape.schema();
        writeln!(self.text, "## {}\n", shape.name).expect("a string takes all");
        let form = if shape.is_lines { ", each line" } else { "" };
        let what = if schema["type"] == "array" { format!(": {}", kind(&schema)) } else { String::new() };
        writeln!(self.text, "`bulkhead {} --json`{form}{what}\n", shape.words()).expect("a string takes all");
        self.body(&schema);
        // Their types, and the types of those.
        let all = &schema["$defs"];
        let mut wanted = named(&schema);
        while let Some(name) = wanted.pop() {
            if self.told.insert(name.clone()) {
                let definition = &all[&name];
                writeln!(self.text, "### {name}\n\n{}\n", says(definition)).expect("a string takes all");
                self.body(definition);
                wanted.extend(named(definition));
            }
        }
    }

    /// The fields, or the values, or one of several.
    fn body(&mut self, schema: &Value) {
        if let Some(fields) = schema["properties"].as_object() {
            self.text += "| field | type | what it is |\n| --- | --- | --- |\n";
            let order = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let order: Vec<&str> = order.collect();
            assert_eq!(order.len(), fields.len(), "every field is always there: {schema:#}");
            for name in order {
                let field = &fields[name];
                writeln!(self.text, "| `{name}` | {} | {} |", kind(field), says(field)).expect("a string takes all");
            }
            self.text.push('\n');
        }
        let values = schema["oneOf"].as_array().into_iter().flatten();
        for value in values {
            writeln!(self.text, "- `{}`: {}", value["const"].as_str().expect("a value"), says(value))
                .expect("a string takes all");
        }
        if schema["oneOf"].is_array() {
            self.text.push('\n');
        }
        for (index, variant) in schema["anyOf"].as_array().into_iter().flatten().enumerate() {
            let or = if index == 0 { "Either" } else { "Or" };
            let link = if variant["$ref"].is_string() { format!(" ({})", kind(variant)) } else { String::new() };
            writeln!(self.text, "{or}: {}{link}\n", says(variant)).expect("a string takes all");
            self.body(variant);
        }
    }
}

/// The types that a schema names itself, the first last.
fn named(schema: &Value) -> Vec<String> {
    fn find(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                for (key, below) in fields {
                    match below.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                        Some(name) if key == "$ref" => found.push(name.to_owned()),
                        _ if key != "$defs" => find(below, found),
                        _ => {}
                    }
                }
            }
            Value::Array(below) => below.iter().for_each(|below| find(below, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    find(schema, &mut found);
    found.reverse();
    found
}

/// A type in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|of| of.strip_prefix("#/$defs/")) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let one = |of: &str| match of {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => format!("object of {}", kind(&schema["additionalProperties"])),
        "string" if schema["format"] == "ip" => "address".to_owned(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(of) => one(of),
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        other => panic!("a type without a name: {other}: {schema:#}"),
    }
}

/// What a schema says of itself, for a cell of a table.
fn says(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}
