//! Random policies that agree on F and G, each with the workloads of its time.

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead::policy::model::PolicySet;
use bulkhead::policy::validate::{PolicyFile, validate};
use bulkhead::workload::{CgroupRef, InterfaceRef, Labels, SourceKind, Workload};
use bulkhead_tests::document::selecting;
use bulkhead_tests::world::Random;

/// The workload whose rules change. All addresses have their like in IPv6.
pub const LOCAL: &str = "10.0.0.1";
/// A workload that may send to `LOCAL`'s port 80, and receive at its own 443 from there.
pub const PEER: &str = "10.0.0.2";
/// A workload that may use other ports only.
pub const OTHER: &str = "10.0.0.9";
/// No workload: a CIDR allows it what `PEER` may.
pub const STRANGER: &str = "10.0.1.2";
/// A workload like `PEER` under some policies; under the others no workload, and a CIDR of its own allows it the same.
pub const GUEST: &str = "10.0.3.2";
/// No workload either, and outside of that CIDR.
pub const DISTANT: &str = "10.0.1.200";

/// A policy with the workloads of its time.
pub struct State {
    pub policy: Arc<PolicySet>,
    pub workloads: Vec<Workload>,
    pub allows_some: bool,
}

/// A policy that allows every F and denies every G, with workloads that are in its groups: once `PEER` is favoured by a
/// label, once it is not.
pub fn states(random: &mut Random, links: &[InterfaceRef], cgroup: &CgroupRef, has_guest: bool) -> [State; 2] {
    let mut ids: Vec<u32> = Vec::new();
    while ids.len() < 9 {
        let id = 1 + random.below(200) as u32;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let roles = ["r0", "r1", "r2", "r3"];
    let at = random.below(4);
    let (peers, others, nobodys) = (roles[at], roles[(at + 1) % 4], roles[(at + 2) % 4]);
    let server = *random.pick(&["s0", "s1"]);
    let is_extra = random.chance(50);

    let cidr = |address: &str, bits4: u8, bits6: u8| {
        format!("{{cidr: {}}}, {{cidr: \"{}\"}}", net(address, bits4), net(&alike(address), bits6))
    };
    // The trusted ones by some way, in some order.
    let of_peer = match random.below(4) {
        0 | 1 => format!("{{group: {peers}}}"),
        2 => cidr(PEER, 32, 128),
        _ => {
            let free = random.below(3) as u8;
            cidr(PEER, 29 + free, 125 + free)
        }
    };
    let is_guest_known = has_guest && random.chance(50);
    let of_guest = if is_guest_known { "{group: guests}".to_owned() } else { cidr(GUEST, 32, 128) };
    let free = random.below(8) as u8;
    let of_stranger = cidr(STRANGER, 25 + free, 121 + free);
    let mut rules = |from: &str, base: u16, some: u16| {
        let ports = |low: u16, high: u16| format!("[{{protocol: tcp, port: {low}, endPort: {high}}}]");
        let low = base - random.below(4) as u16 * 7;
        let mut rules = vec![
            format!("{{{from}: [{of_peer}], ports: {}}}", ports(low, base)),
            format!("{{{from}: [{of_stranger}], ports: {}}}", ports(base - random.below(3) as u16, base)),
            format!("{{{from}: [{of_guest}], ports: {}}}", ports(base, base)),
            // What G nearly has: the others at other ports, the trusted ones at other ports, nobody at all of them.
            format!("{{{from}: [{{group: {others}}}], ports: {}}}", ports(base + 1, base + 3)),
            format!("{{{from}: [{}], ports: {}}}", cidr(DISTANT, 32, 128), ports(base + 1, base + 2)),
            format!("{{{from}: [{of_peer}], ports: {}}}", ports(base + 2, base + 4 + random.below(3) as u16)),
            format!("{{{from}: [{{group: {nobodys}}}], ports: {}}}", ports(1, base + 100)),
        ];
        rules.push(format!("{{{from}: [{{group: favoured}}], ports: {}}}", ports(some, some + random.below(3) as u16)));
        for last in (1..rules.len()).rev() {
            rules.swap(last, random.below(last + 1));
        }
        rules
    };
    let (mut ingress, mut egress) = (rules("from", 80, 90), rules("to", 443, 490));
    // Some of the rules may be those of another group of the workload.
    let (of_extra_in, of_extra_out) = if is_extra {
        (ingress.split_off(random.below(4)), egress.split_off(random.below(4)))
    } else {
        (Vec::new(), Vec::new())
    };
    let spec = |ingress: &[String], egress: &[String]| {
        [format!("ingress: [{}]", ingress.join(", ")), format!("egress: [{}]", egress.join(", "))]
    };
    let mut text = String::new();
    let mut add = |name: &str, id: u32, selector: &str, spec: &[String; 2]| {
        text.push_str(&selecting(name, id, selector, &[&spec[0], &spec[1]]));
    };
    let closed = spec(&[], &[]);
    for (role, id) in roles.iter().zip(&ids) {
        add(role, *id, &format!("{{matchLabels: {{role: {role}}}}}"), &closed);
    }
    for (name, id) in ["s0", "s1"].iter().zip(&ids[4..]) {
        let spec = if *name == server { spec(&ingress, &egress) } else { closed.clone() };
        add(name, *id, &format!("{{matchLabels: {{server: {name}}}}}"), &spec);
    }
    add("favoured", ids[8], "{matchLabels: {favour: really}}", &closed);
    add("guests", 300, "{matchLabels: {role: guest}}", &closed);
    add("extra", ids[6], "{matchLabels: {extra: really}}", &spec(&of_extra_in, &of_extra_out));
    // Whose rules must never be taken for those of `LOCAL`.
    let anyone = "[{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]";
    let open = [format!("ingress: [{{from: {anyone}}}]"), format!("egress: [{{to: {anyone}}}]")];
    add("bystanders", ids[7], "{matchLabels: {by: stander}}", &open);
    let file = PolicyFile { path: Arc::new("atomic.yaml".into()), text };
    let policy =
        validate(std::slice::from_ref(&file)).unwrap_or_else(|problems| panic!("{problems:#?}\n{}", file.text));

    let labels = |list: &[(&str, &str)]| {
        let pairs = list.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        Arc::new(pairs.collect::<Labels>())
    };
    let remote = |address: &str, list: &[(&str, &str)]| Workload {
        name: format!("at-{address}").into(),
        source: SourceKind::File,
        labels: labels(list),
        cgroup: None,
        interface: None,
        addresses: both(address).into(),
        local: false,
    };
    let mut of_local = vec![("server", server)];
    if is_extra {
        of_local.push(("extra", "really"));
    }
    let mut of_second = vec![("server", *random.pick(&["s0", "s1", "none"]))];
    if random.chance(80) {
        of_second.push(("by", "stander"));
    }
    let place = |address: &str, list: &[(&str, &str)], cgroup, link: usize| Workload {
        cgroup,
        interface: Some(links[link].clone()),
        local: true,
        ..remote(address, list)
    };
    let mut workloads = vec![
        place(LOCAL, &of_local, Some(cgroup.clone()), 0),
        // Another local one, so that the numbers of subjects move.
        place("10.0.2.1", &of_second, None, 1),
        remote(PEER, &[("role", peers)]),
        remote(OTHER, &[("role", others)]),
    ];
    if is_guest_known {
        workloads.push(remote(GUEST, &[("role", "guest")]));
    }
    let policy = Arc::new(policy);
    [false, true].map(|allows_some| {
        let mut workloads = workloads.clone();
        if allows_some {
            let peer = workloads.iter_mut().find(|workload| *workload.addresses == *both(PEER));
            Arc::make_mut(&mut peer.expect("it is there").labels).insert("favour".into(), "really".into());
        }
        State { policy: policy.clone(), workloads, allows_some }
    })
}

fn both(address: &str) -> Vec<IpAddr> {
    [address.to_owned(), alike(address)].iter().map(|text| text.parse().expect("a literal")).collect()
}

/// The prefix of an address, without bits beyond its length.
fn net(address: &str, bits: u8) -> String {
    match address.parse::<IpAddr>().expect("a literal") {
        IpAddr::V4(v4) => {
            let kept = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv4Addr::from_bits(v4.to_bits() & kept))
        }
        IpAddr::V6(v6) => {
            let kept = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv6Addr::from_bits(v6.to_bits() & kept))
        }
    }
}

/// The same for IPv6.
pub fn alike(address: &str) -> String {
    let octets: Vec<u8> = address.split('.').map(|part| part.parse().expect("a literal")).collect();
    format!("fd00::{:x}:{:x}", octets[2], octets[3])
}
