//! From nodes to the shapes of documents, reporting every problem on the way.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::field::FIELD;
use crate::policy::problem::Reporter;
use crate::policy::suggest::{listed, nearest};
use crate::policy::yaml::{Mark, Node, Value};

/// Reads a document; `None` where it has not even the outer shape, which is reported.
pub(in crate::policy) fn decode<'a, T: Deserialize<'a>>(node: Node<'a>, report: Reporter<'a>) -> Option<T> {
    let reader = Reader { node, name: Name::Document, report };
    T::deserialize(reader).map_err(|error| reader.report(error)).ok()
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: Node<'a>,
    name: Name<'a>,
    report: Reporter<'a>,
}

/// What a node is called in messages.
#[derive(Clone, Copy)]
enum Name<'a> {
    Document,
    Field(&'a str),
    Entry(&'a str),
    Key(&'a str),
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => f.write_str("a document"),
            Self::Field(name) => write!(f, "`{name}`"),
            Self::Entry(name) => write!(f, "each entry of `{name}`"),
            Self::Key(name) => write!(f, "each key of `{name}`"),
        }
    }
}

/// Why a node could not be read.
#[derive(Debug)]
enum Error {
    /// It is not what was expected.
    Expected(String),
    /// Something else, with its cure.
    Other(String, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected(what) => write!(f, "{what} is expected"),
            Self::Other(message, _) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string(), "see docs/policy.md for what it may be".to_owned())
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Expected(expected.to_string())
    }
}

const TEXT: &str = "text";
const NUMBER: &str = "a whole number";
const LIST: &str = "a list";
const MAP: &str = "a mapping";

impl<'a> Reader<'a> {
    fn report(self, error: Error) {
        let (message, cure) = match error {
            Error::Other(message, cure) => (message, cure),
            Error::Expected(_) if self.node.value() == Value::Null => {
                (format!("{} has no value", self.name), "give it one, or leave the field out".to_owned())
            }
            Error::Expected(expected) => {
                let cure = self.cure(&expected);
                (format!("{} must be {expected}, not {}", self.name, self.found()), cure)
            }
        };
        self.report.add(self.node.mark(), message, cure);
    }

    fn cure(self, expected: &str) -> String {
        let raw = self.node.raw();
        match (expected, self.node.value()) {
            (TEXT, Value::Bool(_) | Value::Integer(_) | Value::Float) => format!("write it in quotes: \"{raw}\""),
            (NUMBER, Value::Text) if raw.parse::<i64>().is_ok() => format!("write it without quotes: {raw}"),
            (LIST, _) => "write its entries below it, each after `- `, or between [ and ]".to_owned(),
            (MAP, _) => "write its fields below it, indented, as `name: value`, or between { and }".to_owned(),
            (_, Value::List) => format!("write {expected} alone, without `- ` or brackets"),
            _ => format!("write {expected}"),
        }
    }

    /// The value in words.
    fn found(self) -> String {
        let raw = || shorten(self.node.raw());
        match self.node.value() {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(_) | Value::Float => format!("the number {}", raw()),
            Value::Text => format!("the text `{}`", raw()),
            Value::List => LIST.to_owned(),
            Value::Map => MAP.to_owned(),
        }
    }

    /// The entries of a mapping, without keys that were there before, which are reported.
    fn entries(self, fields: Option<&'static [&'static str]>) -> Result<Entries<'a>, Error> {
        if self.node.value() != Value::Map {
            return Err(Error::Expected(MAP.to_owned()));
        }
        let mut seen = Keys::default();
        let mut entries = Vec::with_capacity(self.node.children().len() / 2);
        for (key, value) in self.node.fields() {
            let name = key.raw();
            if matches!(key.value(), Value::List | Value::Map) {
                self.report.add(key.mark(), "a list or mapping can't be the name of a field", "write a word");
                continue;
            }
            if let Some(first) = seen.note(key) {
                let message = format!("`{name}` is given twice: here and on line {}", first.line);
                self.report.add(key.mark(), message, "keep one of the two");
                continue;
            }
            match fields {
                Some(fields) if !fields.contains(&name) => {
                    let (message, cure) = unknown(self.name, name, fields);
                    self.report.add(key.mark(), message, cure);
                }
                _ => entries.push((key, value)),
            }
        }
        let open = fields.is_none();
        Ok(Entries { of: self, entries: entries.into_iter(), value: None, open })
    }
}

/// The keys of a mapping so far. Most have few, which are looked through.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Node<'a>>,
    many: HashMap<&'a str, Mark>,
}

impl<'a> Keys<'a> {
    const FEW: usize = 8;

    /// Notes a key; where it was there before, returns where that is.
    fn note(&mut self, key: Node<'a>) -> Option<Mark> {
        let name = key.raw();
        if let Some(first) = self.few.iter().find(|first| first.raw() == name) {
            return Some(first.mark());
        }
        if self.few.len() < Self::FEW {
            self.few.push(key);
            return None;
        }
        match self.many.entry(name) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(free) => {
                free.insert(key.mark());
                None
            }
        }
    }
}

/// What is wrong with an unknown field, and what may have been meant.
fn unknown(of: Name<'_>, name: &str, fields: &[&'static str]) -> (String, String) {
    let message = format!(
        "`{}` is no field of {}",
        shorten(name),
        match of {
            Name::Document => "this kind of document".to_owned(),
            Name::Field(name) | Name::Key(name) => format!("`{name}`"),
            Name::Entry(name) => format!("an entry of `{name}`"),
        }
    );
    let cure = match name {
        "<<" => "write the fields out: YAML's merge keys are not supported".to_owned(),
        "to" if fields.contains(&"from") => "`to` is for egress rules: an ingress rule says `from`".to_owned(),
        "from" if fields.contains(&"to") => "`from` is for ingress rules: an egress rule says `to`".to_owned(),
        _ => match nearest(name, fields.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its fields are {}", listed(fields.iter().copied(), "and")),
        },
    };
    (message, cure)
}

/// Texts of other people's making, short enough for a message.
pub(in crate::policy) fn shorten(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("{short}...") } else { short }
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Integer(value) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => Err(Error::Other(
                    format!("{} is far out of range: {}", self.name, shorten(self.node.raw())),
                    "write a smaller number".to_owned(),
                )),
            },
            Value::Float => visitor.visit_f64(f64::NAN),
            Value::Text => visitor.visit_borrowed_str(self.node.raw()),
            Value::List => self.deserialize_seq(visitor),
            Value::Map => self.deserialize_map(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == FIELD {
            return visitor.visit_seq(Parts { of: self, next: Cell::new(0) });
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::Text => visitor.visit_borrowed_str(self.node.raw()),
            _ => Err(Error::Expected(TEXT.to_owned())),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::Integer(_) => self.deserialize_any(visitor),
            _ => Err(Error::Expected(NUMBER.to_owned())),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::List => {
                let name = match self.name {
                    Name::Field(name) | Name::Entry(name) | Name::Key(name) => Name::Entry(name),
                    Name::Document => Name::Document,
                };
                let nodes = self.node.children().map(|node| Self { node, name, report: self.report });
                visitor.visit_seq(List(nodes))
            }
            _ => Err(Error::Expected(LIST.to_owned())),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.entries(None)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(self.entries(Some(fields))?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let raw = self.node.raw();
        match self.node.value() {
            Value::Text if variants.contains(&raw) => {
                let name: StrDeserializer<'_, Error> = raw.into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Text => {
                let choices = listed(variants.iter().copied(), "or");
                let cure = match nearest(raw, variants.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write {choices}"),
                };
                Err(Error::Other(format!("{} must be {choices}, not `{}`", self.name, shorten(raw)), cure))
            }
            _ => Err(Error::Expected(listed(variants.iter().copied(), "or"))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf option unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// A [`super::Field`]: mark, then value.
struct Parts<'a> {
    of: Reader<'a>,
    next: Cell<u8>,
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match self.next.replace(self.next.get() + 1) {
            0 => {
                let mark = self.of.node.mark();
                let parts = [mark.line, mark.column].map(|part| part as u64);
                let parts = parts.map(|part| -> U64Deserializer<Error> { part.into_deserializer() });
                seed.deserialize(de::value::SeqDeserializer::new(parts.into_iter())).map(Some)
            }
            _ => match seed.deserialize(self.of) {
                Ok(value) => Ok(Some(value)),
                Err(error) => {
                    self.of.report(error);
                    Ok(None)
                }
            },
        }
    }
}

struct List<I>(I);

impl<'de, I: ExactSizeIterator<Item = Reader<'de>>> SeqAccess<'de> for List<I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|reader| seed.deserialize(reader)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'a> {
    of: Reader<'a>,
    entries: std::vec::IntoIter<(Node<'a>, Node<'a>)>,
    value: Option<(Node<'a>, Node<'a>)>,
    /// Whether keys are anyone's choice, and so values like others.
    open: bool,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        if !self.open {
            let name: StrDeserializer<'_, Error> = key.raw().into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        let name = match self.of.name {
            Name::Field(name) | Name::Entry(name) | Name::Key(name) => Name::Key(name),
            Name::Document => Name::Document,
        };
        seed.deserialize(Reader { node: key, name, report: self.of.report }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(Reader { node, name: Name::Field(key.raw()), report: self.of.report })
    }
}
