//! `bulkhead explain` and `bulkhead plan`: what they say is what then happens between real sockets.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bulkhead::view::explain::ExplainView;
use bulkhead::view::plan::{FlowChange, PlanView};
use bulkhead_tests::document::{from_all, group};
use bulkhead_tests::lab::agent::run;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload, binaries};

struct Scene {
    agent: Agent,
    web: Workload,
    db: Workload,
    spare: Workload,
    batch: Workload,
    other: Workload,
    client: Workload,
    lab: Lab,
}

const PORT: &str = "{protocol: tcp, port: 5432}";

fn policy() -> String {
    [
        group("web", 100, "web", &[&format!("egress: [{{to: [{{group: db}}], ports: [{PORT}, {{protocol: udp, port: 5433}}]}}]")]),
        group("db", 300, "db", &[&format!("ingress: [{{description: queries, from: [{{group: web}}], ports: [{PORT}]}}]")]),
        group("spare", 301, "spare", &["ingress: []", "mode: audit"]),
        group("batch", 400, "batch", &["mode: audit", "egress: []"]),
        "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {name: no-telnet}\nspec: {deny: [{ports: [{protocol: tcp, port: 23}]}]}\n"
            .to_owned(),
    ]
    .concat()
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let web = lab.container("web-1", "app=web");
        let db = lab.container("db-1", "app=db,tier=data");
        let spare = lab.container("spare-1", "app=spare,tier=data");
        let batch = lab.container("batch-1", "app=batch");
        let other = lab.process("other", "app=other");
        let client = lab.outsider("client", "");
        for workload in [&web, &db, &spare, &batch, &other] {
            workload.serve(&[5432, 5433, 23]);
            lab.declare(workload);
        }
        client.serve(&[5432, 23]);
        lab.policy("groups.yaml", &policy());
        let agent = lab.agent();
        Self { agent, web, db, spare, batch, other, client, lab }
    }

    fn ask(&self, question: &[&str]) -> Output {
        run(self.lab.site(), question).expect("the binary is there")
    }

    fn explain(&self, from: &str, to: &str, port: &str) -> ExplainView {
        let output = self.ask(&["explain", "--from", from, "--to", to, "--port", port, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The plan, and the exit code.
    fn plan(&self, directory: &Path) -> (PlanView, Option<i32>) {
        let output = self.ask(&["plan", "--json", directory.to_str().expect("UTF-8")]);
        let view = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (view, output.status.code())
    }
}

#[test]
fn what_is_explained_is_what_happens_between_sockets() {
    let scene = Scene::new();
    let Scene { web, db, spare, batch, other, client, .. } = &scene;
    for (from, to, port, verdict) in [
        (web, db, 5432, "allow"),
        (web, db, 5433, "deny"),
        (db, web, 5432, "deny"),
        (other, db, 5432, "deny"),
        (other, client, 5432, "allow"),
        (other, client, 23, "deny"),
        (batch, spare, 5432, "audit"),
        (batch, spare, 23, "deny"),
        (batch, db, 5432, "deny"),
        (batch, client, 5432, "audit"),
        (client, spare, 5432, "audit"),
        (client, db, 5432, "deny"),
        (db, client, 5432, "allow"),
    ] {
        for version in Version::BOTH {
            let outcome = from.tcp(to.at(version, port));
            assert_eq!(
                outcome == Outcome::Reached,
                verdict != "deny",
                "{} to {}: {port} {outcome:?}",
                from.name,
                to.name
            );
        }
        let name = |workload: &Workload| {
            if workload.name == client.name { client.address(Version::V4).to_string() } else { workload.name.clone() }
        };
        let view = scene.explain(&name(from), &name(to), &format!("tcp/{port}"));
        assert_eq!(view.verdict, verdict, "{} to {} {port}: {view:#?}", from.name, to.name);
        assert!(!view.mixed && !view.steps.is_empty() && view.answers.iter().all(|it| it.change.tried), "{view:#?}");
    }
}

#[test]
fn an_end_may_be_labels_an_address_a_cgroup_or_a_process() {
    let scene = Scene::new();
    let web = scene.web.name.clone();
    let pid = format!("pid:{}", scene.web.pid());
    let address = scene.web.address(Version::V4).to_string();
    let workloads = scene.agent.workloads();
    let known = workloads.iter().find(|workload| workload.name == web).expect("it is known");
    let cgroup = format!("cgroup:{}", known.cgroup.as_deref().expect("it has one"));
    for from in [web.as_str(), "app=web", &address, &pid, &cgroup] {
        let view = scene.explain(from, "app=db", "tcp/5432");
        assert_eq!(view.verdict, "allow", "{from}: {view:#?}");
        assert_eq!(view.answers[0].from.workload.as_deref(), Some("web-1"), "{from}");
        let origins: Vec<_> =
            view.steps.iter().filter(|step| step.matches == Some(true)).map(|step| &step.origin).collect();
        assert!(
            origins.iter().all(|origin| origin.as_ref().is_some_and(|it| it.contains("groups.yaml:"))),
            "{origins:?}"
        );
        assert_eq!(scene.explain(from, "app=db", "tcp/5433").verdict, "deny", "{from}");
    }
    // Two that are treated differently are both shown.
    let view = scene.explain("batch-1", "tier=data", "tcp/5432");
    let verdicts: Vec<_> = view.answers.iter().map(|it| (it.to.workload.as_deref(), it.verdict.as_str())).collect();
    assert!(view.mixed && view.verdict == "deny", "{verdicts:?}");
    assert!(
        verdicts.contains(&(Some("db-1"), "deny")) && verdicts.contains(&(Some("spare-1"), "audit")),
        "{verdicts:?}"
    );
    // For scripts.
    let expect = |verdict: &str| {
        let question = ["explain", "--from", "web-1", "--to", "db-1", "--port", "tcp/5432", "--expect", verdict];
        scene.ask(&question).status.code()
    };
    assert_eq!((expect("allow"), expect("deny")), (Some(0), Some(1)));
    // Without an agent the same policy says the same.
    let mut command = Command::new(binaries::bulkhead());
    command.args(["explain", "--from", "web-1", "--to", "db-1", "--port", "tcp/5432", "--json", "--policies"]);
    let output = command.arg(scene.lab.site().policies()).output().expect("the binary is there");
    let offline: ExplainView =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let online = scene.explain("web-1", "db-1", "tcp/5432");
    assert_eq!((offline.steps, offline.generation), (online.steps, None));
    let unknown = scene.ask(&["explain", "--from", "wbe-1", "--to", "db-1", "--port", "tcp/1"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is web-1"), "{unknown:?}");
}

#[test]
fn what_a_plan_says_happens_when_it_is_applied_and_nothing_else() {
    let scene = Scene::new();
    let next = tempfile::tempdir().expect("the temporary directory is writable");
    for entry in fs::read_dir(scene.lab.site().policies()).expect("it is there") {
        let path = entry.expect("it can be read").path();
        fs::copy(&path, next.path().join(path.file_name().expect("a file"))).expect("it can be copied");
    }
    let (view, code) = scene.plan(next.path());
    assert_eq!((view.changes, code), (false, Some(0)), "a copy changes nothing: {view:#?}");

    // db is closed to web, and somebody who was left alone is governed.
    let changed = policy().replace("from: [{group: web}]", "from: [{group: batch}]")
        + &group("other", 500, "other", &[&from_all(&[5433])]);
    fs::write(next.path().join("groups.yaml"), &changed).expect("it is writable");
    let cut = scene.web.keep(scene.db.at(Version::V4, 5432));
    let lives = scene.client.keep(scene.other.at(Version::V4, 5433));
    let planned = scene.agent.eventually("a plan that knows both connections", || {
        let (view, code) = scene.plan(next.path());
        (code == Some(3) && !view.cut.is_empty()).then_some(view)
    });
    let told: Vec<_> =
        planned.cut.iter().map(|cut| (cut.from.as_deref(), cut.to.as_deref(), cut.flow.destination_port)).collect();
    assert_eq!(told, [(Some("web-1"), Some("db-1"), 5432)]);
    let becomes: Vec<_> = planned.workloads.iter().map(|it| (it.workload.as_str(), it.becomes.as_str())).collect();
    assert_eq!(becomes, [("other", "governed")]);
    let has = |from: &str, to: &str, ports: &str, after: &str| {
        let ends = |it: &FlowChange| (it.from.as_str(), it.to.as_str(), it.after.as_str()) == (from, to, after);
        planned.flows.iter().any(|it| ends(it) && it.ports.iter().any(|one| one == ports))
    };
    assert!(has("web", "db", "tcp/5432", "deny") && has("batch", "db", "tcp/5432", "audit"), "{:#?}", planned.flows);
    assert!(has("world", "other", "tcp/1-22", "deny"), "{:#?}", planned.flows);
    assert!(!planned.flows.iter().any(|it| it.to == "spare"), "nothing changes for it: {:#?}", planned.flows);

    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached, "a plan changes nothing yet");
    assert_eq!(scene.web.exchange(cut), Outcome::Reached);
    assert_eq!(scene.client.exchange(lives), Outcome::Reached);
    let reloads = scene.agent.status().reloads;
    scene.lab.policy("groups.yaml", &changed);
    scene.agent.eventually("the policy is in force", || (scene.agent.status().reloads > reloads).then_some(()));
    assert_ne!(scene.web.exchange(cut), Outcome::Reached, "{}", scene.agent.dump());
    assert_eq!(scene.client.exchange(lives), Outcome::Reached, "{}", scene.agent.dump());
    assert_ne!(scene.web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached);
    assert_ne!(scene.client.tcp(scene.other.at(Version::V4, 5432)), Outcome::Reached);
    assert_eq!(scene.client.tcp(scene.other.at(Version::V4, 5433)), Outcome::Reached);

    fs::write(next.path().join("groups.yaml"), "apiVersion: bulkhead.dev/v1alpha1\nkind: Nonsense\n")
        .expect("it is writable");
    let refused = scene.ask(&["plan", next.path().to_str().expect("UTF-8")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("groups.yaml:2"), "{refused:?}");
}
