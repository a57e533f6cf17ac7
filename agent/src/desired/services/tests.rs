use bulkhead_ebpf::abi::Denied;

use super::*;

fn identity(slots: &[u16], denied: u64) -> Identity {
    let mut all = Identity::NOBODY.slots;
    all[..slots.len()].copy_from_slice(slots);
    let count = u16::try_from(slots.len()).expect("a few");
    let denied = Denied { from: [denied, 0], to: [0, denied] };
    Identity { subject: 7, flags: Identity::GOVERNED, count, slots: all, denied }
}

#[test]
fn of_several_back_ends_only_what_holds_for_all_is_allowed_and_what_is_denied_to_one_is_denied() {
    let all = common([identity(&[3, 4, 9], 1), identity(&[9, 3], 2), identity(&[8, 9, 3, 4], 0)].into_iter());
    assert_eq!((&all.slots[..3], all.count), ([3, 9, 0].as_slice(), 2));
    assert_eq!(all.denied, Denied { from: [3, 0], to: [0, 3] });
    assert_eq!((all.subject, all.flags), (0, 0), "nobody asks a peer for its own rules");
    assert_eq!(common([identity(&[3], 0), identity(&[4], 0)].into_iter()).count, 0);
    assert_eq!(common(std::iter::empty()), Identity::NOBODY);
}

#[test]
fn a_port_without_back_ends_or_with_several_ports_behind_it_stands_for_nobody() {
    use crate::source::ServicePort;
    let port = |port, backends: &[&str]| ServicePort {
        protocol: 6,
        port,
        backends: backends.iter().map(|backend| backend.parse().expect("a literal")).collect(),
    };
    let fact = ServiceFact {
        name: "shop/db".to_owned(),
        addresses: ["10.96.0.7", "fd00::7"].map(|address| address.parse().expect("a literal")).into(),
        ports: vec![
            port(80, &["10.1.0.1:8080", "10.1.0.2:8080"]),
            port(81, &[]),
            port(82, &["10.1.0.1:8080", "10.1.0.2:8081"]),
        ],
    };
    let mut warnings = Vec::new();
    let ports = resolve_one(&fact, &mut warnings, |_| identity(&[3], 0));
    let [(resolved, _)] = ports.as_slice() else { panic!("one port: {ports:?}") };
    assert_eq!(resolved.service, PortIndex::new(6, 8080));
    assert!(resolved.frontends.iter().all(|frontend| frontend.service == PortIndex::new(6, 80)));
    assert_eq!(resolved.frontends.len(), 2, "at both of its addresses");
    assert!(matches!(warnings.as_slice(), [one] if one.contains("shop/db") && one.contains("the same port")));
}
