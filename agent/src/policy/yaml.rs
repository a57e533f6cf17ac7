//! YAML text to trees whose nodes know where they stand.
//!
//! Two readers take part: saphyr's tells where each node stands and stops what is too big, then serde_yaml's gives the
//! values. A text that the two read differently is refused, so a position never points at another value than the one in force.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::problem::Reporter;

/// Nodes of one file, those that aliases repeat included: more is no policy, but an attempt to fill the memory.
pub(super) const MAX_NODES: usize = 250_000;
/// How deep a document may nest; the deepest that means anything has about ten levels.
pub(super) const MAX_DEPTH: usize = 32;

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) value: Value,
    /// A scalar's text as it stands in the file; empty for lists and mappings.
    pub(super) raw: String,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text,
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// The documents of a text, empty ones left out; `None` where it is no YAML, which is reported.
pub(super) fn documents(text: &str, report: Reporter<'_>) -> Option<Vec<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (outlines, end) = Outliner::default().outline(text, report)?;
    let mut outlines = outlines.into_iter();
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let outline = outlines.next().unwrap_or_else(|| Rc::new(Outline::empty(end)));
        match Typed(&outline).deserialize(document) {
            Ok(Node { value: Value::Null, .. }) => {}
            Ok(node) => documents.push(node),
            Err(error) => {
                let mark = error.location().map_or(outline.mark, |at| place(text, at.index()));
                report.add(mark, format!("this is not valid YAML: {error}"), "mend the YAML here or just above");
                return None;
            }
        }
    }
    if let Some(outline) = outlines.find(|outline| !outline.is_null()) {
        report.add(outline.mark, "this document is read differently by different YAML readers", CURE_AMBIGUOUS);
        return None;
    }
    Some(documents)
}

/// The place of a character, counted from 0. The reader of values counts lines otherwise than editors do: for YAML 1.1 they end at
/// U+0085, U+2028 and U+2029, too.
fn place(text: &str, index: usize) -> Mark {
    let mut mark = Mark { line: 1, column: 1 };
    let mut letters = text.chars().take(index).peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\n' => mark = Mark { line: mark.line + 1, column: 1 },
            '\r' if letters.peek() != Some(&'\n') => mark = Mark { line: mark.line + 1, column: 1 },
            _ => mark.column += 1,
        }
    }
    mark
}

const CURE_AMBIGUOUS: &str = "write it more plainly: one field a line, texts in quotes";

/// Where nodes stand, before their values are known.
struct Outline {
    mark: Mark,
    shape: Shape,
    /// Nodes in it, itself included and aliases written out.
    size: usize,
}

enum Shape {
    Scalar(String, ScalarStyle),
    List(Vec<Rc<Outline>>),
    Map(Vec<(Rc<Outline>, Rc<Outline>)>),
}

impl Outline {
    fn empty(mark: Mark) -> Self {
        Self { mark, shape: Shape::Scalar("~".to_owned(), ScalarStyle::Plain), size: 1 }
    }

    fn is_null(&self) -> bool {
        matches!(&self.shape, Shape::Scalar(text, ScalarStyle::Plain) if ["", "~", "null", "Null", "NULL"].contains(&text.as_str()))
    }
}

/// A list or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    map: bool,
    children: Vec<Rc<Outline>>,
    size: usize,
}

#[derive(Default)]
struct Outliner {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Outline>>,
    documents: Vec<Rc<Outline>>,
    nodes: usize,
}

impl Outliner {
    /// Outlines of all documents, and where the text ends.
    fn outline(mut self, text: &str, report: Reporter<'_>) -> Option<(Vec<Rc<Outline>>, Mark)> {
        let mut end = Mark { line: 1, column: 1 };
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let message = format!("this is not valid YAML: {}", error.info());
                    report.add((*error.marker()).into(), message, "mend the YAML here or just above");
                    return None;
                }
            };
            let mark = Mark::from(span.start);
            end = Mark::from(span.end);
            if let Err((message, cure)) = self.event(event, mark) {
                report.add(mark, message, cure);
                return None;
            }
        }
        Some((self.documents, end))
    }

    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), (String, String)> {
        match event {
            Event::Scalar(.., Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => Err((
                "this value has a YAML tag, which means nothing here".to_owned(),
                "remove the word that begins with `!`".to_owned(),
            )),
            Event::Scalar(text, style, anchor, None) => {
                // A value that is not there has the mark of what follows it: its key tells more.
                let mark = match self.open.last() {
                    Some(Open { map: true, children, .. })
                        if children.len() % 2 == 1 && text == "~" && style == ScalarStyle::Plain =>
                    {
                        children.last().map_or(mark, |key| key.mark)
                    }
                    _ => mark,
                };
                self.close(Outline { mark, shape: Shape::Scalar(text.into_owned(), style), size: 1 }, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(outline) => self.put(outline.clone()),
                None => Err((
                    "this alias repeats something that is not complete yet".to_owned(),
                    "write out what it should stand for".to_owned(),
                )),
            },
            Event::SequenceStart(anchor, None) => self.begin(mark, anchor, false),
            Event::MappingStart(anchor, None) => self.begin(mark, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser ends only what it began");
                let shape = if open.map {
                    let mut children = open.children.into_iter();
                    let pairs = std::iter::from_fn(|| Some((children.next()?, children.next()?)));
                    Shape::Map(pairs.collect())
                } else {
                    Shape::List(open.children)
                };
                self.close(Outline { mark: open.mark, shape, size: open.size }, open.anchor)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, map: bool) -> Result<(), (String, String)> {
        if self.open.len() == MAX_DEPTH {
            let message = format!("this nests more than {MAX_DEPTH} levels deep");
            return Err((message, "no policy needs that: see docs/policy.md for the fields".to_owned()));
        }
        self.open.push(Open { mark, anchor, map, children: Vec::new(), size: 1 });
        Ok(())
    }

    fn close(&mut self, outline: Outline, anchor: usize) -> Result<(), (String, String)> {
        let outline = Rc::new(outline);
        if anchor != 0 {
            self.anchors.insert(anchor, outline.clone());
        }
        self.put(outline)
    }

    /// Puts a complete node where it belongs.
    fn put(&mut self, outline: Rc<Outline>) -> Result<(), (String, String)> {
        let within = self.open.iter().map(|open| open.size).fold(self.nodes, usize::saturating_add);
        if within.saturating_add(outline.size) > MAX_NODES {
            let message =
                format!("with this the file has more than {MAX_NODES} values, those that aliases repeat included");
            return Err((message, "write it without aliases, or cut it into several files".to_owned()));
        }
        match self.open.last_mut() {
            Some(open) => {
                open.size += outline.size;
                open.children.push(outline);
            }
            None => {
                self.nodes += outline.size;
                self.documents.push(outline);
            }
        }
        Ok(())
    }
}

/// Reads values along an outline.
struct Typed<'o>(&'o Outline);

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Typed<'_> {
    fn scalar<E: de::Error>(self, value: Value) -> Result<Node, E> {
        match &self.0.shape {
            Shape::Scalar(text, _) => Ok(Node { mark: self.0.mark, value, raw: text.clone() }),
            _ => Err(ambiguous()),
        }
    }
}

fn ambiguous<E: de::Error>() -> E {
    E::custom(format!("different YAML readers read it differently, so {CURE_AMBIGUOUS}"))
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        self.scalar(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        self.scalar(Value::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        self.scalar(Value::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        self.scalar(Value::Integer(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        self.scalar(i128::try_from(value).map_or(Value::Float, Value::Integer))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        self.scalar(Value::Float)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        match &self.0.shape {
            Shape::Scalar(text, _) if text == value => self.scalar(Value::Text),
            _ => Err(ambiguous()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let Shape::List(outlines) = &self.0.shape else { return Err(ambiguous()) };
        let mut nodes = Vec::with_capacity(outlines.len());
        for outline in outlines {
            nodes.push(entries.next_element_seed(Typed(outline))?.ok_or_else(ambiguous)?);
        }
        // Asked once more, serde_yaml sees the list's end.
        match entries.next_element::<de::IgnoredAny>()? {
            None => Ok(Node { mark: self.0.mark, value: Value::List(nodes), raw: String::new() }),
            Some(_) => Err(ambiguous()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let Shape::Map(outlines) = &self.0.shape else { return Err(ambiguous()) };
        let mut nodes = Vec::with_capacity(outlines.len());
        for (key, value) in outlines {
            let key = entries.next_key_seed(Typed(key))?.ok_or_else(ambiguous)?;
            nodes.push((key, entries.next_value_seed(Typed(value))?));
        }
        match entries.next_key::<de::IgnoredAny>()? {
            None => Ok(Node { mark: self.0.mark, value: Value::Map(nodes), raw: String::new() }),
            Some(_) => Err(ambiguous()),
        }
    }
}

#[cfg(test)]
mod tests;
