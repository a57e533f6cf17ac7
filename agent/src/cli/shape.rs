//! The shapes of every `--json`, as JSON Schema: what a script may rely on.
//!
//! A shape is derived from the type that is printed, so that the two can't part. docs/json.md is made of this; the tests run every
//! subcommand that has a `--json` and hold its output against its shape.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::check::CheckView;
use super::detach::DetachView;
use super::suggest::SuggestView;
use crate::flow::record::Line;
use crate::trail::chain::Entry;
use crate::trail::verify::{HeadView, Verified};
use crate::view::audit::AuditView;
use crate::view::explain::ExplainView;
use crate::view::plan::PlanView;
use crate::view::{GroupsView, StatusView, WorkloadView};

/// What one subcommand prints with `--json`.
pub struct Shape {
    /// The words of the subcommand, joined by `-`, as in the name of its man page.
    pub name: &'static str,
    /// Whether each line is a document by itself.
    pub is_lines: bool,
    root: fn(SchemaGenerator) -> Schema,
}

/// One for each subcommand that has a `--json`.
pub const SHAPES: [Shape; 13] = [
    document::<CheckView>("check"),
    document::<StatusView>("status"),
    document::<Vec<WorkloadView>>("workloads"),
    document::<GroupsView>("groups"),
    lines::<Line>("flows"),
    document::<ExplainView>("explain"),
    document::<PlanView>("plan"),
    document::<AuditView>("audit"),
    document::<SuggestView>("suggest"),
    document::<Verified>("trail-verify"),
    document::<Vec<Entry>>("trail-show"),
    document::<HeadView>("trail-head"),
    document::<DetachView>("detach"),
];

const fn document<T: JsonSchema>(name: &'static str) -> Shape {
    Shape { name, is_lines: false, root: SchemaGenerator::into_root_schema_for::<T> }
}

const fn lines<T: JsonSchema>(name: &'static str) -> Shape {
    Shape { is_lines: true, ..document::<T>(name) }
}

impl Shape {
    /// The subcommand's words.
    #[must_use]
    pub fn words(&self) -> String {
        self.name.replace('-', " ")
    }

    /// The JSON Schema (draft 2020-12) of the document, or of each line.
    #[must_use]
    pub fn schema(&self) -> Value {
        let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(RecursiveTransform(for_readers));
        let mut schema = (self.root)(settings.into_generator());
        let what = if self.is_lines { "A line of " } else { "" };
        schema.insert("title".to_owned(), format!("{what}bulkhead {} --json", self.words()).into());
        schema.into()
    }
}

/// Comments in the code say `None` for what is `null` in JSON.
fn for_readers(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("`None`", "`null`");
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
