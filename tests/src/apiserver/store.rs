//! Objects, their versions, and what became of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::resource::Resource;
use super::selector::FIELDS;

/// Lists whose further pages can be asked for.
const SNAPSHOTS: usize = 64;
/// Changes of one kind that watches can go back to.
const CHANGES: usize = 200_000;

/// An object as it was at one version.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) text: Bytes,
    pub(super) labels: BTreeMap<String, String>,
    /// Those that can be selected by.
    pub(super) fields: BTreeMap<String, String>,
}

impl Object {
    fn new(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let labels = value["metadata"]["labels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect();
        let field = |path: &str| text(value.pointer(&format!("/{}", path.replace('.', "/")))?);
        let fields = FIELDS.map(|path| (path.to_owned(), field(path).unwrap_or_default())).into();
        Self { text: value.to_string().into(), labels, fields }
    }

    pub(super) fn namespace(&self) -> Option<&String> {
        self.fields.get("metadata.namespace").filter(|namespace| !namespace.is_empty())
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.text).expect("it was written as JSON")
    }

    /// The same at another version, as it is told to be deleted.
    pub(super) fn text_at(&self, version: u64) -> Bytes {
        let mut value = self.value();
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        value.to_string().into()
    }
}

/// What became of an object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) before: Option<Arc<Object>>,
    pub(super) after: Option<Arc<Object>>,
}

/// Objects by name.
pub(super) type Objects = BTreeMap<String, Arc<Object>>;

#[derive(Debug, Default)]
struct Table {
    kind: String,
    api_version: String,
    /// Shared with lists that are not read to the end; changed by copying then.
    objects: Arc<Objects>,
    changes: VecDeque<Change>,
    /// The last version whose changes are not known any more.
    forgotten: u64,
}

/// Too old, or not known yet.
#[derive(Debug)]
pub(super) enum NotThere {
    Gone,
    TooLarge,
}

/// A list at one version.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) objects: Arc<Objects>,
}

#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    began: u64,
    /// By path.
    tables: HashMap<String, Table>,
    snapshots: VecDeque<(u64, String, Arc<Objects>)>,
}

impl Store {
    pub(super) fn new(version: u64) -> Self {
        Self { version, began: version, tables: HashMap::new(), snapshots: VecDeque::new() }
    }

    pub(super) fn put(&mut self, resource: &Resource, mut value: Value) -> u64 {
        value["apiVersion"] = json!(resource.api_version());
        value["kind"] = json!(resource.kind);
        self.put_at(&resource.path(), value)
    }

    /// Puts an object that says of what kind it is.
    pub(super) fn put_at(&mut self, path: &str, mut value: Value) -> u64 {
        self.version += 1;
        let version = self.version;
        let metadata = &value["metadata"];
        let name = metadata["name"].as_str().expect("an object has a name");
        let name = match metadata["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        let table = self.table(path);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (table.kind, table.api_version) = (word(&value["kind"]), word(&value["apiVersion"]));
        let before = table.objects.get(&name).cloned();
        let was = before.as_ref().map(|before| before.value()).unwrap_or_default();
        let generation = was["metadata"]["generation"].as_u64().unwrap_or_default();
        let is_other = generation == 0 || was["spec"] != value["spec"];
        let metadata = &mut value["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata["uid"].is_null() {
            let new = format!("00000000-0000-4000-8000-{version:012x}");
            metadata["uid"] =
                if was["metadata"]["uid"].is_string() { was["metadata"]["uid"].clone() } else { json!(new) };
        }
        metadata["generation"] = json!(generation + u64::from(is_other));
        let after = Arc::new(Object::new(&value));
        Arc::make_mut(&mut table.objects).insert(name, Arc::clone(&after));
        table.note(Change { version, before, after: Some(after) });
        version
    }

    pub(super) fn delete(&mut self, resource: &Resource, name: &str) -> Option<u64> {
        self.delete_at(&resource.path(), name)
    }

    pub(super) fn delete_at(&mut self, path: &str, name: &str) -> Option<u64> {
        let version = self.version + 1;
        let table = self.table(path);
        let before = Arc::make_mut(&mut table.objects).remove(name)?;
        table.note(Change { version, before: Some(before), after: None });
        self.version = version;
        Some(version)
    }

    pub(super) fn get(&self, resource: &Resource, name: &str) -> Option<&Arc<Object>> {
        self.get_at(&resource.path(), name)
    }

    pub(super) fn get_at(&self, path: &str, name: &str) -> Option<&Arc<Object>> {
        self.tables.get(path)?.objects.get(name)
    }

    pub(super) fn forget(&mut self) {
        self.snapshots.clear();
        for table in self.tables.values_mut() {
            table.changes.clear();
            table.forgotten = self.version;
        }
        self.began = self.version;
    }

    /// All objects, as they are now, or as they were at a version that somebody is reading.
    pub(super) fn list(&mut self, path: &str, version: Option<u64>) -> Result<Snapshot, NotThere> {
        let now = self.version;
        let table = self.table(path);
        let (kind, api_version) = (table.kind.clone(), table.api_version.clone());
        let objects = Arc::clone(&table.objects);
        let Some(version) = version else { return Ok(Snapshot { version: now, kind, api_version, objects }) };
        let held = self.snapshots.iter().find(|(of, at, _)| *of == version && at == path);
        let objects = held.map(|(_, _, objects)| Arc::clone(objects)).ok_or(NotThere::Gone)?;
        Ok(Snapshot { version, kind, api_version, objects })
    }

    /// Keeps a list for those that ask for its further pages.
    pub(super) fn keep(&mut self, path: &str, list: &Snapshot) {
        if self.snapshots.iter().any(|(version, at, _)| *version == list.version && at == path) {
            return;
        }
        self.snapshots.truncate(SNAPSHOTS - 1);
        self.snapshots.push_front((list.version, path.to_owned(), Arc::clone(&list.objects)));
    }

    /// At most so many changes after a version, and the version that they lead to.
    pub(super) fn since(&self, path: &str, version: u64, most: usize) -> Result<(Vec<Change>, u64), NotThere> {
        if version > self.version {
            return Err(NotThere::TooLarge);
        }
        if version < self.began {
            return Err(NotThere::Gone);
        }
        let Some(table) = self.tables.get(path) else { return Ok((Vec::new(), self.version)) };
        if version < table.forgotten {
            return Err(NotThere::Gone);
        }
        let first = table.changes.partition_point(|change| change.version <= version);
        let changes: Vec<_> = table.changes.range(first..).take(most).cloned().collect();
        let up_to = match changes.last() {
            Some(last) if changes.len() == most => last.version,
            _ => self.version,
        };
        Ok((changes, up_to))
    }

    fn table(&mut self, path: &str) -> &mut Table {
        if !self.tables.contains_key(path) {
            self.tables.insert(path.to_owned(), Table { forgotten: self.began, ..Table::default() });
        }
        self.tables.get_mut(path).expect("it is there now")
    }
}

impl Table {
    fn note(&mut self, change: Change) {
        if self.changes.len() == CHANGES
            && let Some(oldest) = self.changes.pop_front()
        {
            self.forgotten = oldest.version;
        }
        self.changes.push_back(change);
    }
}
