//! Policy from the Kubernetes API beside the policy files: what was told of either, judged together whenever one changes.
//!
//! Whatever can't be had stays as it was: objects while the API server is away, files while they are refused. Who follows the
//! API tells of its objects with [`PolicyObjects::tell`].

mod sketch;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::controller::{Event, InForce, Loaded, OfObjects, PolicyLoad, Receipt};
use crate::policy::load::load_files;
use crate::policy::objects::{Accepted, ApiObject, ObjectKind, ObjectName, Refusal, judge_with_objects};
use crate::policy::problem::Problem;
use crate::policy::validate::PolicyFile;
use crate::source::Told;
use crate::surface::stopped;
use crate::workload::port::{PortName, PortNumbers};

pub use sketch::Mark;

/// Changes that come so close to one another are judged at once.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// What is known is put in force without kinds that could not be listed by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files and objects, as far as they are known. Clones are the same one.
#[derive(Clone, Debug)]
pub struct PolicyObjects(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    /// Held while judging: what is judged later counts for more.
    last: Mutex<Last>,
    changed: Notify,
    /// The kinds of which everything was told once.
    listed: watch::Sender<BTreeSet<ObjectKind>>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    /// Which custom resources are in force as they were written; `None` until that is known.
    in_force: watch::Sender<Option<InForce>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that were right by themselves last.
    files: Vec<PolicyFile>,
    /// What is wrong with them since.
    problems: Vec<Problem>,
    objects: BTreeMap<ObjectName, ApiObject>,
    /// What pods have for names of ports.
    ports: PortNumbers,
    /// The names that the policy which was judged last depends on.
    port_names: BTreeSet<PortName>,
    /// When the oldest change was told that was not judged yet.
    seen: Option<Instant>,
}

#[derive(Debug, Default)]
struct Last {
    order: u64,
    accepted: Accepted,
}

/// What became of every object.
#[derive(Clone, Debug, Default)]
struct Verdicts {
    /// UID and generation of each that was judged.
    judged: BTreeMap<ObjectName, (String, i64)>,
    /// Those that are not in force as they were written.
    refused: BTreeMap<ObjectName, Refusal>,
}

impl PolicyObjects {
    /// Reads the files; nothing is known of the API yet. Without `paths` there are no files.
    ///
    /// # Errors
    /// Every problem with the files.
    pub fn new(paths: &[PathBuf]) -> Result<Self, Vec<Problem>> {
        let files = if paths.is_empty() { Vec::new() } else { load_files(paths)? };
        let known = Mutex::new(Known { files, ..Known::default() });
        Ok(Self(Arc::new(Shared {
            known,
            last: Mutex::default(),
            changed: Notify::new(),
            listed: watch::Sender::default(),
            verdicts: watch::Sender::default(),
            in_force: watch::Sender::default(),
        })))
    }

    /// Takes word of the API on objects of `kind`. A kind that is not installed has none.
    pub fn tell(&self, seen: Instant, kind: ObjectKind, told: Told<ApiObject>) {
        let mut known = lock(&self.0.known);
        let mut changes = false;
        match told {
            Told::All(all) => {
                let all: BTreeMap<_, _> = all.into_iter().map(|object| (object.name.clone(), object)).collect();
                let gone = |name: &ObjectName| name.kind == kind && !all.contains_key(name);
                let before = known.objects.len();
                known.objects.retain(|name, _| !gone(name));
                changes |= known.objects.len() != before;
                for object in all.into_values() {
                    changes |= known.take(object);
                }
                self.0.listed.send_if_modified(|listed| listed.insert(kind));
            }
            Told::One(object) => changes |= known.take(object),
            Told::Gone(name) => changes |= known.objects.remove(&ObjectName::of(kind, &name)).is_some(),
        }
        if changes {
            known.seen.get_or_insert(seen);
            self.0.changed.notify_one();
        }
    }

    /// Takes the numbers that pods have for names of ports. Names that no rule uses change nothing.
    pub fn tell_ports(&self, seen: Instant, ports: PortNumbers) {
        let mut known = lock(&self.0.known);
        if known.port_names.iter().any(|name| known.ports.differ_in(&ports, name)) {
            known.seen.get_or_insert(seen);
            self.0.changed.notify_one();
        }
        known.ports = ports;
    }

    /// Reads the files again and judges them with the objects, as [`PolicyFiles::watch`] wants it.
    ///
    /// [`PolicyFiles::watch`]: crate::source::file::PolicyFiles::watch
    #[must_use]
    pub fn load(&self, paths: &[PathBuf]) -> Loaded {
        match load_files(paths) {
            Ok(files) => {
                let mut known = lock(&self.0.known);
                (known.files, known.problems) = (files, Vec::new());
            }
            Err(problems) => {
                lock(&self.0.known).problems.clone_from(&problems);
                let last = lock(&self.0.last);
                let refused = self.0.verdicts.borrow().refused.clone();
                return Loaded {
                    result: Err(problems),
                    objects: OfObjects { order: last.order, refused, ..OfObjects::default() },
                };
            }
        }
        self.judge()
    }

    /// Judges what is known.
    #[must_use]
    pub fn judge(&self) -> Loaded {
        let mut last = lock(&self.0.last);
        let (files, standing, objects, ports) = {
            let mut known = lock(&self.0.known);
            known.seen = None;
            let objects: Vec<ApiObject> = known.objects.values().cloned().collect();
            (known.files.clone(), known.problems.clone(), objects, known.ports.clone())
        };
        let judged = judge_with_objects(&files, &objects, &last.accepted, &ports);
        {
            let mut known = lock(&self.0.known);
            known.port_names.clone_from(&judged.policy.port_names);
            // Of a name that nobody had asked for, news may have come meanwhile.
            if known.port_names.iter().any(|name| known.ports.differ_in(&ports, name)) {
                self.0.changed.notify_one();
            }
        }
        last.order += 1;
        last.accepted = judged.accepted;
        let as_written = objects.iter().filter(|object| object.name.kind.has_status());
        let as_written = as_written.filter(|object| !judged.refused.contains_key(&object.name));
        let as_written = as_written.map(|object| Mark::of(&object.name, &object.uid, object.generation)).collect();
        let receipt = Receipt::new(self.0.in_force.clone(), Arc::new(as_written));
        let of_object = |object: ApiObject| (object.name, (object.uid, object.generation));
        let verdicts =
            Verdicts { judged: objects.into_iter().map(of_object).collect(), refused: judged.refused.clone() };
        self.0.verdicts.send_replace(Arc::new(verdicts));
        let objects = OfObjects { order: last.order, refused: judged.refused, standing, receipt };
        Loaded { result: Ok(judged.policy), objects }
    }

    /// Waits until every kind was listed, or until that takes too long: then says false.
    pub async fn listed(&self, patience: Duration) -> bool {
        let mut listed = self.0.listed.subscribe();
        let all = listed.wait_for(|listed| ObjectKind::ALL.iter().all(|kind| listed.contains(kind)));
        timeout(patience, all).await.is_ok()
    }

    /// The objects that have a status of Bulkhead's.
    fn custom_resources(&self) -> Vec<ApiObject> {
        let known = lock(&self.0.known);
        known.objects.values().filter(|object| object.name.kind.has_status()).cloned().collect()
    }

    /// Judges whenever objects changed, and tells of the outcome, until `stop` turns true or nobody listens any more.
    pub async fn watch(self, events: mpsc::Sender<Event>, stop: watch::Receiver<bool>) {
        let judging = async {
            if !self.listed(PATIENCE).await {
                tracing::warn!("not every kind of policy could be listed; what is known is put in force without it");
            }
            loop {
                self.0.changed.notified().await;
                sleep(DEBOUNCE).await;
                let seen = lock(&self.0.known).seen.unwrap_or_else(Instant::now);
                let this = self.clone();
                let Ok(Loaded { result, objects }) = spawn_blocking(move || this.judge()).await else { continue };
                if events.send(Event::Policy(PolicyLoad { seen, result, objects })).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = judging => {}
            () = events.closed() => {}
            () = stopped(stop) => {}
        }
    }
}

impl Known {
    /// Takes an object; says whether a policy has to be judged anew. Its status says nothing to one.
    fn take(&mut self, object: ApiObject) -> bool {
        let before = self.objects.insert(object.name.clone(), object.clone());
        before.is_none_or(|before| !before.says_the_same(&object))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
