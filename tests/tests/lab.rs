//! The lab itself: without an agent everyone reaches everyone, so that what does not arrive in another test was denied; and
//! nothing stays behind.

use bulkhead_tests::check::{Differences, eventually};
use bulkhead_tests::lab::{Lab, Outcome, Version, Workload, cgroup};

#[test]
fn without_an_agent_everyone_reaches_everyone() {
    let mut lab = Lab::new();
    let everyone = [
        lab.container("web", "app=web"),
        lab.container("api", "app=api"),
        lab.process("db", "app=db"),
        lab.device("meter", "app=meter"),
        lab.outsider("client", ""),
    ];
    for workload in &everyone {
        workload.serve(&[8000]);
    }
    let mut differences = Differences::default();
    let pairs = everyone.iter().flat_map(|from| everyone.iter().map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from.name != to.name) {
        for version in Version::BOTH {
            reaches(&mut differences, from, to, version);
        }
    }
    differences.end(|| "");
}

fn reaches(differences: &mut Differences, from: &Workload, to: &Workload, version: Version) {
    let way = format!("{} to {} by {version:?}", from.name, to.name);
    let at = to.at(version, 8000);
    differences.case(format!("{way}, TCP"), &Outcome::Reached, &from.tcp(at));
    differences.case(format!("{way}, UDP"), &Outcome::Reached, &from.udp(at));
    differences.case(
        format!("{way}, bound UDP"),
        &Outcome::Reached,
        &from.udp_with(at, Some(from.at(version, 4000)), false),
    );
    differences.case(format!("{way}, connected UDP"), &Outcome::Reached, &from.udp_with(at, None, true));
    differences.case(format!("{way}, echo"), &Outcome::Reached, &from.echo(at.ip()));
    differences.case(format!("{way}, nobody listens"), &Outcome::Reset, &from.tcp(to.at(version, 9)));
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let mut lab = Lab::new();
    let web = lab.container("web", "app=web");
    let (directory, cgroup_root) = (lab.site().directory.clone(), lab.site().cgroup_root.clone());
    let process = format!("/proc/{}", web.pid());
    assert!(directory.exists() && cgroup_root.join("shop/web").exists() && std::fs::exists(&process).expect("procfs"));
    drop((web, lab));
    assert!(!directory.exists(), "{}", directory.display());
    assert!(!cgroup_root.exists(), "{}", cgroup_root.display());
    assert!(!std::fs::exists(&process).expect("procfs"), "{process}");
}

#[test]
fn what_a_killed_test_left_is_swept_away() {
    // No process has this ID: the kernel's highest is 4,194,304 (proc(5), pid_max).
    let name = "bulkhead-lab-4194305-0";
    let directory = std::env::temp_dir().join(name);
    let cgroup_root = cgroup::mount_point().expect("cgroup2 is mounted").join(name);
    // A lab that begins elsewhere on this machine may sweep what is only half made.
    for left in [directory.join("bpffs/bulkhead"), cgroup_root.join("shop/web")] {
        eventually("something is left", || left.display(), || std::fs::create_dir_all(&left).ok());
    }
    bulkhead_tests::lab::sweep();
    assert!(!directory.exists() && !cgroup_root.exists(), "{name}");
}
