//! The flow log: what every line holds, how it is rotated, and what it says when it can't keep up.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead::flow::record::Line;
use bulkhead::view::FlowView;
use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::run;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload};

struct Scene {
    agent: Agent,
    web: Workload,
    db: Workload,
    log: PathBuf,
    lab: Lab,
}

impl Scene {
    fn new(more: &[&str]) -> Self {
        let mut lab = Lab::new();
        let web = lab.container("web-1", "app=web,env=prod");
        let db = lab.container("db-1", "app=db");
        for workload in [&web, &db] {
            workload.serve(&[5432, 5433]);
            lab.declare(workload);
        }
        let rule = "ingress: [{description: queries, from: [{group: web}], ports: [{protocol: tcp, port: 5432}]}]";
        lab.policy("groups.yaml", &(group("web", 100, "web", &[]) + &group("db", 300, "db", &[rule])));
        let log = lab.site().directory.join("flows.json");
        let path = log.to_str().expect("UTF-8").to_owned();
        let agent = lab.agent_with(&[&["--flow-log", &path], more].concat());
        Self { agent, web, db, log, lab }
    }

    fn lines(&self) -> Vec<Line> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    fn flow(&self, what: &str, is_it: impl Fn(&FlowView) -> bool) -> Arc<FlowView> {
        self.agent.eventually(what, || {
            self.lines().into_iter().find_map(|line| match line {
                Line::Flow(flow) if is_it(&flow) => Some(flow),
                _ => None,
            })
        })
    }

    fn in_file(&self, question: &[&str]) -> Vec<String> {
        let path = self.log.to_str().expect("UTF-8");
        let output =
            run(self.lab.site(), &[&["flows", "--json", "--file", path], question].concat()).expect("it starts");
        assert!(output.status.success(), "{question:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_line_has_both_ends_the_rule_the_process_and_at_the_end_what_was_sent() {
    let scene = Scene::new(&[]);
    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached);
    let is_ours = |flow: &FlowView, direction: &str| flow.direction == direction && flow.destination_port == Some(5432);
    let ingress = scene.flow("db's side", |flow| is_ours(flow, "ingress"));
    assert_eq!((ingress.verdict.as_str(), ingress.reason.as_str()), ("allow", "rule"));
    let rule = ingress.rule.as_ref().expect("a rule");
    assert_eq!((rule.group.as_str(), rule.index, rule.description.as_deref()), ("db", 0, Some("queries")));
    assert_eq!((ingress.workload.as_deref(), ingress.peer.as_deref()), (Some("db-1"), Some("web-1")));
    assert_eq!(ingress.peer_labels.get("env").map(String::as_str), Some("prod"));
    assert_eq!((&ingress.groups[..], &ingress.peer_groups[..]), (&["db".to_owned()][..], &["web".to_owned()][..]));
    assert_eq!(ingress.tcp_flags.as_deref(), Some("SYN"));
    assert_eq!(ingress.interface.as_deref(), scene.db.interface(), "{ingress:?}");
    let egress = scene.flow("web's side", |flow| is_ours(flow, "egress"));
    assert_eq!(egress.process, Some(scene.web.pid()), "{egress:?}");
    assert_eq!(egress.process_name.as_deref(), Some("probe"));
    assert_eq!(egress.source, scene.web.address(Version::V4));

    // A denied twin has its process at the call, and no end.
    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5433)), Outcome::Silent);
    scene.flow("what was denied", |flow| flow.verdict == "deny" && flow.destination_port == Some(5433));

    let end = scene.flow("the end", |flow| flow.end.is_some() && flow.destination_port == Some(5432));
    let sent = end.end.as_ref().expect("an end");
    assert_eq!((end.workload.as_deref(), end.peer.as_deref()), (Some("web-1"), Some("db-1")));
    // Whoever is told to close with something unread resets.
    assert!(["closed", "reset"].contains(&sent.how.as_str()), "{sent:?}");
    // A handshake, an exchange and a farewell: at least so many packets each way, and not each of them twice.
    assert!((4..=7).contains(&sent.packets_sent) && (3..=7).contains(&sent.packets_received), "{sent:?}");
    assert!(sent.bytes_sent >= sent.packets_sent * 40 && sent.bytes_received >= sent.packets_received * 40, "{sent:?}");
    assert!(scene.agent.metric("bulkhead_flow_log_lines_total", &[]) >= 4.0);
    assert_eq!(scene.agent.metric("bulkhead_flow_log_missed_total", &[]), 0.0);
}

#[test]
fn filters_find_the_same_in_a_file_as_in_a_running_agent() {
    let scene = Scene::new(&[]);
    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached);
    assert_eq!(scene.web.tcp(scene.db.at(Version::V6, 5433)), Outcome::Silent);
    scene.flow("an end", |flow| flow.end.is_some());
    scene.flow("what was denied", |flow| flow.verdict == "deny");
    let address = scene.web.address(Version::V6).to_string();
    let pid = scene.web.pid().to_string();
    let mut found = 0;
    for filter in [
        &["--verdict", "deny"][..],
        &["--rule", "db/ingress/0"],
        &["--rule", "db"],
        &["--label", "env=prod"],
        &["--subject", "db-1", "--port", "5432"],
        &["--source", &address],
        &["--process", "probe"],
        &["--process", &pid],
        &["--tcp-flag", "syn", "--direction", "ingress"],
        &["--interface", scene.db.interface().expect("it has one")],
        &["--end", "any"],
        &["--since", "1h", "--group", "web"],
        &["--until", "1h"],
        &["--reason", "guardrail"],
    ] {
        let of_file = scene.in_file(filter);
        let of_agent: Vec<String> =
            scene.agent.flows(filter).iter().map(|flow| serde_json::to_string(flow).expect("plain data")).collect();
        assert_eq!(of_file, of_agent, "{filter:?}");
        found += of_file.len();
        let is_none = matches!(filter, ["--until", _] | ["--reason", _]);
        assert_eq!(of_file.is_empty(), is_none, "{filter:?}\n{:?}", scene.lines());
    }
    assert!(found > 12);
}

#[test]
fn a_log_is_rotated_by_its_age_and_what_was_rotated_is_compressed_and_read() {
    let scene = Scene::new(&["--flow-log-age", "1s", "--flow-log-keep", "3"]);
    let rotated = scene.log.with_extension("json.1.gz");
    scene.agent.eventually("a rotated log", || {
        scene.web.tcp(scene.db.at(Version::V4, 5432));
        rotated.exists().then_some(())
    });
    let output =
        run(scene.lab.site(), &["flows", "--json", "--file", rotated.to_str().expect("UTF-8")]).expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("\"destination_port\":5432"), "{output:?}");
    assert_eq!(fs::read(&rotated).expect("it is there")[..2], [0x1f, 0x8b]);
    scene.agent.eventually("more than are kept", || {
        scene.web.tcp(scene.db.at(Version::V4, 5432));
        scene.log.with_extension("json.3.gz").exists().then_some(())
    });
    assert!(!scene.log.with_extension("json.4.gz").exists());
}

#[test]
fn a_disk_that_refuses_is_told_and_the_log_goes_on_when_it_is_mended() {
    let full = Scene::new(&[]);
    let Scene { agent, lab, .. } = &full;
    // A file system with room for a line or two.
    let small = lab.site().directory.join("small");
    fs::create_dir(&small).expect("it can be made");
    nix::mount::mount(Some("small"), &small, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=4k"))
        .expect("root may mount");
    let _mounted = Mounted(small.clone());
    assert_eq!(agent.metric("bulkhead_flow_log_missed_total", &[]), 0.0);
    let log = small.join("flows.json");
    fs::write(small.join("ballast"), [0; 2048]).expect("there is room for it");
    let Scene { agent, web, db, log: _, lab } = full;
    assert!(agent.stop().success());
    let agent = lab.agent_with(&["--flow-log", log.to_str().expect("UTF-8")]);
    agent.eventually("missing lines that are counted", || {
        web.tcp(db.at(Version::V4, 5432));
        (agent.metric("bulkhead_flow_log_missed_total", &[]) > 0.0).then_some(())
    });
    nix::mount::mount(Some("small"), &small, Some("tmpfs"), nix::mount::MsFlags::MS_REMOUNT, Some("size=4m"))
        .expect("root may mount");
    agent.eventually("a log that tells of the gap and goes on", || {
        web.tcp(db.at(Version::V4, 5432));
        let text = fs::read_to_string(&log).unwrap_or_default();
        let gap = text.find("{\"missed\":")?;
        text[gap..].contains("destination_port").then_some(())
    });
    assert!(agent.is_ready());
}

/// A file system of the test's own.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
