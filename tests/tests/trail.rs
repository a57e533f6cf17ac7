//! The audit trail: what an agent writes there, over its restarts, and that nobody can change it unseen.

use std::fs;
use std::path::PathBuf;

use bulkhead::trail::chain::Entry;
use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::run;
use bulkhead_tests::lab::{Agent, Lab, Workload};

struct Scene {
    agent: Agent,
    db: Workload,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let web = lab.container("web-1", "app=web");
        let db = lab.container("db-1", "app=db");
        for workload in [&web, &db] {
            lab.declare(workload);
        }
        lab.policy("groups.yaml", &group("web", 100, "web", &[]));
        let agent = lab.agent();
        Self { agent, db, lab }
    }

    fn file(&self) -> PathBuf {
        self.lab.site().directory.join("state/trail.jsonl")
    }

    fn entries(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The first entry like that behind entry `after`.
    fn entry(&self, after: u64, kind: &str, what: &str, cause: &str) -> Entry {
        self.agent.eventually(&format!("an entry {kind} {what} for {cause}"), || {
            self.entries().into_iter().find(|entry| {
                entry.sequence > after && entry.kind == kind && entry.what == what && entry.cause.contains(cause)
            })
        })
    }

    /// What `bulkhead trail verify` says, and its exit code.
    fn verify(&self) -> (String, Option<i32>) {
        let file = self.file();
        let question = ["trail", "verify", "--file", file.to_str().expect("UTF-8")];
        let mut command = std::process::Command::new(bulkhead_tests::lab::binaries::bulkhead());
        let output = command.args(question).output().expect("the binary is there");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }
}

#[test]
fn every_change_is_in_the_trail_with_its_cause_over_restarts_and_nobody_touches_it_unseen() {
    let mut scene = Scene::new();
    let first = scene.entry(0, "policy", "in_force", "groups.yaml");
    scene.entry(0, "agent", "started", "found nothing enforced");
    let joined = scene.entry(0, "policy", "in_force", "workload-db-1.yaml");
    assert_eq!(joined.sequence, first.sequence, "the first policy names every file");

    // An edit: old and new hash, the file, and who joined.
    scene.lab.policy("groups.yaml", &(group("web", 100, "web", &[]) + &group("db", 300, "db", &[])));
    let edit = scene.entry(first.sequence, "policy", "in_force", "groups.yaml");
    assert_eq!(edit.old, first.new);
    assert_ne!(edit.new, first.new);
    assert!(edit.generation > first.generation, "{edit:?}");
    let members = scene.entry(first.sequence, "membership", "changed", "db-1 (file): [] to [db]");
    assert!(members.cause.starts_with("policy") && members.old != members.new, "{members:?}");

    // A policy that is refused, and labels that change.
    scene.lab.policy("broken.yaml", "kind: Nonsense\n");
    let refused = scene.entry(edit.sequence, "policy", "refused", "broken.yaml");
    assert_eq!((refused.old, refused.new), (edit.new.clone(), None));
    fs::remove_file(scene.lab.site().policies().join("broken.yaml")).expect("it is there");
    scene.lab.policy(&scene.db.file(), &scene.db.document().replace("app: db", "app: web"));
    scene.entry(edit.sequence, "membership", "changed", "db-1 (file): [db] to [web]");

    // Killed, and started again: the chain goes on.
    let before = scene.entries().len();
    let Scene { agent, db, lab } = scene;
    agent.kill();
    let agent = lab.agent();
    scene = Scene { agent, db, lab };
    let again = scene.entry(before as u64, "agent", "started", "took over");
    assert!(again.sequence > edit.sequence);
    assert_eq!(scene.verify().1, Some(0), "{:?}", scene.verify());

    // What somebody else changes in the kernel.
    let pin = scene.lab.site().bpffs().join("bulkhead");
    let links = walk(&pin).into_iter().find(|path| path.ends_with("connect4")).expect("a pinned link");
    fs::remove_file(&links).expect("root may");
    scene.entry(again.sequence, "kernel", "repaired", "connect4");

    // Stopped, and detached by a command: it writes, too.
    let Scene { agent, db, lab } = scene;
    assert!(agent.stop().success());
    let state = lab.site().directory.join("state");
    let output = run(lab.site(), &["detach", "--state", state.to_str().expect("UTF-8")]).expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let agent = lab.agent();
    scene = Scene { agent, db, lab };
    scene.entry(again.sequence, "agent", "stopped", "what is enforced stays");
    scene.entry(again.sequence, "agent", "detached", "by user 0");

    // An edit of the trail is found at its place, and an agent that goes on does not cover it up.
    let (said, code) = scene.verify();
    assert!(code == Some(0) && said.starts_with("whole: "), "{said}");
    let text = fs::read_to_string(scene.file()).expect("it is there");
    fs::write(scene.file(), text.replacen("refused", "forgotten", 1)).expect("root may");
    let (said, code) = scene.verify();
    let place = format!("trail.jsonl:{}: entry {} was edited", refused.sequence, refused.sequence);
    assert!(code == Some(1) && said.contains(&place), "{said}");
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>()).unwrap_or_default();
    entries
        .into_iter()
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}
