//! Real cgroups, in a directory of each test's own below this host's cgroup root.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// Far longer than any notice takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cgroup that goes with all below it, even when the test panics.
struct Lab(PathBuf);

impl Lab {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = cgroup_root().expect("tests run on a host with cgroup2");
        let lab = Self(root.join(format!("bulkhead-test-{}-{number}", std::process::id())));
        fs::create_dir(&lab.0).expect("tests run as root");
        lab
    }

    fn make(&self, path: &str) {
        fs::create_dir_all(self.0.join(path)).expect("a cgroup");
    }

    fn remove(&self, path: &str) {
        fs::remove_dir(self.0.join(path)).expect("an empty cgroup");
    }

    /// What is really there.
    fn truth(&self) -> BTreeMap<String, u64> {
        let mut there = BTreeMap::new();
        let mut open = vec![self.0.clone()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().expect("a type").is_dir() {
                    let path = entry.path().strip_prefix(&self.0).expect("below").to_str().expect("UTF-8").to_owned();
                    there.insert(path, id_of(&entry.path()).expect("it stays"));
                    open.push(entry.path());
                }
            }
        }
        there
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut paths: Vec<_> = self.truth().into_keys().collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
        for path in paths {
            drop(fs::remove_dir(self.0.join(path)));
        }
        drop(fs::remove_dir(&self.0));
    }
}

/// A listener that keeps the view that the facts give.
struct Listener {
    facts: mpsc::Receiver<Event>,
    view: BTreeMap<String, u64>,
    resyncs: usize,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    async fn start(lab: &Lab) -> Self {
        let (events, facts) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(watch(lab.0.clone(), events, stopped));
        let mut listener = Self { facts, view: BTreeMap::new(), resyncs: 0, stop, task };
        listener.hear().await;
        assert_eq!(listener.resyncs, 1, "it begins with everything");
        listener
    }

    async fn hear(&mut self) {
        let event = timeout(PATIENCE, self.facts.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("silence; the view is {:?}", self.view));
        let Some(Event::Fact(fact)) = event else { panic!("{event:?}") };
        match fact.change {
            Change::CgroupResync(all) => {
                self.resyncs += 1;
                self.view = all.into_iter().map(|fact| (fact.path, fact.id)).collect();
            }
            Change::CgroupAppeared(fact) => {
                let double = self.view.insert(fact.path.clone(), fact.id);
                assert_eq!(double, None, "{fact:?} appeared twice");
            }
            Change::CgroupGone(path) => assert!(self.view.remove(&path).is_some(), "{path} went twice"),
            change => panic!("{change:?}"),
        }
    }

    async fn until(&mut self, truth: BTreeMap<String, u64>) {
        while self.view != truth {
            self.hear().await;
        }
    }
}

#[tokio::test]
async fn a_cgroup_is_told_of_when_it_comes_and_when_it_goes() {
    let lab = Lab::new();
    lab.make("old/inside");
    let mut listener = Listener::start(&lab).await;
    assert_eq!(listener.view, lab.truth());
    lab.make("new");
    listener.until(lab.truth()).await;
    lab.remove("new");
    listener.until(lab.truth()).await;
    lab.make("new");
    listener.until(lab.truth()).await;
    assert_eq!(listener.resyncs, 1);
}

#[tokio::test]
async fn nested_cgroups_made_at_once_are_all_told_of() {
    let lab = Lab::new();
    let mut listener = Listener::start(&lab).await;
    for round in 0..50 {
        lab.make(&format!("a{round}/b/c/d"));
        lab.make(&format!("a{round}/b/e"));
    }
    listener.until(lab.truth()).await;
    assert_eq!(listener.view.len(), 250);
    for path in ["a0/b/c/d", "a0/b/c", "a0/b/e", "a0/b", "a0"] {
        lab.remove(path);
    }
    listener.until(lab.truth()).await;
    assert_eq!(listener.resyncs, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_ends_in_the_right_view() {
    let lab = Lab::new();
    let mut listener = Listener::start(&lab).await;
    let churn = std::thread::scope(|scope| {
        let lab = &lab;
        let churn = scope.spawn(move || {
            for round in 0..500 {
                lab.make(&format!("unit-{round}/inner"));
                if round % 10 != 0 {
                    lab.remove(&format!("unit-{round}/inner"));
                    lab.remove(&format!("unit-{round}"));
                }
                // The same name again and again, each time another cgroup.
                lab.make("same");
                lab.remove("same");
            }
            lab.make("same");
        });
        churn.join()
    });
    churn.expect("no panic");
    listener.until(lab.truth()).await;
    assert_eq!(listener.view.len(), 101);
}

#[tokio::test]
async fn after_an_overflow_everything_is_told_anew() {
    let lab = Lab::new();
    let mut listener = Listener::start(&lab).await;
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("inotify");
    let queue: usize = queue.trim().parse().expect("a number");
    // The source does not run meanwhile: it shares this thread.
    for round in 0..=queue / 2 {
        lab.make(&format!("unit-{}", round % 7));
        lab.remove(&format!("unit-{}", round % 7));
    }
    lab.make("after/inner");
    while listener.resyncs < 2 {
        listener.hear().await;
    }
    listener.until(lab.truth()).await;
    lab.make("after/more");
    listener.until(lab.truth()).await;
    assert_eq!(listener.resyncs, 2);
}

#[tokio::test]
async fn without_watches_the_tree_is_read_until_there_are_enough_again() {
    let lab = Lab::new();
    let mut tree = Tree::new(lab.0.clone()).expect("an inotify instance");
    tree.leave_watches(2);
    tree.plant().expect("a tree");
    lab.make("watched/not");
    assert!(!tree.has_unwatched());
    tree.compare().expect("a tree");
    assert!(tree.has_unwatched());
    let view = |tree: &Tree| tree.facts().into_iter().map(|fact| (fact.path, fact.id)).collect::<BTreeMap<_, _>>();
    assert_eq!(view(&tree), lab.truth());

    lab.make("watched/not/seen");
    assert_eq!(tree.compare().expect("a tree"), Doubt::Differs);
    assert_eq!(view(&tree), lab.truth());

    tree.leave_watches(usize::MAX);
    assert_eq!(tree.compare().expect("a tree"), Doubt::None);
    assert!(!tree.has_unwatched());
    lab.make("watched/not/seen/now");
    for event in tree.queued().await.expect("a notice") {
        tree.notice(&event).expect("a tree");
    }
    assert_eq!(view(&tree), lab.truth());
}

#[tokio::test]
async fn watches_go_with_their_cgroups() {
    let lab = Lab::new();
    lab.make("stays");
    let mut tree = Tree::new(lab.0.clone()).expect("an inotify instance");
    tree.plant().expect("a tree");
    assert_eq!(tree.watches(), 2);
    for round in 0..50 {
        let path = format!("unit-{round}");
        for (change, watches) in [(Lab::make as fn(&Lab, &str), 3), (Lab::remove, 2)] {
            change(&lab, &path);
            while tree.changes().count() == 0 {
                for event in tree.queued().await.expect("a notice") {
                    tree.notice(&event).expect("a tree");
                }
            }
            assert_eq!(tree.watches(), watches);
        }
    }
}

#[tokio::test]
async fn a_root_that_goes_is_an_error_and_no_empty_view() {
    let lab = Lab::new();
    lab.make("root/unit");
    let mut tree = Tree::new(lab.0.join("root")).expect("an inotify instance");
    tree.plant().expect("a tree");
    assert_eq!(tree.facts().len(), 1);
    lab.remove("root/unit");
    lab.remove("root");
    let error = tree.compare().expect_err("nothing is there to compare with").to_string();
    assert!(error.contains("/root is gone"), "{error}");
    let mut tree = Tree::new(lab.0.join("root")).expect("an inotify instance");
    tree.plant().expect_err("no root, no tree");
}

#[tokio::test]
async fn it_ends_when_told_to_and_when_nobody_listens() {
    let lab = Lab::new();
    let listener = Listener::start(&lab).await;
    listener.stop.send(true).expect("it listens");
    timeout(PATIENCE, listener.task).await.expect("it ends").expect("without panic");

    let listener = Listener::start(&lab).await;
    drop(listener.facts);
    timeout(PATIENCE, listener.task).await.expect("it ends").expect("without panic");
}
