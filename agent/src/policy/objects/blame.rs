//! Which part of an object a problem is about.

use std::fmt;

use crate::policy::problem::Problem;
use crate::policy::yaml::{Mark, Node, Tree};

/// A problem of an object, and the part that it is about.
#[derive(Clone, Debug)]
pub(super) struct Blame {
    problem: Problem,
    path: Vec<Step>,
    /// Whether the part is the one field of the entry of a list that it stands in.
    is_alone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Entry(usize),
}

/// Fields of a spec that say nothing of a direction, or only of the one that they are called by.
const NEUTRAL: [&str; 7] = ["id", "description", "selector", "mode", "established", "ingress", "egress"];

impl Blame {
    /// The entry of a list of the spec that the problem is in.
    pub(super) fn entry_of(&self, list: &str) -> Option<usize> {
        match self.path.as_slice() {
            [spec, of, Step::Entry(at), ..] if is(spec, "spec") && is(of, list) => Some(*at),
            _ => None,
        }
    }

    /// Whether it can't be read whom the object is about: by its selector, its namespace, or its version.
    pub(super) fn is_of_selector(&self) -> bool {
        match self.path.as_slice() {
            [] => true,
            [field, ..] if is(field, "apiVersion") || is(field, "kind") => true,
            [spec] => is(spec, "spec") || is(spec, "metadata"),
            [metadata, field, ..] if is(metadata, "metadata") => is(field, "namespace"),
            [spec, field, ..] => is(spec, "spec") && (is(field, "selector") || is(field, "podSelector")),
        }
    }

    /// Whether it is about the object's name.
    pub(super) fn is_of_name(&self) -> bool {
        matches!(self.path.as_slice(), [metadata, name] if is(metadata, "metadata") && is(name, "name"))
    }

    /// Whether it is about one peer alone, which names a group or addresses that are not there: the others beside it stand.
    pub(super) fn is_of_one_peer(&self) -> bool {
        match self.path.as_slice() {
            [_, list, Step::Entry(_), side, Step::Entry(_), field] => {
                let is_list = ["ingress", "egress", "deny"].iter().any(|name| is(list, name));
                let is_side = is(side, "from") || is(side, "to");
                self.is_alone && is_list && is_side && (is(field, "group") || is(field, "addresses"))
            }
            _ => false,
        }
    }

    /// Whether the part may say that the object is about a direction.
    pub(super) fn may_be_of(&self, direction: &str) -> bool {
        match self.path.as_slice() {
            [spec, Step::Field(field), ..] if is(spec, "spec") => {
                field == direction || !NEUTRAL.contains(&field.as_str())
            }
            [metadata, ..] => !is(metadata, "metadata"),
            [] => true,
        }
    }

    /// The problem, with the part before it: an object has no lines.
    pub(super) fn told(&self) -> Problem {
        let message = match self.path.as_slice() {
            [] => self.problem.message.clone(),
            path => format!("{}: {}", Path(path), self.problem.message),
        };
        Problem { message, ..self.problem.clone() }
    }
}

/// The parts that problems of an object with this text are about.
pub(super) fn blames(text: &str, problems: Vec<Problem>) -> Vec<Blame> {
    let tree = Tree::read(text).ok();
    let root = tree.as_ref().and_then(|tree| tree.documents().next());
    let blame = |problem: Problem| {
        let mark = problem.origin.as_ref().map(|origin| Mark { line: origin.line, column: origin.column });
        let (path, is_alone) = root.zip(mark).map(|(root, mark)| path(root, mark)).unwrap_or_default();
        Blame { problem, path, is_alone }
    };
    problems.into_iter().map(blame).collect()
}

/// The way to the last node that begins at `mark` or before it, and whether the last field of it is alone.
fn path(root: Node<'_>, mark: Mark) -> (Vec<Step>, bool) {
    let (mut node, mut path, mut is_alone) = (root, Vec::new(), false);
    loop {
        let field = node.fields().take_while(|(key, _)| key.mark() <= mark).last();
        let below = if let Some((key, value)) = field {
            is_alone = node.fields().count() == 1;
            path.push(Step::Field(key.raw().to_owned()));
            value
        } else if node.fields().next().is_none()
            && let Some((at, entry)) = node.children().enumerate().take_while(|(_, entry)| entry.mark() <= mark).last()
        {
            path.push(Step::Entry(at));
            entry
        } else {
            return (path, is_alone);
        };
        if below.mark() > mark {
            return (path, is_alone);
        }
        node = below;
    }
}

fn is(step: &Step, name: &str) -> bool {
    matches!(step, Step::Field(field) if field == name)
}

/// As `kubectl explain` and people write it: `spec.ingress[0].from`.
struct Path<'a>(&'a [Step]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Entry(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}
