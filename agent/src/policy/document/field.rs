//! A field of a document: absent, refused, or a value; and where it stands.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::policy::yaml::Mark;

/// A field. What is wrong with a value is reported where it is read, and the fields beside it are read all the same: so one
/// reading finds every problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// It is not there.
    #[default]
    Absent,
    /// It is there and wrong, which has been reported.
    Refused(Mark),
    /// Its value.
    Is(Mark, T),
}

impl<T> Field<T> {
    /// The value.
    pub const fn get(&self) -> Option<&T> {
        match self {
            Self::Is(_, value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    /// The value and where it stands.
    pub const fn marked(&self) -> Option<(Mark, &T)> {
        match self {
            Self::Is(mark, value) => Some((*mark, value)),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    /// Where the field's value stands.
    pub const fn mark(&self) -> Option<Mark> {
        match self {
            Self::Is(mark, _) | Self::Refused(mark) => Some(*mark),
            Self::Absent => None,
        }
    }

    /// Whether the field is not there at all.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// The name under which the reader of policy files recognises a [`Field`].
pub(super) const FIELD: &str = "bulkhead::Field";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    /// As the reader of policy files has it: the mark, then the value, whose errors it has reported.
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let (line, column) = parts.next_element()?.unwrap_or_default();
        let mark = Mark { line, column };
        Ok(match parts.next_element() {
            Ok(Some(value)) => Field::Is(mark, value),
            Ok(None) | Err(_) => Field::Refused(mark),
        })
    }

    /// As any other format has it.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(Field::Is(Mark::default(), T::deserialize(deserializer)?))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Texts by key, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<(Field<String>, Field<String>)>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    texts.push(entry);
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_map(TextsVisitor)
    }
}

impl JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "object", "additionalProperties": {"type": "string"}})
    }
}
