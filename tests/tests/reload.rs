//! Edits of the policy under traffic: in force at once and as a whole, or refused as a whole.

use std::fs;
use std::os::unix::fs::symlink;

use bulkhead_tests::document::group;
use bulkhead_tests::lab::{Agent, Kept, Lab, Outcome, Version, Workload};

/// A server and a client that it lets in.
struct Scene {
    client: Workload,
    server: Workload,
    agent: Agent,
    lab: Lab,
}

fn policy(further: &[&str], peer: &str, port: u16) -> String {
    let rule = format!("ingress: [{{from: [{{group: {peer}}}], ports: [{{protocol: tcp, port: {port}}}]}}]");
    let rules = [further, &[rule.as_str()]].concat();
    [group("server", 100, "server", &rules), group("client", 200, "client", &[]), group("other", 300, "other", &[])]
        .concat()
}

impl Scene {
    fn new(policy: &str) -> Self {
        let mut lab = Lab::new();
        let (client, server) = (lab.container("client", "app=client"), lab.container("server", "app=server"));
        for workload in [&client, &server] {
            workload.serve(&[8000, 9000]);
            lab.declare(workload);
        }
        lab.policy("groups.yaml", policy);
        let agent = lab.agent();
        Self { client, server, agent, lab }
    }

    /// Edits the policy and waits until the agent took it.
    fn edit(&self, text: &str) {
        let before = self.agent.status().reloads;
        self.lab.policy("groups.yaml", text);
        self.agent.eventually("the edit is in force", || (self.agent.status().reloads > before).then_some(()));
    }

    fn new_connection(&self, version: Version, port: u16) -> Outcome {
        self.client.tcp(self.server.at(version, port))
    }

    fn kept(&self, port: u16) -> [Kept; 2] {
        Version::BOTH.map(|version| self.client.keep(self.server.at(version, port)))
    }
}

#[test]
fn an_edit_holds_for_new_connections_and_for_the_next_packet_of_open_ones() {
    let scene = Scene::new(&policy(&[], "client", 8000));
    let kept = scene.kept(8000);
    for (version, kept) in Version::BOTH.into_iter().zip(kept) {
        assert_eq!(scene.client.exchange(kept), Outcome::Reached, "{}", scene.agent.dump());
        assert_eq!(scene.new_connection(version, 9000), Outcome::Silent, "{}", scene.agent.dump());
    }
    scene.edit(&policy(&[], "client", 9000));
    for (version, kept) in Version::BOTH.into_iter().zip(kept) {
        assert_eq!(scene.client.exchange(kept), Outcome::Silent, "revoked\n{}", scene.agent.dump());
        assert_eq!(scene.new_connection(version, 8000), Outcome::Silent, "{}", scene.agent.dump());
        assert_eq!(scene.new_connection(version, 9000), Outcome::Reached, "{}", scene.agent.dump());
    }
}

#[test]
fn a_connection_that_is_allowed_again_goes_on() {
    let scene = Scene::new(&policy(&[], "client", 8000));
    let kept = scene.kept(8000);
    scene.edit(&policy(&[], "other", 8000));
    for kept in kept {
        assert_eq!(scene.client.exchange(kept), Outcome::Silent, "{}", scene.agent.dump());
    }
    scene.edit(&policy(&[], "client", 8000));
    for kept in kept {
        // TCP sends again what was dropped, after a while that doubles each time.
        scene
            .agent
            .eventually("the connection goes on", || (scene.client.exchange(kept) == Outcome::Reached).then_some(()));
    }
}

#[test]
fn established_keep_lets_open_connections_live_on() {
    let scene = Scene::new(&policy(&["established: keep"], "client", 8000));
    let kept = scene.kept(8000);
    scene.edit(&policy(&["established: keep"], "other", 8000));
    for (version, kept) in Version::BOTH.into_iter().zip(kept) {
        assert_eq!(scene.client.exchange(kept), Outcome::Reached, "{}", scene.agent.dump());
        assert_eq!(scene.new_connection(version, 8000), Outcome::Silent, "{}", scene.agent.dump());
    }
    scene.edit(&policy(&["established: keep"], "other", 9000));
    for kept in kept {
        assert_eq!(scene.client.exchange(kept), Outcome::Reached, "a second edit\n{}", scene.agent.dump());
    }
}

#[test]
fn edits_that_do_not_concern_a_connection_never_disturb_it() {
    let scene = Scene::new(&policy(&[], "client", 8000));
    let stream = scene.client.stream(scene.kept(8000)[0]);
    let hammer = scene.client.hammer(scene.server.at(Version::V6, 8000));
    for round in 0..20 {
        // Rules around the one that matters come and go, and so its number changes.
        let ports: Vec<String> = (0..round % 7)
            .map(|port| format!("{{from: [{{group: other}}], ports: [{{protocol: udp, port: {}}}]}}, ", 100 + port))
            .collect();
        let text = policy(&[], "client", 8000).replace("ingress: [", &format!("ingress: [{}", ports.concat()));
        scene.edit(&format!("# round {round}\n{text}{}", group("extra", 400 + round, "extra", &[])));
    }
    for work in [stream, hammer] {
        scene.agent.left_alone(&scene.client, work, 8000);
    }
}

#[test]
fn a_broken_edit_is_refused_and_the_policy_in_force_stays() {
    let scene = Scene::new(&policy(&[], "client", 8000));
    let stream = scene.client.stream(scene.kept(8000)[0]);
    let generation = scene.agent.status().generation;
    for (broken, problem) in [
        ("kind: [", "groups.yaml:"),
        (&policy(&[], "nobody", 9000), "nobody"),
        (&policy(&["mood: bad"], "client", 9000), "mood"),
    ] {
        let before = scene.agent.status().refusals;
        scene.lab.policy("groups.yaml", broken);
        let status = scene.agent.eventually("the edit is refused", || {
            let status = scene.agent.status();
            (status.refusals > before && !status.problems.is_empty()).then_some(status)
        });
        assert!(status.problems.iter().any(|text| text.contains(problem)), "{problem}: {:#?}", status.problems);
        assert_eq!(status.generation, generation, "nothing changed");
        assert!(scene.agent.is_ready(), "what is in force is still enforced");
        assert_eq!(scene.agent.metric("bulkhead_policy_problems", &[]) as usize, status.problems.len());
        assert!(scene.agent.log().contains(problem), "the log tells of it");
        assert_eq!(scene.new_connection(Version::V4, 8000), Outcome::Reached, "{}", scene.agent.dump());
        assert_eq!(scene.new_connection(Version::V4, 9000), Outcome::Silent, "{}", scene.agent.dump());
    }
    assert!(scene.agent.metric("bulkhead_policy_reloads_total", &[("result", "refused")]) >= 3.0);
    scene.edit(&policy(&["# mended"], "client", 9000));
    assert_eq!(scene.agent.status().problems, [""; 0]);
    assert_eq!(scene.new_connection(Version::V4, 9000), Outcome::Reached, "{}", scene.agent.dump());
    // What was sent until the edit was mended was answered.
    let tally = scene.client.tally(stream);
    assert!(tally.reached > 0 && tally.other == 0, "{tally:?}\n{}", scene.agent.dump());
}

#[test]
fn the_swap_of_a_configmaps_symlink_is_an_edit() {
    let mut lab = Lab::new();
    let (client, server) = (lab.container("client", "app=client"), lab.container("server", "app=server"));
    server.serve(&[8000, 9000]);
    // As the kubelet lays out a mounted ConfigMap: files are links through `..data`, which is swapped.
    let policies = lab.site().policies();
    let release = |version: &str, port| {
        let directory = policies.join(format!("..{version}"));
        fs::create_dir(&directory).expect("a directory");
        let documents = format!("{}---\n{}---\n{}", policy(&[], "client", port), client.document(), server.document());
        fs::write(directory.join("all.yaml"), documents).expect("a file");
        symlink(format!("..{version}"), policies.join("..data_tmp")).expect("a link");
        fs::rename(policies.join("..data_tmp"), policies.join("..data")).expect("a swap");
    };
    release("2026_1", 8000);
    symlink("..data/all.yaml", policies.join("all.yaml")).expect("a link");
    let agent = lab.agent();
    assert_eq!(client.tcp(server.at(Version::V4, 8000)), Outcome::Reached, "{}", agent.dump());
    assert_eq!(client.tcp(server.at(Version::V4, 9000)), Outcome::Silent, "{}", agent.dump());
    let before = agent.status().reloads;
    release("2026_2", 9000);
    agent.eventually("the swap is in force", || (agent.status().reloads > before).then_some(()));
    assert_eq!(client.tcp(server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
    assert_eq!(client.tcp(server.at(Version::V4, 9000)), Outcome::Reached, "{}", agent.dump());
}
