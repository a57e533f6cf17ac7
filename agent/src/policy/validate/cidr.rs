//! CIDRs and addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::names::Wrong;
use crate::policy::document::shorten;

/// A CIDR without host bits.
pub(super) fn parse_cidr(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let net = IpNet::from(address);
        return Err((
            format!("`{text}` is an address without prefix length"),
            format!("write `{net}` for this one address"),
        ));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        return Err((format!("`{}` is no CIDR", shorten(text)), cidr_cure(text)));
    };
    if let Some(plain) = unmapped(net) {
        return Err((format!("`{text}` is an IPv4 prefix in IPv6's clothes"), format!("write `{plain}`")));
    }
    if net != net.trunc() {
        return Err((
            format!("`{text}` has bits set beyond its prefix length"),
            format!("write `{}` for the network, or `{}` for the single address", net.trunc(), IpNet::from(net.addr())),
        ));
    }
    Ok(net)
}

/// An IPv4-mapped prefix as IPv4: the two are the same to the kernel's tables, so only one way of writing it is taken.
fn unmapped(net: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = net else { return None };
    let address = v6.addr().to_ipv4_mapped()?;
    let length = v6.prefix_len().checked_sub(96)?;
    IpNet::new(address.into(), length).ok()
}

fn cidr_cure(text: &str) -> String {
    let cure = match text.split_once('/') {
        Some((address, length)) => match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => "the part after `/` is a number from 0 to 32",
            Ok(IpAddr::V6(_)) => "the part after `/` is a number from 0 to 128",
            Err(_) if length.parse::<u8>().is_ok() => "the part before `/` is an IPv4 or IPv6 address, written in full",
            Err(_) => "write a prefix such as 10.0.0.0/8 or 2001:db8::/32",
        },
        None => "write a prefix such as 10.0.0.0/8 or 2001:db8::/32; names are not looked up",
    };
    cure.to_owned()
}

/// An address that a workload may have.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, Wrong> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let cure = match text.parse::<IpNet>() {
            Ok(net) => format!("write `{}`: a workload has addresses, not prefixes", net.addr()),
            Err(_) => "write an IPv4 or IPv6 address such as 10.0.0.10 or fd00::10; names are not looked up".to_owned(),
        };
        return Err((format!("`{}` is no address", shorten(text)), cure));
    };
    if let IpAddr::V6(v6) = address
        && let Some(plain) = v6.to_ipv4_mapped()
    {
        return Err((format!("`{text}` is an IPv4 address in IPv6's clothes"), format!("write `{plain}`")));
    }
    let why = if address.is_unspecified() {
        "stands for no address"
    } else if address.is_multicast() {
        "is a multicast address, which many share"
    } else if address.is_loopback() {
        "is a loopback address, which everyone has"
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        "is the broadcast address"
    } else {
        return Ok(address);
    };
    Err((format!("`{text}` {why}"), "write an address that this workload alone has".to_owned()))
}
