//! `bulkhead suggest` and `bulkhead audit`: from traffic to the policy that allows it and nothing else.

use std::fs;
use std::process::Command;

use bulkhead::view::audit::{AuditView, Finding};
use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::run;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload, binaries};

struct Scene {
    agent: Agent,
    web: [Workload; 2],
    db: Workload,
    client: Workload,
    stranger: Workload,
    lab: Lab,
}

const PORTS: [u16; 3] = [443, 5432, 9000];

impl Scene {
    fn new(policy: &str) -> Self {
        let mut lab = Lab::new();
        let web = ["web-1", "web-2"].map(|name| lab.container(name, &format!("app=web,pod-template-hash={name}")));
        let db = lab.container("db-1", "app=db");
        let (client, stranger) = (lab.outsider("client", ""), lab.outsider("stranger", ""));
        for workload in web.iter().chain([&db]) {
            workload.serve(&PORTS);
            lab.declare(workload);
        }
        client.serve(&PORTS);
        if !policy.is_empty() {
            lab.policy("groups.yaml", policy);
        }
        let agent = lab.agent();
        Self { agent, web, db, client, stranger, lab }
    }

    /// What is done, and shall go on.
    fn usual(&self) -> [(&Workload, &Workload, u16); 4] {
        let [one, two] = &self.web;
        [(one, &self.db, 5432), (two, &self.db, 5432), (&self.client, one, 443), (&self.db, &self.client, 9000)]
    }

    /// What nobody did.
    fn unusual(&self) -> [(&Workload, &Workload, u16); 7] {
        let [one, two] = &self.web;
        [
            (one, &self.db, 9000),
            (&self.db, one, 5432),
            (one, two, 443),
            (&self.stranger, one, 443),
            (&self.client, one, 5432),
            (&self.client, &self.db, 5432),
            (&self.db, &self.client, 443),
        ]
    }

    fn say(&self, question: &[&str]) -> String {
        let output = run(self.lab.site(), question).expect("the binary is there");
        assert!(output.status.success(), "{question:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn audit(&self, more: &[&str]) -> AuditView {
        let text = self.say(&[&["audit", "--json"], more].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn apply(&self, policy: &str) {
        let reloads = self.agent.status().reloads;
        self.lab.policy("groups.yaml", policy);
        self.agent.eventually("the policy is in force", || (self.agent.status().reloads > reloads).then_some(()));
    }

    /// That what was usual goes on undenied, and nothing else does.
    fn only_the_usual(&self, yaml: &str) {
        for version in Version::BOTH {
            for (from, to, port) in self.usual() {
                let outcome = from.tcp(to.at(version, port));
                assert_eq!(
                    outcome,
                    Outcome::Reached,
                    "{} to {} {port}\n{yaml}\n{}",
                    from.name,
                    to.name,
                    self.agent.dump()
                );
            }
        }
        assert_eq!(self.agent.flows(&["--verdict", "deny"]), [], "{yaml}");
        for version in Version::BOTH {
            for (from, to, port) in self.unusual() {
                let outcome = from.tcp(to.at(version, port));
                assert_ne!(outcome, Outcome::Reached, "{} to {} {port}\n{yaml}", from.name, to.name);
            }
        }
    }
}

#[test]
fn what_was_seen_goes_on_under_the_policy_that_is_suggested_and_nothing_else_does() {
    let scene = Scene::new("");
    for version in Version::BOTH {
        for (from, to, port) in scene.usual() {
            assert_eq!(from.tcp(to.at(version, port)), Outcome::Reached);
        }
    }
    let yaml = scene.agent.eventually("a proposal that knows everyone", || {
        let yaml = scene.say(&["suggest", "--enforce"]);
        ["of 2 workloads (web-1, web-2), with db-1", "port: 443", "port: 9000"]
            .iter()
            .all(|part| yaml.contains(part))
            .then_some(yaml)
    });
    // The same from a log of flows, but for what an agent alone knows.
    let log = scene.lab.site().directory.join("flows.json");
    fs::write(&log, scene.say(&["flows", "--json", "--limit", "1000"])).expect("it is writable");
    let mut command = Command::new(binaries::bulkhead());
    let output = command.args(["suggest", "--enforce", "--flow-log"]).arg(&log).output().expect("the binary is there");
    let from_log = String::from_utf8_lossy(&output.stdout).into_owned();
    let rules = |yaml: &str| yaml.lines().filter(|line| !line.contains('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rules(&from_log), rules(&yaml), "{output:?}");

    let file = scene.lab.site().directory.join("suggested.yaml");
    fs::write(&file, &yaml).expect("it is writable");
    let checked = Command::new(binaries::bulkhead()).arg("check").arg(&file).output().expect("the binary is there");
    assert!(checked.status.success() && !String::from_utf8_lossy(&checked.stdout).contains("warning"), "{checked:?}");
    scene.apply(&yaml);
    scene.only_the_usual(&yaml);
}

fn audited() -> String {
    group("web", 100, "web", &["mode: audit"]) + &group("db", 300, "db", &["mode: audit"])
}

#[test]
fn an_audit_finds_what_would_be_denied_and_the_rule_it_names_settles_that_and_nothing_else() {
    let scene = Scene::new(&audited());
    let [one, two] = &scene.web;
    for web in [one, two] {
        assert_eq!(web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached, "audit denies nothing");
    }
    assert_eq!(scene.client.tcp(one.at(Version::V4, 443)), Outcome::Reached);
    let find = |to: &str, port: u16| {
        scene.agent.eventually("a finding", || {
            let found =
                scene.audit(&[]).findings.into_iter().find(|it: &Finding| it.to == to && it.port == Some(port))?;
            (port != 5432 || found.workloads.len() + found.peers.len() == 3).then_some(found)
        })
    };
    let to_db = find("db", 5432);
    assert_eq!((to_db.from.as_str(), to_db.direction.as_str(), to_db.stands), ("web", "ingress", Some(true)));
    assert_eq!(
        (&to_db.workloads[..], &to_db.peers[..]),
        (&["db-1".to_owned()][..], &["web-1".to_owned(), "web-2".to_owned()][..])
    );
    assert!(to_db.count >= 2 && to_db.first <= to_db.last, "{to_db:?}");
    let to_web = find("web", 443);
    let address = scene.client.address(Version::V4).to_string();
    assert_eq!((to_web.from.as_str(), &to_web.peers[..]), ("no workload", &[address][..]));

    // The rule that it names goes to the group that it names.
    let yaml = to_db.yaml.expect("a rule");
    let rule = yaml.lines().find_map(|line| line.strip_prefix("- ")).expect("a rule");
    let ports = yaml.lines().find_map(|line| line.strip_prefix("  ports")).expect("ports");
    let with = format!("ingress: [{{{rule}, ports{ports}}}]");
    scene.apply(&(group("web", 100, "web", &["mode: audit"]) + &group("db", 300, "db", &["mode: audit", &with])));
    let audits = || scene.agent.flows(&["--verdict", "audit", "--workload", "db-1"]).len();
    let before = audits();
    assert_eq!(one.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached);
    assert_eq!(one.tcp(scene.db.at(Version::V4, 9000)), Outcome::Reached);
    find("db", 9000);
    assert_eq!(audits(), before + 1, "one is allowed now, its twin is not");
    assert_eq!(find("db", 5432).stands, Some(false));
    assert_eq!(find("web", 443).stands, Some(true));
}

#[test]
fn rules_that_decide_nothing_are_told_and_what_is_known_outlives_the_agent() {
    let scene = Scene::new(
        &(group("web", 100, "web", &[])
            + &group(
                "db",
                300,
                "db",
                &["ingress: [{description: used, from: [{group: web}], ports: [{protocol: tcp, port: 5432}]}, \
                   {description: idle, from: [{group: web}], ports: [{protocol: tcp, port: 9000}]}]"],
            )),
    );
    assert_eq!(scene.web[0].tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached);
    let denied = scene.client.tcp(scene.db.at(Version::V4, 443));
    assert_ne!(denied, Outcome::Reached);
    let names = |view: &AuditView| view.rules.iter().filter_map(|rule| rule.description.clone()).collect::<Vec<_>>();
    scene.agent.eventually("the rule that was used", || (names(&scene.audit(&[])) == ["used"]).then_some(()));
    assert!(names(&scene.audit(&["--unused", "0s"])).contains(&"idle".to_owned()));
    assert_eq!(names(&scene.audit(&["--unused", "1d"])), [""; 0], "nothing is watched for so long");
    let finding = |view: &AuditView| view.findings.iter().find(|it| it.to == "db" && it.port == Some(443)).cloned();
    assert_eq!(scene.audit(&[]).findings, [], "nothing is in audit");
    let before = finding(&scene.audit(&["--denied"])).expect("what was denied");
    assert_eq!((before.verdict.as_str(), before.from.as_str()), ("deny", "no workload"));

    let next = |scene: Scene| {
        let Scene { agent, web, db, client, stranger, lab } = scene;
        assert!(agent.stop().success());
        let agent = lab.agent();
        Scene { agent, web, db, client, stranger, lab }
    };
    let scene = next(scene);
    let after = scene.audit(&["--denied"]);
    assert_eq!(finding(&after).map(|it| (it.first, it.count)), Some((before.first, before.count)));
    scene.agent.eventually("the rule that was used before", || (names(&scene.audit(&[])) == ["used"]).then_some(()));
}
