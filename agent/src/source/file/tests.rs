//! Real files in temporary directories, and a loader that refuses what says `broken`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::policy::load::is_policy;
use crate::policy::model::PolicySet;
use crate::policy::problem::Problem;
use crate::workload::DeclaredWorkload;

/// Far longer than any notice takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a burst and a load, to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(700);

struct Watched {
    outcomes: mpsc::Receiver<Event>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Watched {
    fn start(paths: &[PathBuf]) -> Self {
        let (events, outcomes) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let files = PolicyFiles::new(paths.to_vec());
        Self { outcomes, stop, task: tokio::spawn(files.watch(load, events, stopped)) }
    }

    /// The next outcome: what the files say, or nothing where they are broken.
    async fn next(&mut self) -> Option<String> {
        let event = timeout(PATIENCE, self.outcomes.recv()).await.expect("an outcome in time").expect("a live task");
        let Event::Policy(outcome) = event else { panic!("{event:?}") };
        Some(outcome.result.ok()?.workloads.into_iter().map(|workload| workload.name).collect::<Vec<_>>().join(" "))
    }

    /// Outcomes up to the one that says this; a burst may be seen in halves.
    async fn until(&mut self, said: &str) {
        while self.next().await.as_deref() != Some(said) {}
    }

    async fn silent(&mut self) {
        let event = timeout(SILENCE, self.outcomes.recv()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

/// Every line of every file is a workload's name. While a file that says `half` is being loaded, it is written anew.
fn load(paths: &[PathBuf]) -> Result<PolicySet, Vec<Problem>> {
    let mut said = Vec::new();
    for path in paths {
        let mut files: Vec<_> = match fs::read_dir(path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![path.clone()],
        };
        files.retain(|file| is_policy(file));
        files.sort();
        said.extend(files.iter().filter_map(|file| fs::read_to_string(file).ok()));
    }
    if said.iter().any(|text| text.contains("broken")) {
        return Err(Vec::new());
    }
    if said.iter().any(|text| text.contains("half")) {
        write(&paths[0], "whole");
        return Err(Vec::new());
    }
    let origin = crate::policy::model::Origin { file: Arc::default(), line: 1, column: 1 };
    let workload = |name: &str| DeclaredWorkload {
        name: name.to_owned(),
        labels: Default::default(),
        cgroup: None,
        interface: None,
        addresses: Arc::default(),
        origin: origin.clone(),
    };
    Ok(PolicySet {
        workloads: said.iter().flat_map(|text| text.lines()).map(workload).collect(),
        ..PolicySet::default()
    })
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
}

#[tokio::test]
async fn an_edit_is_loaded_once_and_a_broken_one_is_told_and_can_be_mended() {
    let directory = directory();
    let file = directory.path().join("web.yaml");
    write(&file, "one");
    let mut watched = Watched::start(&[directory.path().to_owned()]);
    watched.silent().await;
    write(&file, "two");
    assert_eq!(watched.next().await.as_deref(), Some("two"));
    watched.silent().await;
    write(&file, "broken");
    assert_eq!(watched.next().await, None);
    write(&file, "three");
    watched.until("three").await;
    write(&directory.path().join("more.yml"), "four");
    watched.until("four three").await;
    fs::remove_file(&file).expect("removing");
    watched.until("four").await;
}

#[tokio::test]
async fn half_of_an_edit_is_not_refused_while_the_other_half_is_coming() {
    let directory = directory();
    let file = directory.path().join("web.yaml");
    write(&file, "one");
    let mut watched = Watched::start(std::slice::from_ref(&file));
    watched.silent().await;
    write(&file, "half");
    assert_eq!(watched.next().await.as_deref(), Some("whole"));
    watched.silent().await;
}

#[tokio::test]
async fn only_whole_files_are_not_waited_for() {
    use std::io::Write as _;
    let directory = directory();
    let (file, draft) = (directory.path().join("web.yaml"), directory.path().join("draft"));
    write(&file, "one");
    let mut route = Route::watched(&[directory.path().to_owned()]).expect("an inotify instance");
    let mut until = async |expects: Expects| {
        while route.expects() != expects {
            timeout(PATIENCE, route.notice()).await.expect("a notice in time").expect("inotify can be read");
        }
    };
    let mut open = fs::File::create(&file).expect("opening");
    write!(open, "two").expect("writing");
    until(Expects::TheEnd).await;
    drop(open);
    until(Expects::Nothing).await;
    fs::remove_file(&file).expect("removing");
    until(Expects::More).await;
    write(&draft, "three");
    fs::rename(&draft, &file).expect("renaming");
    until(Expects::Nothing).await;
}

#[tokio::test]
async fn an_edit_between_the_first_load_and_the_watch_is_not_missed() {
    let directory = directory();
    let file = directory.path().join("web.yaml");
    write(&file, "one");
    let files = PolicyFiles::new(vec![file.clone()]);
    write(&file, "two");
    let (events, mut outcomes) = mpsc::channel(1);
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(files.watch(load, events, stopped));
    assert!(timeout(PATIENCE, outcomes.recv()).await.expect("in time").is_some());
}

#[tokio::test]
async fn what_says_nothing_new_is_not_loaded() {
    let directory = directory();
    let file = directory.path().join("web.yaml");
    write(&file, "one");
    let mut watched = Watched::start(&[directory.path().to_owned()]);
    watched.silent().await;
    write(&directory.path().join(".web.yaml.swp"), "an editor's");
    write(&directory.path().join("web.yaml~"), "a copy");
    write(&file, "one");
    drop(fs::read(&file).expect("reading"));
    watched.silent().await;
}

#[tokio::test]
async fn a_file_renamed_over_another_counts_each_time() {
    let directory = directory();
    let file = directory.path().join("web.yaml");
    write(&file, "0");
    // Both given as a file and found in its directory.
    for given in [file.clone(), directory.path().to_owned()] {
        let mut watched = Watched::start(&[given]);
        for round in 1..4 {
            let draft = directory.path().join("draft");
            write(&draft, &round.to_string());
            fs::rename(&draft, &file).expect("renaming");
            watched.until(&round.to_string()).await;
        }
    }
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_swaps() {
    let directory = directory();
    let mount = directory.path().join("mount");
    let version = |number: u32| mount.join(format!("..2026_{number}"));
    let publish = |number: u32| {
        fs::create_dir_all(version(number)).expect("a directory");
        write(&version(number).join("web.yaml"), &number.to_string());
        symlink(format!("..2026_{number}"), mount.join("..data_tmp")).expect("a link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("the swap");
    };
    publish(1);
    symlink("..data/web.yaml", mount.join("web.yaml")).expect("a link");
    let mut watched = Watched::start(std::slice::from_ref(&mount));
    watched.silent().await;
    for number in 2..6 {
        publish(number);
        fs::remove_dir_all(version(number - 1)).expect("removing");
        watched.until(&number.to_string()).await;
    }
}

#[tokio::test]
async fn a_directory_and_all_above_it_may_go_and_come_back() {
    let directory = directory();
    let above = directory.path().join("etc");
    let policies = above.join("policies");
    // It does not exist at first.
    let mut watched = Watched::start(std::slice::from_ref(&policies));
    for round in 1..4 {
        fs::create_dir_all(&policies).expect("directories");
        write(&policies.join("web.yaml"), &round.to_string());
        watched.until(&round.to_string()).await;
        fs::remove_dir_all(&above).expect("removing");
        watched.until("").await;
    }
}

#[tokio::test]
async fn a_directory_behind_a_link_is_watched_and_so_is_the_link() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(path(name)).expect("a directory");
        write(&path(name).join("web.yaml"), name);
    }
    symlink("one", path("current")).expect("a link");
    let mut watched = Watched::start(&[path("current")]);
    write(&path("one").join("web.yaml"), "uno");
    watched.until("uno").await;
    symlink("two", path("next")).expect("a link");
    fs::rename(path("next"), path("current")).expect("the swap");
    watched.until("two").await;
    write(&path("two").join("web.yaml"), "due");
    watched.until("due").await;
}

#[tokio::test]
async fn it_ends_when_told_to_and_when_nobody_listens() {
    let directory = directory();
    let watched = Watched::start(&[directory.path().to_owned()]);
    watched.stop.send(true).expect("it listens");
    timeout(PATIENCE, watched.task).await.expect("it ends").expect("without panic");

    let watched = Watched::start(&[directory.path().to_owned()]);
    drop(watched.outcomes);
    timeout(PATIENCE, watched.task).await.expect("it ends").expect("without panic");
}

#[tokio::test]
async fn a_burst_is_loaded_far_less_often_than_it_writes() {
    let directory = directory();
    let file = directory.path().join("web.yaml");
    write(&file, "0");
    let loads = Arc::new(Mutex::new(0));
    let (events, mut outcomes) = mpsc::channel(16);
    let (_stop, stopped) = watch::channel(false);
    let counted = Arc::clone(&loads);
    let load = move |paths: &[PathBuf]| {
        *counted.lock().expect("no panic") += 1;
        load(paths)
    };
    tokio::spawn(PolicyFiles::new(vec![file.clone()]).watch(load, events, stopped));
    for round in 1..=200 {
        write(&file, &round.to_string());
        tokio::task::yield_now().await;
    }
    let last = async {
        loop {
            let Some(Event::Policy(outcome)) = outcomes.recv().await else { panic!("the task ended") };
            if outcome.result.is_ok_and(|policy| policy.workloads.iter().any(|workload| workload.name == "200")) {
                return;
            }
        }
    };
    timeout(PATIENCE, last).await.expect("the last edit is loaded");
    assert!(*loads.lock().expect("no panic") < 20);
}

#[tokio::test]
async fn an_edit_is_not_lost_in_an_overflow() {
    let directory = directory();
    let files = ["a.yaml", "b.yaml"].map(|name| directory.path().join(name));
    let mut watched = Watched::start(&[directory.path().to_owned()]);
    write(&files[0], "first");
    watched.until("first").await;
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("inotify");
    let queue: usize = queue.trim().parse().expect("a number");
    // The source does not run meanwhile: it shares this thread. Each write has at least two events.
    for round in 0..=queue {
        write(&files[round % 2], "often");
    }
    write(&files[0], "last");
    watched.until("last often").await;
}
