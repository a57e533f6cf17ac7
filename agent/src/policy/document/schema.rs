//! The JSON Schema of policy documents, for editors.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::{API_VERSION, AddressGroupSpec, Document, GuardrailSpec, SecurityGroupSpec, WorkloadSpec};

/// The schema of one document: one of the kinds. What it can't say (that a named group exists, that a range is the right way
/// up) only `bulkhead check` knows.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let kinds = [
        kind::<SecurityGroupSpec>(
            "SecurityGroup",
            "Who is in a group, and what its members may receive and send",
            &mut generator,
        ),
        kind::<GuardrailSpec>("Guardrail", "What is denied, whatever groups allow", &mut generator),
        kind::<WorkloadSpec>("Workload", "A statically declared workload", &mut generator),
        kind::<AddressGroupSpec>("AddressGroup", "CIDRs under a name, for rules", &mut generator),
    ];
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Bulkhead policy document",
        "oneOf": kinds,
        "definitions": generator.take_definitions(true),
    })
}

/// One kind's schema, inline, so that an editor sees its constant `kind` at once.
fn kind<S: JsonSchema>(name: &str, description: &str, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = <Document<S>>::json_schema(generator);
    schema.insert("title".to_owned(), name.into());
    schema.insert("description".to_owned(), description.into());
    if let Some(properties) = schema.get_mut("properties") {
        properties["apiVersion"]["const"] = API_VERSION.into();
        properties["kind"]["const"] = name.into();
    }
    schema
}

#[cfg(test)]
mod tests;
