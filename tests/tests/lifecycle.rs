//! What is enforced outlives the agent, whatever becomes of it, until `detach`.

use std::fs;
use std::process::Command;

use bulkhead_ebpf::abi::LAYOUT;
use bulkhead_tests::case::Way::{Tcp, Udp};
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::check::eventually;
use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::{command, run};
use bulkhead_tests::lab::{Lab, Outcome, Version, Workload};
use serde_json::Value;

struct Scene {
    server: Workload,
    client: Workload,
    device: Workload,
    outsider: Workload,
    lab: Lab,
}

const RULES: [&str; 2] = [
    "ingress: [{from: [{group: client}], ports: [{protocol: tcp, port: 8000}]}]",
    "egress: [{to: [{group: client}], ports: [{protocol: tcp, port: 9000}]}]",
];

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let client = lab.device("client", "app=client");
        let device = lab.device("device", "app=server");
        let outsider = lab.outsider("outsider", "");
        for workload in [&server, &client, &device, &outsider] {
            workload.serve(&[8000, 9000]);
        }
        for workload in [&server, &client, &device] {
            lab.declare(workload);
        }
        let open = "ingress: [{from: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]}]";
        lab.policy(
            "groups.yaml",
            &[group("server", 100, "server", &RULES), group("client", 200, "client", &[open])].concat(),
        );
        Self { server, client, device, outsider, lab }
    }

    /// At every hook, what is allowed passes and what is not does not.
    fn is_enforced(&self, when: &str) {
        let Self { server, client, device, outsider, .. } = self;
        tried(&[
            reaches(client, Tcp(8000), server),
            reaches(client, Tcp(8000), device),
            reaches(server, Tcp(9000), client),
            reaches(device, Tcp(9000), client),
            is_dropped(client, Tcp(9000), server),
            is_dropped(client, Udp(8000), device),
            is_refused(server, Tcp(8000), client),
            is_refused(server, Udp(9000), client),
            is_dropped(device, Tcp(8000), client),
            is_dropped(outsider, Tcp(8000), server),
            is_dropped(outsider, Udp(8000), device),
        ])
        .end(|| when.to_owned());
    }

    /// Nothing is held back.
    fn is_open(&self, when: &str) {
        let Self { server, client, device, outsider, .. } = self;
        tried(&[
            reaches(client, Tcp(9000), server),
            reaches(client, Udp(8000), device),
            reaches(server, Tcp(8000), client),
            reaches(server, Udp(9000), client),
            reaches(device, Tcp(8000), client),
            reaches(outsider, Tcp(8000), server),
            reaches(outsider, Udp(8000), device),
        ])
        .end(|| when.to_owned());
    }

    fn detach(&self) -> String {
        let output = run(self.lab.site(), &["detach"]).expect("the binary is there");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Something that the kernel holds, as bpftool knows it.
#[derive(Debug)]
struct Object {
    kind: &'static str,
    id: u64,
}

impl Object {
    fn is_there(&self) -> bool {
        bpftool(&[self.kind, "show", "id", &self.id.to_string()]).is_some()
    }
}

impl Scene {
    /// What is pinned, and the programs of the links.
    fn objects(&self) -> Vec<Object> {
        let layout = self.lab.site().bpffs().join("bulkhead").join(format!("v{LAYOUT}"));
        let mut objects = Vec::new();
        for (directory, kinds) in [("maps", ["map", "map"]), ("links", ["link", "prog"])] {
            for pin in fs::read_dir(layout.join(directory)).expect("it is pinned there").flatten() {
                let path = pin.path().display().to_string();
                // What clsact has is pinned as a program, as no link stands for it.
                let (kind, shown) = kinds
                    .into_iter()
                    .find_map(|kind| Some((kind, bpftool(&[kind, "show", "pinned", &path])?)))
                    .unwrap_or_else(|| panic!("bpftool does not know {path}"));
                let number = |key: &str| shown[key].as_u64();
                objects.push(Object { kind, id: number("id").expect("everything has a number") });
                objects.extend(number("prog_id").map(|id| Object { kind: "prog", id }));
            }
        }
        objects
    }
}

/// What bpftool says; `None` where it knows no such thing.
fn bpftool(arguments: &[&str]) -> Option<Value> {
    let output = Command::new("bpftool").arg("-j").args(arguments).output().expect("bpftool is installed");
    let said: Value = serde_json::from_slice(&output.stdout).ok()?;
    (output.status.success() && said.get("error").is_none()).then_some(said)
}

#[test]
fn a_killed_agent_leaves_everything_enforced_and_its_successor_adopts_it() {
    let scene = Scene::new();
    scene.is_open("before the first agent");
    let agent = scene.lab.agent();
    scene.is_enforced("with an agent");
    let stream = scene.client.stream(scene.client.keep(scene.server.at(Version::V4, 8000)));
    let kept = Version::BOTH.map(|version| scene.client.keep(scene.server.at(version, 8000)));
    let hammer = scene.client.hammer(scene.server.at(Version::V6, 8000));
    let generation = agent.status().generation;

    agent.kill();
    scene.is_enforced("after the agent was killed");
    for kept in kept {
        assert_eq!(scene.client.exchange(kept), Outcome::Reached, "an open connection goes on");
    }
    for round in 0..3 {
        let agent = scene.lab.agent();
        scene.is_enforced(&format!("with successor {round}"));
        for kept in kept {
            assert_eq!(scene.client.exchange(kept), Outcome::Reached, "an open connection goes on\n{}", agent.dump());
        }
        assert!(agent.status().generation >= generation, "generations are not used twice");
        for work in [stream, hammer] {
            agent.left_alone(&scene.client, work, 8000);
        }
        agent.kill();
    }
}

#[test]
fn an_edit_made_while_no_agent_runs_takes_force_with_the_next() {
    let scene = Scene::new();
    scene.lab.agent().kill();
    let kept = scene.client.keep(scene.server.at(Version::V4, 8000));
    let closed =
        [group("server", 100, "server", &["ingress: []"]), group("client", 200, "client", &["ingress: []"])].concat();
    scene.lab.policy("groups.yaml", &closed);
    assert_eq!(scene.client.exchange(kept), Outcome::Reached, "nobody has read it yet");
    let agent = scene.lab.agent();
    assert_eq!(scene.client.exchange(kept), Outcome::Silent, "revoked\n{}", agent.dump());
    assert_eq!(scene.client.tcp(scene.server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
}

#[test]
fn to_the_packet_path_nothing_moves_when_the_agent_is_restarted() {
    let scene = Scene::new();
    let agent = scene.lab.agent();
    let before = agent.status().generation;
    agent.kill();
    let agent = scene.lab.agent();
    assert_eq!(
        agent.status().generation,
        before + 1,
        "the policy is written anew, and nobody is elsewhere\n{}",
        agent.dump()
    );
}

#[test]
fn a_table_of_flows_in_use_keeps_its_size_and_that_is_said() {
    let scene = Scene::new();
    scene.lab.agent_with(&["--max-flows", "2048"]).kill();
    let said = "keeps its 2048 entries instead of the 4096 of --max-flows";
    let agent = scene.lab.agent_with(&["--max-flows", "2048"]);
    assert!(!agent.log().contains(said), "{}", agent.log());
    agent.kill();
    let agent = scene.lab.agent_with(&["--max-flows", "4096"]);
    assert!(agent.log().contains(said), "{}", agent.log());
    assert_eq!(agent.metric("bulkhead_map_capacity", &[("map", "flows")]) as u64, 2048, "{}", agent.dump());
}

#[test]
fn a_connection_that_a_group_keeps_outlives_the_agent_and_an_edit() {
    let scene = Scene::new();
    let closed = |established| {
        let lines = [format!("established: {established}"), "ingress: []".to_owned()];
        [
            group("server", 100, "server", &lines.each_ref().map(String::as_str)),
            group("client", 200, "client", &["established: keep", "ingress: []"]),
        ]
        .concat()
    };
    scene.lab.policy(
        "groups.yaml",
        &[
            group("server", 100, "server", &["established: keep", RULES[0], RULES[1]]),
            group("client", 200, "client", &["established: keep", "ingress: []"]),
        ]
        .concat(),
    );
    let agent = scene.lab.agent();
    let kept = scene.client.keep(scene.server.at(Version::V4, 8000));
    assert_eq!(scene.client.exchange(kept), Outcome::Reached, "{}", agent.dump());
    agent.kill();
    scene.lab.policy("groups.yaml", &closed("keep"));
    let agent = scene.lab.agent();
    assert_eq!(scene.client.exchange(kept), Outcome::Reached, "{}", agent.dump());
    assert_eq!(scene.client.tcp(scene.server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
}

#[test]
fn an_older_layout_is_taken_over_without_a_gap_and_a_newer_one_left_in_force() {
    let scene = Scene::new();
    let root = scene.lab.site().bpffs().join("bulkhead");
    let layout = |number: u32| root.join(format!("v{number}"));
    scene.lab.agent().kill();
    let kept = scene.client.keep(scene.server.at(Version::V4, 8000));
    // As an agent of another layout would have left it.
    fs::rename(layout(LAYOUT), layout(LAYOUT - 1)).expect("bpffs takes that");

    let agent = scene.lab.agent();
    scene.is_enforced("with a successor of a newer layout");
    assert_eq!(scene.client.exchange(kept), Outcome::Reached, "{}", agent.dump());
    assert!(!layout(LAYOUT - 1).exists(), "nothing is left of the older one");
    let uplink = agent.status().attachments.into_iter().find(|at| at.program == "xdp").expect("it is attached");
    assert_eq!(uplink.mode, "kept", "a second program would have been refused there");
    agent.kill();

    fs::rename(layout(LAYOUT), layout(LAYOUT + 1)).expect("bpffs takes that");
    let output = command(scene.lab.site(), &[]).output().expect("the binary is there");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{message}");
    assert!(message.contains("a newer Bulkhead enforces on this host"), "{message}");
    scene.is_enforced("where a newer layout is in force");
    fs::rename(layout(LAYOUT + 1), layout(LAYOUT)).expect("bpffs takes that");
    let agent = scene.lab.agent();
    scene.is_enforced("with the newer agent again");
    drop(agent);
}

#[test]
fn a_stopped_agent_leaves_everything_enforced_until_detach() {
    let scene = Scene::new();
    let agent = scene.lab.agent();
    let refused = run(scene.lab.site(), &["detach"]).expect("the binary is there");
    assert_eq!(refused.status.code(), Some(75), "not while an agent runs: {refused:?}");
    scene.is_enforced("after detach was refused");

    let status = agent.stop();
    assert_eq!(status.code(), Some(0), "a clean stop");
    assert!(!scene.lab.site().admin().exists(), "the socket is gone");
    scene.is_enforced("after a clean stop");

    let objects = scene.objects();
    for kind in ["map", "link", "prog"] {
        assert!(objects.iter().any(|object| object.kind == kind), "no {kind} in {objects:?}");
    }
    let removed = scene.detach();
    for what in ["link cgroup_egress", "link connect4", "link uplink-", "link tc_ingress-", "map FLOWS"] {
        assert!(removed.contains(what), "{what} is not in: {removed}");
    }
    let left: Vec<_> = fs::read_dir(scene.lab.site().bpffs())
        .expect("the bpffs is mounted")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| !name.to_string_lossy().ends_with(".debug"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    eventually(
        "the kernel holds none of it any more",
        || format!("{:?}", objects.iter().filter(|object| object.is_there()).collect::<Vec<_>>()),
        || (!objects.iter().any(Object::is_there)).then_some(()),
    );
    let mut tc = Command::new("tc");
    tc.args(["qdisc", "show"]);
    scene.lab.site().host.place(&mut tc);
    let qdiscs = String::from_utf8(tc.output().expect("tc is installed").stdout).expect("it prints text");
    assert!(qdiscs.contains("qdisc") && !qdiscs.contains("clsact"), "{qdiscs}");
    scene.is_open("after detach");
    assert!(scene.detach().contains("nothing was attached"));
    let again = scene.lab.agent();
    scene.is_enforced("with a new agent after detach");
    drop(again);
}

#[test]
fn an_agent_may_be_told_to_detach_when_it_stops() {
    let scene = Scene::new();
    let agent = scene.lab.agent_with(&["--detach-on-exit"]);
    scene.is_enforced("with an agent");
    assert_eq!(agent.stop().code(), Some(0));
    scene.is_open("after it stopped");
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let scene = Scene::new();
    let agent = scene.lab.agent();
    let output = command(scene.lab.site(), &[]).output().expect("the binary is there");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{message}");
    assert!(message.contains(&format!("pid {}", agent.pid())), "{message}");
    assert!(agent.is_ready());
    scene.is_enforced("after the second was refused");
}
