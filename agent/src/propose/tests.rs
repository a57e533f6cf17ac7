//! A proposal allows what was seen, by the real compiler and decision, and not what was not.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::policy::validate::{PolicyFile, validate};
use crate::policy::warnings::warnings;
use crate::snapshot::Snapshot;

/// A flow from one to another: names with labels, or an address.
fn talk(from: (&str, &str), to: (&str, &str), protocol: &str, port: u16) -> [Option<TalkView>; 2] {
    let labels = |text: &str| -> Labels {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
    };
    let side = |own: (&str, &str), other: (&str, &str), direction: &str| {
        let address = other.0.parse::<IpAddr>().ok();
        own.0.parse::<IpAddr>().is_err().then(|| TalkView {
            verdict: "allow".into(),
            reason: "ungoverned".into(),
            direction: direction.into(),
            protocol: protocol.into(),
            port: Some(port),
            icmp: None,
            workload: Some(own.0.into()),
            labels: labels(own.1),
            groups: Vec::new(),
            peer: address.is_none().then(|| other.0.into()),
            peer_labels: labels(other.1),
            peer_groups: Vec::new(),
            address,
            count: 3,
            first: 1_700_000_000.0,
            last: 1_700_000_600.0,
        })
    };
    [side(from, to, "egress"), side(to, from, "ingress")]
}

fn talks(all: impl IntoIterator<Item = [Option<TalkView>; 2]>) -> TalksView {
    let talks = all.into_iter().flatten().flatten().collect();
    TalksView { since: 1_700_000_000.0, until: 1_700_001_000.0, talks, ..TalksView::default() }
}

const WEB: (&str, &str) = ("web-1", "app=web,pod-template-hash=a");
const WEB2: (&str, &str) = ("web-2", "app=web,pod-template-hash=b");
const DB: (&str, &str) = ("db-1", "app=db");
const JOB: (&str, &str) = ("job", "unit=job.service");

const WORKLOADS: &str = "
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: web-1, labels: {app: web, pod-template-hash: a}}
spec: {cgroup: a, addresses: [10.0.0.1]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: web-2, labels: {app: web, pod-template-hash: b}}
spec: {cgroup: b, addresses: [10.0.0.2]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: db-1, labels: {app: db}}
spec: {cgroup: c, addresses: [10.0.0.3]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: job, labels: {unit: job.service}}
spec: {cgroup: d, addresses: [10.0.0.4]}
";

/// The verdict under what is proposed.
fn asked(yaml: &str, from: &str, to: &str, port: &str) -> String {
    let file = PolicyFile { path: Arc::new(PathBuf::from("proposed.yaml")), text: format!("{yaml}{WORKLOADS}") };
    let policy = validate(&[file]).unwrap_or_else(|problems| panic!("{problems:?}\n{yaml}"));
    assert_eq!(warnings(&policy), [], "{yaml}");
    let port = port.parse().expect("a port");
    crate::explain::explain(&Snapshot::offline(policy), from, to, &port).expect("both are there").verdict
}

#[test]
fn what_was_seen_is_allowed_and_nothing_else() {
    let seen = talks([
        talk(WEB, DB, "tcp", 5432),
        talk(WEB2, DB, "tcp", 5432),
        talk(("198.51.100.7", ""), WEB, "tcp", 443),
        talk(JOB, ("192.0.2.9", ""), "udp", 123),
    ]);
    let enforced = Wanted { enforce: true, ..Wanted::default() };
    let yaml = propose(&seen, &Known::default(), enforced).yaml();
    for (from, to, port, verdict) in [
        ("web-1", "db-1", "tcp/5432", "allow"),
        ("web-2", "db-1", "tcp/5432", "allow"),
        ("198.51.100.7", "web-1", "tcp/443", "allow"),
        ("job", "192.0.2.9", "udp/123", "allow"),
        ("web-1", "db-1", "tcp/5433", "deny"),
        ("db-1", "web-1", "tcp/5432", "deny"),
        ("job", "db-1", "tcp/5432", "deny"),
        ("198.51.100.8", "web-1", "tcp/443", "deny"),
        ("198.51.100.7", "web-1", "tcp/80", "deny"),
        ("job", "192.0.2.9", "tcp/123", "deny"),
        ("web-1", "192.0.2.9", "udp/123", "deny"),
        ("web-1", "web-2", "tcp/443", "deny"),
    ] {
        assert_eq!(asked(&yaml, from, to, port), verdict, "{from} to {to} {port}\n{yaml}");
    }
    assert!(yaml.contains("# 12 flows of 2 workloads (web-1, web-2), with db-1"), "{yaml}");
    assert_eq!(asked(&propose(&seen, &Known::default(), Wanted::default()).yaml(), "web-1", "db-1", "tcp/1"), "audit");
    let ingress =
        propose(&seen, &Known::default(), Wanted { ingress_only: true, enforce: true, ..Wanted::default() }).yaml();
    assert_eq!(asked(&ingress, "web-1", "192.0.2.9", "udp/123"), "allow", "what goes out stays open");
    assert_eq!(asked(&ingress, "web-1", "db-1", "tcp/5433"), "deny");
}

#[test]
fn the_same_talks_give_the_same_text_whatever_their_order() {
    let mut seen = talks([talk(WEB, DB, "tcp", 5432), talk(JOB, WEB, "tcp", 443), talk(WEB2, JOB, "udp", 53)]);
    let first = propose(&seen, &Known::default(), Wanted::default()).yaml();
    seen.talks.reverse();
    assert_eq!(propose(&seen, &Known::default(), Wanted::default()).yaml(), first);
}

#[test]
fn what_can_not_be_part_of_it_is_told() {
    let mut seen = talks([talk(("bare", ""), DB, "tcp", 5432), talk(WEB, DB, "tcp", 5432)]);
    seen.talks.push(TalkView { verdict: "deny".into(), port: Some(22), ..seen.talks[0].clone() });
    let yaml = propose(&seen, &Known::default(), Wanted::default()).yaml();
    assert!(yaml.contains("# 6 flows were of workloads without labels"), "{yaml}");
    assert!(yaml.contains("# 3 flows were denied"), "{yaml}");
    assert!(!yaml.contains("port: 22"), "{yaml}");
}

#[test]
fn hosts_and_services_are_named_as_what_they_are() {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let known = Known {
        host: [address("10.0.0.254")].into(),
        nodes: [address("10.0.1.254")].into(),
        workloads: [(address("10.0.0.3"), (DB.0.to_owned(), Labels::from([("app".into(), "db".into())])))].into(),
        services: [((address("10.96.0.1"), 6, 5432), vec!["10.0.0.3:15432".parse().expect("a socket address")])].into(),
        groups: ["web".to_owned()].into(),
    };
    let seen = talks([
        talk(("10.0.0.254", ""), WEB, "tcp", 8080),
        talk(("10.0.1.254", ""), WEB, "tcp", 8080),
        talk(WEB, ("10.96.0.1", ""), "tcp", 5432),
    ]);
    let yaml = propose(&seen, &known, Wanted { enforce: true, ..Wanted::default() }).yaml();
    assert!(yaml.contains("{entity: host}, {entity: remote-host}"), "{yaml}");
    assert!(yaml.contains("name: web-2}"), "there is a group `web` already: {yaml}");
    assert_eq!(asked(&yaml, "web-1", "db-1", "tcp/15432"), "allow", "{yaml}");
    assert_eq!(asked(&yaml, "web-1", "db-1", "tcp/5432"), "deny", "{yaml}");
}

/// Who, to whom, at which port.
type Flow = ((&'static str, &'static str), (&'static str, &'static str), u16);

/// A generator of numbers without any claim (Marsaglia, "Xorshift RNGs", 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn whatever_was_seen_is_allowed_in_random_worlds_and_what_no_one_alike_did_is_denied() {
    let all = [WEB, WEB2, DB, JOB];
    let app = |(_, labels): (&str, &str)| labels.split(',').next().unwrap_or_default().to_owned();
    for seed in 1..=30 {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut pick = |count: usize| numbers.below(count as u64) as usize;
        let mut did: Vec<Flow> = Vec::new();
        for _ in 0..1 + pick(8) {
            let (from, to) = (all[pick(4)], all[pick(4)]);
            if from != to {
                did.push((from, to, [80, 81, 443, 5432][pick(4)]));
            }
        }
        let seen = talks(did.iter().map(|(from, to, port)| talk(*from, *to, "tcp", *port)));
        let yaml = propose(&seen, &Known::default(), Wanted { enforce: true, ..Wanted::default() }).yaml();
        for (from, to, port) in &did {
            assert_eq!(asked(&yaml, from.0, to.0, &format!("tcp/{port}")), "allow", "seed {seed}\n{yaml}");
        }
        let known: BTreeSet<String> = did.iter().flat_map(|(from, to, _)| [app(*from), app(*to)]).collect();
        for _ in 0..6 {
            let (from, to, port) = (all[pick(4)], all[pick(4)], [80, 81, 443, 5432, 22][pick(5)]);
            let alike = did.iter().any(|it| (app(it.0), app(it.1), it.2) == (app(from), app(to), port));
            if from == to || alike || !known.contains(&app(from)) && !known.contains(&app(to)) {
                continue;
            }
            assert_eq!(
                asked(&yaml, from.0, to.0, &format!("tcp/{port}")),
                "deny",
                "seed {seed}: {from:?} {to:?} {port}\n{yaml}"
            );
        }
    }
}
