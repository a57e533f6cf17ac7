//! Outside addresses as few CIDRs that name no one else who is known.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// With more CIDRs than this a rule names the world.
pub const MAX_CIDRS: usize = 16;
/// So many addresses of one network stand for all of it.
const MANY: usize = 4;
/// The networks that many addresses are widened to: what one owner is usually given at least (RFC 6177 for IPv6).
const WIDTHS: [u8; 2] = [24, 64];

/// What stands for some addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Summary {
    /// These CIDRs.
    Cidrs(Vec<IpNet>),
    /// Everyone who is not known.
    World,
}

/// CIDRs for `addresses`: exact ones, a whole network where several addresses of it were seen and nobody of `known` is in it, the
/// world where there are too many.
#[must_use]
pub fn summarise(addresses: &BTreeSet<IpAddr>, known: &BTreeSet<IpAddr>) -> Summary {
    let mut nets: Vec<IpNet> = Vec::new();
    let mut rest: Vec<IpAddr> = addresses.iter().copied().collect();
    while let Some(address) = rest.first().copied() {
        let width = WIDTHS[usize::from(address.is_ipv6())];
        let net = IpNet::new(address, width).expect("a width of its version").trunc();
        let inside = rest.iter().filter(|address| net.contains(*address)).count();
        if inside >= MANY && !known.iter().any(|address| net.contains(address)) {
            nets.push(net);
            rest.retain(|address| !net.contains(address));
        } else {
            nets.push(IpNet::from(address));
            rest.remove(0);
        }
    }
    let nets = IpNet::aggregate(&nets);
    if nets.len() > MAX_CIDRS { Summary::World } else { Summary::Cidrs(nets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn nets(summary: &Summary) -> Vec<String> {
        match summary {
            Summary::Cidrs(nets) => nets.iter().map(ToString::to_string).collect(),
            Summary::World => vec!["world".to_owned()],
        }
    }

    #[test]
    fn few_addresses_stay_what_they_are_and_many_of_one_network_are_all_of_it() {
        let none = BTreeSet::new();
        assert_eq!(nets(&summarise(&set(&["192.0.2.1", "192.0.2.9"]), &none)), ["192.0.2.1/32", "192.0.2.9/32"]);
        assert_eq!(nets(&summarise(&set(&["192.0.2.2", "192.0.2.3"]), &none)), ["192.0.2.2/31"]);
        let many = set(&["192.0.2.1", "192.0.2.9", "192.0.2.77", "192.0.2.200", "198.51.100.1"]);
        assert_eq!(nets(&summarise(&many, &none)), ["192.0.2.0/24", "198.51.100.1/32"]);
        assert_eq!(nets(&summarise(&many, &set(&["192.0.2.5"]))).len(), 5, "somebody known is in that network");
        let v6 = set(&["2001:db8::1", "2001:db8::9", "2001:db8::77", "2001:db8::200"]);
        assert_eq!(nets(&summarise(&v6, &none)), ["2001:db8::/64"]);
    }

    #[test]
    fn addresses_from_everywhere_are_the_world() {
        let many: BTreeSet<IpAddr> = (0..40).map(|number| IpAddr::from([100, 64 + number, 7, 1])).collect();
        assert_eq!(summarise(&many, &BTreeSet::new()), Summary::World);
    }
}
