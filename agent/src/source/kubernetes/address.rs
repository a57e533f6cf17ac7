//! Addresses in objects.

use std::net::IpAddr;

/// The address in `text` that something of a cluster can have: doubtful is what no packet comes from on a network.
pub(super) fn address(of: &str, text: &str, doubts: &mut Vec<String>) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        doubts.push(format!("{of} {text:?} is no address"));
        return None;
    };
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        doubts.push(format!("{of} {address} is no address of one host on a network"));
        return None;
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_a_host_can_have_count() {
        for (text, expected) in [
            ("10.1.2.3", Some("10.1.2.3")),
            ("fd00::1", Some("fd00::1")),
            ("::ffff:10.1.2.3", Some("10.1.2.3")),
            ("", None),
            ("10.1.2.3/32", None),
            ("010.1.2.3", None),
            ("a name", None),
            ("0.0.0.0", None),
            ("127.0.0.1", None),
            ("::", None),
            ("::1", None),
            ("224.0.0.1", None),
            ("ff02::1", None),
        ] {
            let mut doubts = Vec::new();
            let found = address("podIP", text, &mut doubts).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
            assert_eq!(doubts.is_empty(), expected.is_some(), "{doubts:?}");
        }
    }
}
