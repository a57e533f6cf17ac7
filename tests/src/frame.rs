//! Frames that a packet socket puts on a workload's link.

use std::net::{IpAddr, SocketAddr};

/// Whoever is at the workload's end of a link; nobody looks at the sender's link address.
const SENDER: [u8; 6] = [2, 0, 0, 0, 1, 0];

/// A UDP datagram in an Ethernet frame to the link address `to_mac`.
///
/// # Panics
/// The addresses are not of one version of IP.
#[must_use]
pub fn udp(to_mac: [u8; 6], from: SocketAddr, to: SocketAddr, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + content.len()).expect("a short datagram");
    let mut datagram = [from.port().to_be_bytes(), to.port().to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    datagram.extend(content);
    packet(to_mac, from.ip(), to.ip(), (17, 6), datagram)
}

/// A TCP segment that opens a connection, in an Ethernet frame to the link address `to_mac`.
///
/// # Panics
/// The addresses are not of one version of IP.
#[must_use]
pub fn syn(to_mac: [u8; 6], from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    // RFC 9293 section 3.1: no acknowledgement, five words of header, SYN, a window; checksum and urgent pointer are 0.
    let rest = [0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    packet(to_mac, from.ip(), to.ip(), (6, 16), [&ports as &[u8], &sequence.to_be_bytes(), &rest].concat())
}

/// A packet with a segment of some protocol, whose checksum is at an offset and still 0.
fn packet(to_mac: [u8; 6], from: IpAddr, to: IpAddr, (protocol, at): (u8, usize), mut segment: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(segment.len()).expect("a short segment");
    let ((ether_type, mut header), addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ((0x0800u16, header4(20 + length, protocol)), [from.octets(), to.octets()].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ((0x86dd, header6(length, protocol)), [from.octets(), to.octets()].concat())
        }
        (from, to) => panic!("{from} and {to} are not of one version of IP"),
    };
    header.extend(&addresses);
    if ether_type == 0x0800 {
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
    }
    // RFC 768, RFC 9293 section 3.1 and RFC 8200 section 8.1: the checksum covers the addresses, the protocol and the length.
    let sum = checksum(&[addresses.as_slice(), &[0, protocol], &length.to_be_bytes(), &segment].concat());
    segment[at..at + 2].copy_from_slice(&sum);
    [&to_mac as &[u8], &SENDER, &ether_type.to_be_bytes(), &header, &segment].concat()
}

/// An IPv4 header up to its addresses, the checksum still 0.
fn header4(length: u16, protocol: u8) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    vec![0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0]
}

/// An IPv6 header up to its addresses.
fn header6(length: u16, protocol: u8) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    vec![0x60, 0, 0, 0, high, low, protocol, 64]
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).expect("folded");
    (!sum).to_be_bytes()
}
