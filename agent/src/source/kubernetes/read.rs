//! Objects, pages of them and news of them, as they stand in JSON. Each object is read on its own: one that makes no sense
//! costs nobody else anything.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::source::kubernetes::object::{Kind, Unread};

/// An object that was read.
#[derive(Debug)]
pub(super) struct Read<F> {
    /// `NAMESPACE/NAME`, as far as it has a name.
    pub(super) name: Option<String>,
    /// Its version.
    pub(super) version: Option<String>,
    /// What is told of it.
    pub(super) fact: Option<F>,
    /// What in it makes no sense and was left out.
    pub(super) doubts: Vec<String>,
    /// Why it could not be read at all.
    pub(super) error: Option<String>,
}

/// Reads an object as its kind.
pub(super) fn read<K: Kind>(kind: &K, text: &str) -> Read<K::Fact> {
    match serde_json::from_str::<K::Object>(text) {
        Ok(object) => {
            let mut doubts = Vec::new();
            let metadata = K::metadata(&object);
            let (name, version) = (metadata.full_name(), metadata.resource_version.clone());
            let fact = kind.fact(name.clone(), object, &mut doubts);
            Read { name: Some(name), version, fact, doubts, error: None }
        }
        Err(error) => {
            let Unread { name, version } = Unread::of(text);
            Read { name, version, fact: None, doubts: Vec::new(), error: Some(error.to_string()) }
        }
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    kind: Option<Cow<'a, str>>,
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

impl<'a> Page<'a> {
    /// Reads a page.
    ///
    /// # Errors
    /// It is no list: a server that says so much else would seem to say that nothing exists.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, String> {
        let page: Self = serde_json::from_slice(text).map_err(|error| format!("a list: {error}"))?;
        match page.kind.as_deref() {
            Some(kind) if kind.ends_with("List") => Ok(page),
            other => Err(format!("a list was asked for and {:?} came", other.unwrap_or_default())),
        }
    }

    /// The objects.
    pub(super) fn items(&self) -> impl Iterator<Item = &'a str> {
        self.items.iter().flatten().map(|item| item.get())
    }

    /// What to ask for the next page with; `None` after the last.
    pub(super) fn next(&self) -> Option<&str> {
        self.metadata.r#continue.as_deref().filter(|token| !token.is_empty())
    }

    /// The version of the list: a watch goes on from there.
    pub(super) fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref().filter(|version| !version.is_empty())
    }
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct News<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    /// The object, as it is or was.
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What a bookmark has of an object.
#[derive(Debug, Deserialize)]
pub(super) struct Bookmark {
    pub(super) metadata: BookmarkMeta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BookmarkMeta {
    pub(super) resource_version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_objects_and_where_to_go_on() {
        let text =
            br#"{"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "x"}, "items": [{"a": 1}, 2]}"#;
        let page = Page::read(text).expect("a page");
        assert_eq!(page.items().collect::<Vec<_>>(), [r#"{"a": 1}"#, "2"]);
        assert_eq!((page.next(), page.version()), (Some("x"), Some("7")));
        let last = Page::read(br#"{"kind": "List", "metadata": {"continue": ""}, "items": null}"#).expect("a page");
        assert_eq!((last.next(), last.version(), last.items().count()), (None, None, 0));
    }

    #[test]
    fn what_is_no_list_does_not_say_that_nothing_exists() {
        for text in
            ["{}", "[]", "null", "", r#"{"kind": "Status", "metadata": {}}"#, r#"{"kind": "PodList"}"#, "<html>"]
        {
            Page::read(text.as_bytes()).expect_err(text);
        }
    }
}
