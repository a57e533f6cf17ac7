//! Workloads that appear, are relabelled and vanish while they send and receive: by documents, by cgroups, by links.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bulkhead_tests::document::{group, selecting};
use bulkhead_tests::lab::probe::Work;
use bulkhead_tests::lab::protocol::Tally;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Probe, Version, Workload, cgroup};

const FROM_FRIENDS: &str = "ingress: [{from: [{group: friends}], ports: [{protocol: tcp, port: 8000}]}]";
const FROM_ANYONE: &str =
    "ingress: [{from: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}], ports: [{protocol: tcp, port: 8000}]}]";

/// Waits until everything passes, or nothing does, for a while.
fn settles(agent: &Agent, what: &str, sender: &Probe, work: Work, settled: fn(&Tally) -> bool) {
    let mut in_a_row = 0;
    agent.eventually(&format!("{what} under traffic"), || {
        let tally = sender.tally(work);
        if tally != Tally::default() {
            // What was under way when the change came may still end either way.
            in_a_row = if settled(&tally) { in_a_row + 1 } else { 0 };
        }
        (in_a_row >= 2).then_some(())
    });
}

fn passes(tally: &Tally) -> bool {
    tally.reached > 0 && tally.denied() + tally.other == 0
}

fn is_denied(tally: &Tally) -> bool {
    tally.denied() > 0 && tally.reached + tally.other == 0
}

#[test]
fn documents_come_change_and_go_under_traffic() {
    let mut lab = Lab::new();
    let server = lab.container("server", "app=server");
    server.serve(&[8000]);
    let mut client = lab.container("client", "app=stranger");
    lab.policy(
        "groups.yaml",
        &[group("server", 100, "server", &[FROM_FRIENDS]), group("friends", 200, "friend", &[])].concat(),
    );
    let agent = lab.agent();
    let work = client.hammer(server.at(Version::V4, 8000));
    settles(&agent, "nobody knows the server: its traffic passes", &client, work, passes);

    lab.declare(&server);
    settles(&agent, "the server is declared: strangers are denied", &client, work, is_denied);
    assert_eq!(agent.groups_of("server"), Some(vec!["server".to_owned()]));

    client.labels = "app=friend".to_owned();
    lab.declare(&client);
    settles(&agent, "the client is a friend: it passes", &client, work, passes);

    client.labels = "app=stranger".to_owned();
    lab.declare(&client);
    settles(&agent, "the client is a friend no more: it is denied", &client, work, is_denied);

    lab.forget(&server);
    settles(&agent, "the server is no workload any more: its traffic passes", &client, work, passes);
    assert_eq!(agent.groups_of("server"), None);
}

#[test]
fn a_unit_below_a_managed_scope_is_a_workload_as_long_as_it_runs() {
    let mut lab = Lab::new();
    let client = lab.container("client", "");
    lab.policy(
        "groups.yaml",
        &selecting("web", 100, "{matchLabels: {unit: web.service}}", &[FROM_ANYONE, "egress: []"]),
    );
    let agent = lab.agent();
    let name = "cgroup:system.slice/web.service";

    let unit = lab.process_in("system.slice/web.service", "web", "");
    unit.serve(&[8000, 9000]);
    let groups = agent.eventually("the unit is known", || agent.groups_of(name));
    assert_eq!(groups, ["web"]);
    for version in Version::BOTH {
        assert_eq!(client.tcp(unit.at(version, 8000)), Outcome::Reached, "{}", agent.dump());
        assert_eq!(client.tcp(unit.at(version, 9000)), Outcome::Silent, "{}", agent.dump());
        assert_eq!(unit.tcp(client.at(version, 8000)), Outcome::Refused, "{}", agent.dump());
    }
    // Another unit, in another slice: in no group.
    let other = lab.process_in("system.slice/batch.slice/other.service", "other", "");
    other.serve(&[9001]);
    agent.eventually("the other unit is known", || agent.groups_of("cgroup:system.slice/batch.slice/other.service"));
    assert_eq!(client.tcp(other.at(Version::V4, 9001)), Outcome::Reached, "{}", agent.dump());
    let labels =
        agent.workloads().into_iter().find(|view| view.name.ends_with("other.service")).map(|view| view.labels);
    let labels = labels.expect("it is known");
    assert_eq!((labels["unit"].as_str(), labels["slice"].as_str()), ("other.service", "batch.slice"));

    drop(unit);
    cgroup::remove(&lab.site().cgroup_root.join("system.slice/web.service")).expect("the unit is over");
    agent.eventually("the unit is gone", || agent.groups_of(name).is_none().then_some(()));
}

#[test]
fn a_unit_is_enforced_from_its_first_packet() {
    let mut lab = Lab::new();
    let server = lab.container("server", "");
    server.serve(&[8000, 9000]);
    let rule = "egress: [{to: [{cidr: 0.0.0.0/0}], ports: [{protocol: tcp, port: 8000}]}]";
    lab.policy("groups.yaml", &selecting("job", 100, "{matchExpressions: [{key: unit, operator: Exists}]}", &[rule]));
    // What is not known yet below the scope is denied: by default it is let pass.
    let agent = lab.agent_with(&["--managed-scope", "system.slice"]);
    for number in 0..10 {
        let job = lab.process_in(&format!("system.slice/job-{number}.service"), "job", "");
        // Known by now or not, nothing that no rule allows gets through.
        let denied = job.tcp(server.at(Version::V4, 9000));
        assert!(denied.is_denied(), "job {number}: {denied:?}\n{}", agent.dump());
        agent.eventually("what a rule allows gets through", || {
            (job.tcp(server.at(Version::V4, 8000)) == Outcome::Reached).then_some(())
        });
    }
}

fn set_alias(lab: &Lab, workload: &Workload, alias: &str) {
    let link = workload.interface().expect("a workload with a link");
    lab.site().host.ip(&format!("link set {link} alias \"{alias}\"\n")).expect("the link is there");
}

#[test]
fn a_links_alias_makes_a_workload_of_what_is_behind_it() {
    let mut lab = Lab::new();
    let web = lab.device("web", "");
    web.serve(&[8000, 9000]);
    let client = lab.device("client", "");
    lab.policy(
        "groups.yaml",
        &[
            selecting("web", 100, "{matchLabels: {app: web, env: prod}}", &[FROM_FRIENDS]),
            group("friends", 200, "friend", &[]),
        ]
        .concat(),
    );
    let agent = lab.agent();
    let work = client.hammer(web.at(Version::V6, 8000));
    settles(&agent, "nobody has an alias: everything passes", &client, work, passes);

    set_alias(&lab, &web, "app=web,env=prod");
    settles(&agent, "the server has labels: strangers are denied", &client, work, is_denied);
    let view = agent.workloads().into_iter().find(|view| view.name == "interface:v-web").expect("it is known");
    assert_eq!(view.groups, ["web"]);
    assert_eq!(view.labels.get("env").map(String::as_str), Some("prod"));
    let addresses = Version::BOTH.map(|version| web.address(version));
    assert!(addresses.iter().all(|address| view.addresses.contains(address)), "{view:#?}");

    set_alias(&lab, &client, "app=friend");
    settles(&agent, "the client is a friend: it passes", &client, work, passes);
    assert_eq!(client.tcp(web.at(Version::V4, 9000)), Outcome::Silent, "{}", agent.dump());

    set_alias(&lab, &client, "uplink of rack 12");
    settles(&agent, "an alias without labels makes no friend", &client, work, is_denied);

    // The link comes back under its name with another number: the policy holds for it at once.
    set_alias(&lab, &client, "app=friend");
    settles(&agent, "the client is a friend again", &client, work, passes);
    drop(web);
    agent.eventually("the link is gone, and the workload with it", || {
        agent.groups_of("interface:v-web").is_none().then_some(())
    });
    let web = lab.device("web", "");
    web.serve(&[8000, 9000]);
    set_alias(&lab, &web, "app=web,env=prod");
    agent.eventually("the link that came back is governed", || agent.groups_of("interface:v-web"));
    for version in Version::BOTH {
        agent.eventually("the policy holds for it", || {
            (client.tcp(web.at(version, 9000)) == Outcome::Silent).then_some(())
        });
        assert_eq!(client.tcp(web.at(version, 8000)), Outcome::Reached, "{}", agent.dump());
    }
}

#[test]
fn a_storm_of_cgroups_and_documents_leaves_the_others_alone() {
    let mut lab = Lab::new();
    let server = lab.container("server", "app=server");
    server.serve(&[8000]);
    let client = lab.container("client", "app=friend");
    let stranger = lab.container("stranger", "app=stranger");
    for workload in [&server, &client, &stranger] {
        lab.declare(workload);
    }
    lab.policy(
        "groups.yaml",
        &[group("server", 100, "server", &[FROM_FRIENDS]), group("friends", 200, "friend", &[])].concat(),
    );
    let agent = lab.agent();
    let stream = client.stream(client.keep(server.at(Version::V4, 8000)));
    let hammer = client.hammer(server.at(Version::V6, 8000));
    let denied = stranger.hammer(server.at(Version::V4, 8000));

    let scope = lab.site().cgroup_root.join("system.slice");
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            for round in 0..20 {
                for number in 0..25 {
                    fs::create_dir_all(scope.join(format!("storm-{round}-{number}.service"))).expect("a cgroup");
                }
                for number in 0..25 {
                    if (round + number) % 5 != 0 {
                        fs::remove_dir(scope.join(format!("storm-{round}-{number}.service"))).expect("it is empty");
                    }
                }
            }
            over.store(true, Ordering::Release);
        });
        let mut number = 0;
        while !over.load(Ordering::Acquire) || number < 20 {
            number += 1;
            let name = format!("extra-{}", number % 4);
            let labels = if number % 2 == 0 { "friend" } else { "server" };
            let text = format!(
                "apiVersion: bulkhead.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, labels: {{app: {labels}}}}}\n\
                 spec: {{addresses: [198.18.0.{}]}}\n",
                number % 4 + 1
            );
            lab.policy(&format!("{name}.yaml"), &text);
        }
    });

    let expected = fs::read_dir(&scope).expect("the scope").flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(expected, 100, "a fifth of the cgroups stays");
    agent.eventually("the agent knows what there is, no more and no less", || {
        let cgroups = agent.workloads().into_iter().filter(|view| view.name.contains("/storm-")).count();
        (cgroups == expected).then_some(())
    });
    for work in [stream, hammer] {
        agent.left_alone(&client, work, 8000);
    }
    let tally = agent.eventually("a stranger's connections were tried", || {
        let tally = stranger.tally(denied);
        (tally != Tally::default()).then_some(tally)
    });
    assert!(is_denied(&tally), "{tally:?}\n{}", agent.dump());
}
