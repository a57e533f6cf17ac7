//! What the agent shows: metrics, health, flows, tables, JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use bulkhead::cli::Cli;
use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::run;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload, binaries};
use clap::CommandFactory;
use serde_json::Value;

/// The metrics as people are told of them.
const MANUAL: &str = include_str!("../../docs/metrics.md");

struct Scene {
    agent: Agent,
    web: Workload,
    db: Workload,
    lab: Lab,
}

impl Scene {
    fn new(arguments: &[&str]) -> Self {
        let mut lab = Lab::new();
        let web = lab.container("web-1", "app=web,env=prod");
        let db = lab.container("db-1", "app=db");
        for workload in [&web, &db] {
            workload.serve(&[5432, 5433]);
            lab.declare(workload);
        }
        lab.policy(
            "groups.yaml",
            &[
                group(
                    "web",
                    100,
                    "web",
                    &["egress: [{to: [{cidr: 192.0.2.0/24}]}, {description: queries, to: [{group: db}], \
                       ports: [{protocol: tcp, port: 5432}, {protocol: udp, port: 5433}]}]"],
                ),
                group(
                    "db",
                    300,
                    "db",
                    &["ingress: [{description: from the web servers, from: [{group: web}], \
                       ports: [{protocol: tcp, port: 5432}]}]"],
                ),
            ]
            .concat(),
        );
        let agent = lab.agent_with(arguments);
        Self { agent, web, db, lab }
    }

    fn say(&self, question: &[&str]) -> String {
        let output = run(self.lab.site(), question).expect("the binary is there");
        assert!(output.status.success(), "{question:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn every_metric_of_the_manual_is_served() {
    let scene = Scene::new(&[]);
    let metrics = scene.agent.metrics();
    let documented: Vec<&str> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(['`', '{']).next())
        .filter(|name| name.starts_with("bulkhead_") || name.starts_with("process_"))
        .collect();
    assert!(documented.len() > 15, "the manual's tables are read: {documented:?}");
    for name in documented {
        assert!(
            metrics.contains(&format!("\n# TYPE {name} ")) || metrics.starts_with(&format!("# TYPE {name} ")),
            "{name}"
        );
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let scene = Scene::new(&[]);
    scene.web.tcp(scene.db.at(Version::V4, 5432));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run `cargo xtask setup`, or install Debian's package `prometheus`");
    let mut input = promtool.stdin.take().expect("it is piped");
    input.write_all(scene.agent.metrics().as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("it is our child");
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn health_and_readiness_are_told() {
    let scene = Scene::new(&[]);
    for (path, expected) in [("/healthz", 200), ("/readyz", 200), ("/nowhere", 404)] {
        let (status, body) = scene.agent.get(path).expect("it listens");
        assert_eq!(status, expected, "{path}: {body}");
    }
}

#[test]
fn a_denied_flow_names_workload_groups_peer_direction_and_reason() {
    let scene = Scene::new(&[]);
    for version in Version::BOTH {
        assert_eq!(scene.web.tcp(scene.db.at(version, 5433)), Outcome::Refused, "{}", scene.agent.dump());
        // What web may send by UDP, db does not take.
        assert_eq!(scene.web.udp(scene.db.at(version, 5433)), Outcome::Silent, "{}", scene.agent.dump());
        let (source, destination) = (scene.web.address(version), scene.db.address(version));
        let find = |workload: &str, direction: &str, protocol: &str| {
            scene.agent.eventually(&format!("a denied {direction} of {workload} shows"), || {
                let flows = scene.agent.flows(&["--verdict", "deny", "--workload", workload, "--protocol", protocol]);
                flows.into_iter().find(|flow| {
                    flow.direction == direction
                        && flow.workload.as_deref() == Some(workload)
                        && flow.destination == destination
                })
            })
        };
        let egress = find("web-1", "egress", "tcp");
        assert_eq!((egress.groups.join(","), egress.peer_groups.join(",")), ("web".into(), "db".into()));
        assert_eq!((egress.peer.as_deref(), egress.reason.as_str()), (Some("db-1"), "no_rule"));
        assert_eq!((egress.destination_port, egress.rule.clone()), (Some(5433), None));

        let ingress = find("db-1", "ingress", "udp");
        assert_eq!((ingress.groups.join(","), ingress.peer_groups.join(",")), ("db".into(), "web".into()));
        assert_eq!((ingress.peer.as_deref(), ingress.reason.as_str()), (Some("web-1"), "no_rule"));
        assert_eq!(ingress.source, source);
    }
    let log = scene.agent.log();
    assert!(log.contains("verdict=\"deny\"") && log.contains("workload=\"db-1\""), "{log}");
}

#[test]
fn an_allowed_flow_names_its_rule_which_counts_it() {
    let scene = Scene::new(&[]);
    let hits = |group: &str, direction: &str, rule: &str| {
        scene.agent.metric("bulkhead_rule_hits_total", &[("group", group), ("direction", direction), ("rule", rule)])
    };
    assert_eq!((hits("web", "egress", "1"), hits("db", "ingress", "0")), (0.0, 0.0));
    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached, "{}", scene.agent.dump());
    for (workload, group, direction, index, description) in
        [("web-1", "web", "egress", 1, "queries"), ("db-1", "db", "ingress", 0, "from the web servers")]
    {
        let rule = scene.agent.eventually(&format!("{workload}'s {direction} shows"), || {
            let flows = scene.agent.flows(&["--verdict", "allow", "--workload", workload, "--port", "5432"]);
            let flow = flows.into_iter().find(|flow| flow.workload.as_deref() == Some(workload))?;
            flow.rule.clone()
        });
        assert_eq!((rule.group.as_str(), rule.direction.as_str(), rule.index), (group, direction, index));
        assert_eq!(rule.description.as_deref(), Some(description));
        assert!(hits(group, direction, &index.to_string()) >= 1.0, "{}", scene.agent.dump());
        let groups = scene.agent.groups();
        let view = groups.iter().find(|view| view.name == group).expect("it is in force");
        let view =
            view.rules.iter().find(|rule| rule.direction == direction && rule.index == index).expect("so is its rule");
        assert!(view.hits >= 1 && view.origin.contains("groups.yaml:"), "{view:#?}");
    }
    assert_eq!(hits("web", "egress", "0"), 0.0, "the other rule decided nothing");
}

#[test]
fn flows_are_followed_as_they_happen() {
    let scene = Scene::new(&[]);
    let mut follow = Command::new(binaries::bulkhead())
        .args(["flows", "--follow", "--json", "--verdict", "deny", "--port", "5433", "--admin"])
        .arg(scene.lab.site().admin())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().expect("it is piped")));
    // Again and again, because nothing tells when it has begun to listen.
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(move || lines.next());
        scene.agent.eventually("a flow is told", || {
            scene.web.tcp(scene.db.at(Version::V4, 5433));
            reader.is_finished().then_some(())
        });
        reader.join().expect("it only reads")
    });
    let _ = follow.kill();
    follow.wait().expect("it is our child");
    let flow = seen.expect("a line").expect("text");
    assert!(flow.contains("\"web-1\"") && flow.contains("\"no_rule\""), "{flow}");
}

#[test]
fn status_tells_where_programs_are_and_how_full_tables_are() {
    let scene = Scene::new(&[]);
    let status = scene.agent.status();
    assert!(status.enforcing && status.problems.is_empty(), "{status:#?}");
    assert_eq!((status.groups, status.rules, status.workloads.get("file")), (2, 3, Some(&2)));
    let root = scene.lab.site().cgroup_root.display().to_string();
    for (program, target) in [
        ("cgroup_egress", root.as_str()),
        ("cgroup_ingress", &root),
        ("connect4", &root),
        ("connect6", &root),
        ("sendmsg4", &root),
        ("sendmsg6", &root),
        ("xdp", "uplink0"),
        ("tc_egress", "v-web-1"),
        ("tc_ingress", "v-db-1"),
    ] {
        let is_there = status.attachments.iter().any(|view| view.program == program && view.target == target);
        assert!(is_there, "{program} at {target}: {:#?}", status.attachments);
    }
    assert!(status.maps.iter().any(|map| map.entries > 0) && status.maps.iter().all(|map| map.entries <= map.capacity));
}

#[test]
fn tables_for_people_name_everything() {
    let scene = Scene::new(&[]);
    scene.web.tcp(scene.db.at(Version::V4, 5433));
    scene.agent.eventually("the denial shows", || scene.say(&["flows"]).contains("no_rule").then_some(()));
    for (question, names) in [
        (["status"].as_slice(), ["enforc", "cgroup_egress"].as_slice()),
        (&["workloads"], &["web-1", "db-1", "env=prod", "web"]),
        (&["groups"], &["web", "db", "100", "300"]),
        (&["groups", "--rules"], &["queries", "from the web servers"]),
        (&["flows"], &["web-1", "db-1", "DENY", "5433", "no egress rule of web allows it"]),
    ] {
        let said = scene.say(question);
        for name in names {
            assert!(said.contains(name), "`{name}` is not in {question:?}:\n{said}");
        }
        assert!(!said.contains('\x1b'), "no colour outside of a terminal");
    }
}

#[test]
fn the_log_can_be_json() {
    let scene = Scene::new(&["--log-format", "json"]);
    scene.web.tcp(scene.db.at(Version::V4, 5433));
    scene.agent.eventually("the denial is logged", || scene.agent.log().contains("no_rule").then_some(()));
    let log = scene.agent.log();
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.get("level").is_some(), "{line}");
    }
}

/// The subcommands below `command` that have a `--json`, by their words.
fn with_json(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    for sub in command.get_subcommands() {
        let words = [words, &[sub.get_name().to_owned()]].concat();
        if sub.get_arguments().any(|argument| argument.get_long() == Some("json")) {
            found.push(words.clone());
        }
        with_json(sub, &words, found);
    }
}

/// Has a schema allow the fields alone that it names, so that one without documentation shows.
fn closed(schema: &mut Value) {
    if let Some(of) = schema.as_object_mut() {
        if of.contains_key("properties") {
            of.insert("additionalProperties".to_owned(), false.into());
        }
        of.values_mut().for_each(closed);
    } else if let Some(of) = schema.as_array_mut() {
        of.iter_mut().for_each(closed);
    }
}

#[test]
fn whatever_has_json_prints_what_its_schema_says() {
    let scene = Scene::new(&[]);
    // An allowed, a denied and an established flow; a changed and a broken policy.
    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5432)), Outcome::Reached, "{}", scene.agent.dump());
    assert_eq!(scene.web.tcp(scene.db.at(Version::V4, 5433)), Outcome::Refused, "{}", scene.agent.dump());
    scene.agent.eventually("the denial shows", || scene.say(&["flows"]).contains("no_rule").then_some(()));
    let directory = scene.lab.site().directory.display().to_string();
    let (state, policies) = (format!("{directory}/state"), scene.lab.site().policies().display().to_string());
    let (changed, broken) = (format!("{directory}/changed.yaml"), format!("{directory}/broken.yaml"));
    std::fs::write(&changed, group("web", 100, "web", &["egress: []"])).expect("it is ours");
    std::fs::write(&broken, "apiVersion: [").expect("it is ours");
    // What to ask, the exit code, and a part of the answer by which it is no empty one.
    let (asked, trail) = ("--from web-1 --to db-1 --port tcp/5433".to_owned(), format!("--state {state}"));
    let nothing = String::new;
    let questions = BTreeMap::from([
        ("check", vec![(policies.clone(), 0, "/groups"), (broken, 1, "/problems/0/line")]),
        ("status", vec![(nothing(), 0, "/attachments/0/program")]),
        ("workloads", vec![(nothing(), 0, "/1/labels/app")]),
        ("groups", vec![(nothing(), 0, "/groups/0/rules/0/hits")]),
        (
            "flows",
            vec![("--verdict deny".into(), 0, "/peer"), ("--verdict allow --port 5432".into(), 0, "/rule/index")],
        ),
        ("explain", vec![(asked, 0, "/answers/0/change/yaml")]),
        ("plan", vec![(changed, 3, "/workloads/0/becomes"), (policies, 0, "/generation")]),
        ("audit", vec![(nothing(), 0, "/since"), ("--denied".into(), 0, "/findings/0/cure/0")]),
        ("suggest", vec![(nothing(), 0, "/yaml")]),
        ("trail show", vec![(trail.clone(), 0, "/0/hash")]),
        ("trail verify", vec![(trail.clone(), 0, "/head/hash")]),
        ("trail head", vec![(trail.clone(), 0, "/sequence")]),
        ("detach", vec![(trail, 0, "/removed/0")]),
    ]);
    let mut found = Vec::new();
    with_json(&Cli::command(), &[], &mut found);
    // The last takes everything away, and the agent has to be gone for it.
    found.sort_by_key(|words| words[0] == "detach");
    let Scene { agent, lab, .. } = scene;
    let mut agent = Some(agent);
    for words in found {
        let name = words.join(" ");
        let questions = questions.get(name.as_str()).unwrap_or_else(|| panic!("say here how to ask `{name}`"));
        if name == "detach" {
            agent.take().expect("nothing else stops it").stop();
        }
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(binaries::bulkhead());
            command.args(arguments).env("BULKHEAD_ADMIN", lab.site().admin()).env("BULKHEAD_BPFFS", lab.site().bpffs());
            lab.site().host.place(&mut command);
            command.output().expect("the binary is there")
        };
        let schema = ask(&["schema", "--output", &words.join("-")]);
        assert!(schema.status.success(), "`{name}` has no schema: {schema:?}");
        let mut schema: Value = serde_json::from_slice(&schema.stdout).expect("JSON");
        closed(&mut schema);
        let schema = jsonschema::validator_for(&schema).expect("a JSON Schema");
        for (arguments, code, has) in questions {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            let output = ask(&[words, arguments.clone(), vec!["--json"]].concat());
            assert_eq!(output.status.code(), Some(*code), "{name} {arguments:?}: {output:?}");
            let said = String::from_utf8_lossy(&output.stdout);
            let documents: Vec<&str> = if name == "flows" { said.lines().collect() } else { vec![&said] };
            assert!(!documents.is_empty(), "{name} says nothing");
            for document in documents {
                let document: Value = serde_json::from_str(document).expect("JSON");
                let wrong: Vec<String> =
                    schema.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
                assert!(wrong.is_empty(), "{name} {arguments:?}: {wrong:#?}\n{document:#}");
                let is_there = document.pointer(has).is_some_and(|value| !value.is_null());
                assert!(is_there, "{name} {arguments:?} has no {has}: {document:#}");
            }
        }
    }
}
