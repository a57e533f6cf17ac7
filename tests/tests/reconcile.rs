//! Somebody else changes what the agent wrote into the kernel: it is noticed within seconds, mended, counted and told.

use std::fs;
use std::process::Command;

use aya::maps::{HashMap, Map, MapData, ProgramArray};
use bulkhead::kernel::pin::Pins;
use bulkhead_ebpf::abi::{Address, Party};
use bulkhead_tests::document::group;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload};

const RULES: [&str; 2] = ["ingress: [{from: [{group: client}], ports: [{protocol: tcp, port: 8000}]}]", "egress: []"];

/// A client that a server lets in by one port.
struct Scene {
    server: Workload,
    client: Workload,
    pins: Pins,
    agent: Agent,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let client = lab.device("client", "app=client");
        for workload in [&server, &client] {
            workload.serve(&[8000, 9000]);
            lab.declare(workload);
        }
        let client_group = group("client", 200, "client", &["ingress: []"]);
        lab.policy("groups.yaml", &[group("server", 100, "server", &RULES), client_group].concat());
        let agent = lab.agent();
        let pins = Pins::prepare(&lab.site().bpffs()).expect("the agent made them");
        let scene = Self { server, client, pins, agent, lab };
        scene.is_enforced();
        assert!(
            scene.repairs("entry") + scene.repairs("pin") + scene.repairs("attachment") < 0.5,
            "nothing to mend yet"
        );
        scene
    }

    fn is_enforced(&self) {
        for version in Version::BOTH {
            let reached = |port| self.client.tcp(self.server.at(version, port));
            assert_eq!(reached(8000), Outcome::Reached, "{}", self.agent.dump());
            assert_eq!(reached(9000), Outcome::Silent, "{}", self.agent.dump());
            assert_eq!(self.server.tcp(self.client.at(version, 8000)), Outcome::Refused, "{}", self.agent.dump());
        }
    }

    fn repairs(&self, what: &str) -> f64 {
        self.agent.metric("bulkhead_repairs_total", &[("what", what)])
    }

    /// Waits until something of this kind was mended, and sees that it was told.
    fn mends(&self, what: &str, told: &str) {
        self.agent.eventually("it is mended", || (self.repairs(what) > 0.5).then_some(()));
        assert!(self.agent.log().contains(told), "{told} is not in the log\n{}", self.agent.dump());
        assert!(self.agent.status().repairs > 0, "{}", self.agent.dump());
        self.is_enforced();
    }

    /// Takes everything off its hook, each as its kind allows: links by bpftool, filters (before Linux 6.6) by tc. Of one interface's
    /// filters one is deleted and one replaced; another interface loses them with their qdisc.
    fn detach_everything(&self) {
        for link in fs::read_dir(self.pins.links()).expect("the agent made it").flatten() {
            // What is pinned for a filter is its program.
            if !(self.has_filters() && link.file_name().to_string_lossy().starts_with("tc_")) {
                bpftool(&["link", "detach", "pinned", link.path().to_str().expect("plain text")]);
            }
        }
        if self.has_filters() {
            let [one, another] = [&self.server, &self.client].map(|it| format!("v-{}", it.name));
            self.tc(&format!("filter del dev {one} ingress pref 176"), &[]);
            let pass = ["bpf", "direct-action", "bytecode", "1,6 0 0 0"];
            self.tc(&format!("filter replace dev {one} egress protocol all pref 176 handle 1"), &pass);
            self.tc(&format!("qdisc del dev {another} clsact"), &[]);
        }
    }

    fn has_filters(&self) -> bool {
        self.agent.status().attachments.iter().any(|it| it.mode == "clsact")
    }

    /// Runs tc in the host's namespace: the words of `command`, then those of a filter.
    fn tc(&self, command: &str, filter: &[&str]) {
        let mut tc = Command::new("tc");
        tc.args(command.split(' ')).args(filter);
        self.lab.site().host.place(&mut tc);
        let output = tc.output().expect("iproute2 is installed");
        assert!(output.status.success(), "tc {command}: {output:?}");
    }

    fn addresses(&self) -> HashMap<MapData, Address, Party> {
        let data = MapData::from_pin(self.pins.map("ADDRESSES")).expect("the map is pinned");
        HashMap::try_from(Map::HashMap(data)).expect("it is a hash")
    }
}

fn bpftool(arguments: &[&str]) {
    let output = Command::new("bpftool").args(arguments).output().expect("bpftool is installed");
    assert!(output.status.success(), "bpftool {arguments:?}: {output:?}");
}

#[test]
fn an_entry_that_somebody_deletes_or_changes_is_back_and_one_that_somebody_adds_is_gone() {
    let scene = Scene::new();
    let mut addresses = scene.addresses();
    let [deleted, changed] = Version::BOTH.map(|version| Address::from(scene.client.address(version)));
    let added = Address::from(std::net::IpAddr::from([192, 0, 2, 77]));
    let (before, peer) =
        (addresses.get(&changed, 0).expect("it is there"), addresses.get(&deleted, 0).expect("so is it"));
    addresses.remove(&deleted).expect("root may");
    addresses.insert(changed, Party { workload: 99_999, ..before }, 0).expect("root may");
    addresses.insert(added, peer, 0).expect("root may");
    scene.mends("entry", "the map addresses was changed by somebody else");
    assert_eq!(addresses.get(&deleted, 0).ok(), Some(peer));
    assert_eq!(addresses.get(&changed, 0).ok(), Some(before));
    assert!(addresses.get(&added, 0).is_err(), "it makes nobody a member of a group");
}

#[test]
fn a_program_that_somebody_detaches_is_attached_again() {
    let scene = Scene::new();
    scene.detach_everything();
    // Six at the cgroup root, two at each of two links, one at the uplink.
    scene.agent.eventually("all of them are attached again", || (scene.repairs("attachment") > 10.5).then_some(()));
    scene.mends("attachment", "cgroup_egress at");
    let status = scene.agent.status();
    assert!(status.enforcing && status.attachments.len() == 11, "{}", scene.agent.dump());
}

#[test]
fn a_judging_program_that_somebody_takes_away_is_back_and_until_then_everything_is_denied() {
    let scene = Scene::new();
    let data = MapData::from_pin(scene.pins.map("CGROUP_INGRESS_JUDGE")).expect("the map is pinned");
    let mut judges = ProgramArray::try_from(Map::ProgramArray(data)).expect("it is an array of programs");
    judges.clear_index(&0).expect("root may");
    assert_ne!(scene.client.tcp(scene.server.at(Version::V4, 9000)), Outcome::Reached, "{}", scene.agent.dump());
    scene.mends("attachment", "cgroup_ingress_judge behind its hook's program");
}

#[test]
fn a_pin_that_somebody_removes_takes_nothing_off_its_hook_and_is_made_again() {
    let scene = Scene::new();
    let stream = scene.client.stream(scene.client.keep(scene.server.at(Version::V4, 8000)));
    let link = scene.pins.cgroup_link("cgroup_ingress");
    for pin in [&link, &scene.pins.map("FLOWS")] {
        fs::remove_file(pin).expect("root may");
    }
    assert_eq!(scene.client.tcp(scene.server.at(Version::V4, 9000)), Outcome::Silent, "{}", scene.agent.dump());
    scene.agent.eventually("both pins are back", || (scene.repairs("pin") > 1.5).then_some(()));
    scene.mends("pin", "cgroup_ingress was removed or replaced by somebody else");
    assert!(link.exists() && scene.pins.map("FLOWS").exists());
    assert!(scene.repairs("attachment") < 0.5, "nothing was ever detached");
    scene.agent.left_alone(&scene.client, stream, 8000);
}
