//! YAML text to trees whose nodes know where they stand.
//!
//! A tree is three lists (nodes, texts, documents) whatever its size: a policy of ten thousand rules has a hundred thousand
//! values, and memory for each of them alone would take longer than reading them.

mod scalar;

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

pub(super) use scalar::Value;

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

/// Why a text is no YAML that is taken: where, what, and the cure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) cure: String,
}

/// The documents of a text, empty ones left out.
#[derive(Debug, Default)]
pub(super) struct Tree {
    documents: Vec<Entry>,
    /// The children of lists and mappings, those of each together.
    nodes: Vec<Entry>,
    /// The scalars' texts, one after the other.
    texts: String,
}

impl Tree {
    /// Reads a text.
    ///
    /// # Errors
    /// It is no YAML, or more than a policy needs.
    pub(super) fn read(text: &str) -> Result<Self, Flaw> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| Flaw {
                mark: (*error.marker()).into(),
                message: format!("this is not valid YAML: {}", error.info()),
                cure: "mend the YAML here or just above".to_owned(),
            })?;
            let mark = Mark::from(span.start);
            builder.event(event, mark).map_err(|(message, cure)| Flaw { mark, message, cure })?;
        }
        Ok(builder.tree)
    }

    /// The documents.
    pub(super) fn documents(&self) -> impl Iterator<Item = Node<'_>> {
        self.documents.iter().map(|entry| Node { tree: self, entry })
    }
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Node<'t> {
    tree: &'t Tree,
    entry: &'t Entry,
}

impl<'t> Node<'t> {
    pub(super) fn mark(self) -> Mark {
        Mark { line: self.entry.line as usize, column: self.entry.column as usize }
    }

    /// A scalar's text as it stands in the file; empty for lists and mappings.
    pub(super) fn raw(self) -> &'t str {
        match self.entry.kind {
            Kind::Plain | Kind::Quoted => &self.tree.texts[self.entry.range()],
            Kind::List | Kind::Map => "",
        }
    }

    pub(super) fn value(self) -> Value {
        match self.entry.kind {
            Kind::Plain => Value::of_plain(self.raw()),
            Kind::Quoted => Value::Text,
            Kind::List => Value::List,
            Kind::Map => Value::Map,
        }
    }

    /// The values in a list; of a mapping, its keys and values by turns; of a scalar none.
    pub(super) fn children(self) -> impl ExactSizeIterator<Item = Self> {
        let children = match self.entry.kind {
            Kind::List | Kind::Map => &self.tree.nodes[self.entry.range()],
            Kind::Plain | Kind::Quoted => &[],
        };
        children.iter().map(move |entry| Node { tree: self.tree, entry })
    }

    /// The fields of a mapping; of anything else none.
    pub(super) fn fields(self) -> impl Iterator<Item = (Self, Self)> {
        let mut children = if self.entry.kind == Kind::Map { Some(self.children()) } else { None };
        std::iter::from_fn(move || {
            let children = children.as_mut()?;
            Some((children.next()?, children.next()?))
        })
    }
}

/// A node within its tree. Files are at most [`super::load::MAX_FILE`] bytes long, and so are these numbers small.
#[derive(Clone, Copy, Debug)]
struct Entry {
    line: u32,
    column: u32,
    /// Of the texts for a scalar, else of the nodes.
    start: u32,
    len: u32,
    /// Nodes in it, itself included and aliases written out.
    size: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Quoted,
    List,
    Map,
}

impl Entry {
    fn new(mark: Mark, kind: Kind, range: Range<usize>, size: usize) -> Self {
        let small = |number: usize| u32::try_from(number).expect("no file is that long");
        let (start, len) = (small(range.start), small(range.len()));
        Self { line: small(mark.line), column: small(mark.column), start, len, size: small(size), kind }
    }

    const fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// A list or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    kind: Kind,
    /// Where its children begin among those that wait.
    children: usize,
    /// Nodes before it.
    before: usize,
}

#[derive(Default)]
struct Builder {
    tree: Tree,
    open: Vec<Open>,
    /// Children of what is open.
    waiting: Vec<Entry>,
    anchors: HashMap<usize, Entry>,
    /// Nodes so far, aliases written out.
    nodes: usize,
}

/// What is wrong, and the cure.
type Wrong = (String, String);

impl Builder {
    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Wrong> {
        match event {
            Event::Scalar(.., Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => Err((
                "this value has a YAML tag, which means nothing here".to_owned(),
                "remove the word that begins with `!`".to_owned(),
            )),
            Event::Scalar(text, style, anchor, None) => {
                let kind = if style == ScalarStyle::Plain { Kind::Plain } else { Kind::Quoted };
                // A value that is not there has the mark of what follows it: its key tells more.
                let is_absent = kind == Kind::Plain && matches!(&*text, "" | "~");
                let mark = self.key().filter(|_| is_absent).unwrap_or(mark);
                let start = self.tree.texts.len();
                self.tree.texts.push_str(&text);
                self.count(1)?;
                self.put(Entry::new(mark, kind, start..self.tree.texts.len(), 1), anchor);
                Ok(())
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).copied() {
                Some(entry) => {
                    self.count(entry.size as usize)?;
                    self.put(entry, 0);
                    Ok(())
                }
                None => Err((
                    "this alias repeats something that is not complete yet".to_owned(),
                    "write out what it should stand for".to_owned(),
                )),
            },
            Event::SequenceStart(anchor, None) => self.begin(mark, anchor, Kind::List),
            Event::MappingStart(anchor, None) => self.begin(mark, anchor, Kind::Map),
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser ends only what it began");
                let start = self.tree.nodes.len();
                self.tree.nodes.extend(self.waiting.drain(open.children..));
                let (range, size) = (start..self.tree.nodes.len(), self.nodes - open.before);
                self.put(Entry::new(open.mark, open.kind, range, size), open.anchor);
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    /// Where the key stands whose value comes next.
    fn key(&self) -> Option<Mark> {
        let open = self.open.last().filter(|open| open.kind == Kind::Map)?;
        let key = self.waiting[open.children..].chunks(2).next_back().filter(|pair| pair.len() == 1)?;
        Some(Mark { line: key[0].line as usize, column: key[0].column as usize })
    }

    fn begin(&mut self, mark: Mark, anchor: usize, kind: Kind) -> Result<(), Wrong> {
        if self.open.len() == MAX_DEPTH {
            let message = format!("this nests more than {MAX_DEPTH} levels deep");
            return Err((message, "no policy needs that: see docs/policy.md for the fields".to_owned()));
        }
        self.open.push(Open { mark, anchor, kind, children: self.waiting.len(), before: self.nodes });
        self.count(1)
    }

    fn count(&mut self, nodes: usize) -> Result<(), Wrong> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message =
                format!("with this the file has more than {MAX_NODES} values, those that aliases repeat included");
            return Err((message, "write it without aliases, or cut it into several files".to_owned()));
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn put(&mut self, entry: Entry, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, entry);
        }
        if !self.open.is_empty() {
            self.waiting.push(entry);
        } else if (Node { tree: &self.tree, entry: &entry }).value() != Value::Null {
            self.tree.documents.push(entry);
        }
    }
}

#[cfg(test)]
mod tests;
