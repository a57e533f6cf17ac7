//! Sockets that change hands, and processes that move: a socket stays under the policy of the cgroup in which it was opened.

use bulkhead_tests::document::{from_all, group, to_all};
use bulkhead_tests::lab::probe::Kept;
use bulkhead_tests::lab::{Lab, Outcome, Transport, Version, Workload};

/// A declared workload that carries its name as its label.
fn make(lab: &mut Lab, name: &str, is_container: bool) -> Workload {
    let labels = format!("app={name}");
    let workload = if is_container { lab.container(name, &labels) } else { lab.process(name, &labels) };
    lab.declare(&workload);
    workload
}

#[test]
fn a_connection_that_is_handed_over_stays_under_the_policy_of_who_made_it() {
    for is_container in [true, false] {
        let mut lab = Lab::new();
        let (subject, neighbour) = (make(&mut lab, "subject", is_container), make(&mut lab, "neighbour", is_container));
        let outsider = lab.outsider("outsider", "");
        outsider.serve(&[8000]);
        let policy = |of_subject: &[u16], of_neighbour: &[u16]| {
            let groups = [
                group("subjects", 100, "subject", &[&to_all(of_subject)]),
                group("neighbours", 200, "neighbour", &[&to_all(of_neighbour)]),
            ];
            lab.policy("groups.yaml", &groups.concat());
        };
        policy(&[8000], &[9000]);
        let agent = lab.agent();
        let becomes = |what: &str, expected: &Outcome, attempt: &dyn Fn() -> Outcome| {
            agent.eventually(&format!("{what} becomes {expected:?}"), || (attempt() == *expected).then_some(()));
        };
        let path = |version| lab.site().directory.join(format!("handover-{version:?}"));
        let given: Vec<Kept> = Version::BOTH
            .map(|version| {
                let kept = subject.keep(outsider.at(version, 8000));
                subject.give(kept, &neighbour, &path(version))
            })
            .into();
        let attempts = |what: &str, expected: &Outcome| {
            for kept in &given {
                becomes(what, expected, &|| neighbour.exchange(*kept));
            }
        };
        attempts("the subject's connection in the neighbour's hands", &Outcome::Reached);
        // The neighbour's own policy is another.
        let own = || neighbour.tcp(outsider.at(Version::V4, 8000));
        assert_eq!(own(), Outcome::Refused, "{}", agent.dump());
        // What the neighbour may do makes no difference to it, what the subject may do does.
        policy(&[], &[8000]);
        becomes("the neighbour's own connection", &Outcome::Reached, &own);
        attempts("the subject's connection, revoked", &Outcome::Silent);
        policy(&[8000], &[]);
        becomes("the neighbour's own connection, revoked", &Outcome::Refused, &own);
        attempts("the subject's connection, allowed again", &Outcome::Reached);
    }
}

#[test]
fn a_listening_socket_that_is_handed_over_stays_under_the_policy_of_who_made_it() {
    for is_container in [true, false] {
        let mut lab = Lab::new();
        let (subject, neighbour) = (make(&mut lab, "subject", is_container), make(&mut lab, "neighbour", is_container));
        let outsider = lab.outsider("outsider", "");
        let policy = |of_subject: &[u16], of_neighbour: &[u16]| {
            let groups = [
                group("subjects", 100, "subject", &[&from_all(of_subject), &to_all(&[])]),
                group("neighbours", 200, "neighbour", &[&from_all(of_neighbour), &to_all(&[])]),
            ];
            lab.policy("groups.yaml", &groups.concat());
        };
        policy(&[8000], &[9000]);
        let agent = lab.agent();
        for version in Version::BOTH {
            for port in [8000, 9000] {
                let held = subject.hold(subject.at(version, port));
                let path = lab.site().directory.join(format!("handover-{version:?}-{port}"));
                subject.give(held, &neighbour, &path);
            }
        }
        let reachable = |reached: u16, silent: u16| {
            for version in Version::BOTH {
                for (port, expected) in [(reached, Outcome::Reached), (silent, Outcome::Silent)] {
                    agent.eventually(&format!("port {port} becomes {expected:?} by {version:?}"), || {
                        (outsider.tcp(subject.at(version, port)) == expected).then_some(())
                    });
                }
            }
        };
        reachable(8000, 9000);
        policy(&[9000], &[8000]);
        reachable(9000, 8000);
    }
}

#[test]
fn a_process_that_moves_leaves_its_open_sockets_behind() {
    let mut lab = Lab::new();
    let process = lab.process("first", "app=first");
    let second = lab.process("second", "app=second");
    let outsider = lab.outsider("outsider", "");
    outsider.serve(&[8000, 9000]);
    lab.declare(&process);
    lab.declare(&second);
    let policy = |of_first: &[u16], of_second: &[u16]| {
        let groups = [
            group("first", 100, "first", &[&from_all(&[7001]), &to_all(of_first)]),
            group("second", 200, "second", &[&from_all(&[7002]), &to_all(of_second)]),
        ];
        lab.policy("groups.yaml", &groups.concat());
    };
    policy(&[8000], &[9000]);
    let agent = lab.agent();
    let connections = Version::BOTH.map(|version| process.keep(outsider.at(version, 8000)));
    for version in Version::BOTH {
        process.listen(Transport::Tcp, process.at(version, 7001));
    }

    let members = lab.site().cgroup_root.join("shop/second/cgroup.procs");
    std::fs::write(members, process.pid().to_string()).expect("root may move a process");
    for version in Version::BOTH {
        process.listen(Transport::Tcp, process.at(version, 7002));
        process.listen(Transport::Tcp, process.at(version, 7003));
    }
    let all = |what: &str, expected: &Outcome| {
        for kept in connections {
            agent.eventually(&format!("{what} becomes {expected:?}"), || {
                (process.exchange(kept) == *expected).then_some(())
            });
        }
    };
    all("a connection from before", &Outcome::Reached);
    for version in Version::BOTH {
        let listener = |port| outsider.tcp(process.at(version, port));
        assert_eq!(listener(7001), Outcome::Reached, "the old listener\n{}", agent.dump());
        assert_eq!(listener(7002), Outcome::Reached, "a new one\n{}", agent.dump());
        assert_eq!(listener(7003), Outcome::Silent, "one that nobody allows\n{}", agent.dump());
        assert_eq!(process.tcp(outsider.at(version, 9000)), Outcome::Reached, "{}", agent.dump());
        assert_eq!(process.tcp(outsider.at(version, 8000)), Outcome::Refused, "{}", agent.dump());
    }
    policy(&[], &[8000, 9000]);
    all("a connection from before, revoked", &Outcome::Silent);
    assert_eq!(process.tcp(outsider.at(Version::V4, 8000)), Outcome::Reached, "{}", agent.dump());
    policy(&[8000], &[9000]);
    all("a connection from before, allowed again", &Outcome::Reached);
}
