//! Failsafe ports: the host's own traffic that no policy cuts, so that a mistake in one can be mended from afar.

use std::fmt;
use std::str::FromStr;

use bulkhead_ebpf::abi::{Direction, PortIndex};

/// What is failsafe unless told otherwise: SSH, the Kubernetes API server, the kubelet, etcd, DHCP and DHCPv6 from servers to
/// clients; the same from here to others, but for SSH (ports as IANA has registered them, the kubelet's as in the Kubernetes
/// reference, "Ports and Protocols").
pub const DEFAULT: &str = "in:tcp/22,in:tcp/2379,in:tcp/2380,in:tcp/6443,in:tcp/10250,in:udp/68,in:udp/546,\
                           out:tcp/2379,out:tcp/2380,out:tcp/6443,out:tcp/10250,out:udp/67,out:udp/547";

/// One failsafe port, or the word for none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failsafe {
    /// `none`: nothing is.
    None,
    /// A port.
    Port(FailsafePort),
}

/// A port of this host's or, for `Egress`, of another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailsafePort {
    /// Who opens the flow: others to this host, or this host to others.
    pub direction: Direction,
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// The port that is addressed.
    pub port: u16,
}

impl FailsafePort {
    /// What the packet path knows it by.
    #[must_use]
    pub const fn service(self) -> PortIndex {
        PortIndex::new(self.protocol, self.port)
    }
}

impl FromStr for Failsafe {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write in:tcp/22 for what others open to this host, out:udp/67 for what it opens to others, with \
                            tcp or udp and one port, or `none` alone";
        if text == "none" {
            return Ok(Self::None);
        }
        let (direction, service) = text.split_once(':').ok_or(FORM)?;
        let (protocol, port) = service.split_once('/').ok_or(FORM)?;
        let direction = match direction {
            "in" => Direction::Ingress,
            "out" => Direction::Egress,
            _ => return Err(FORM),
        };
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            _ => return Err(FORM),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(FORM)?;
        Ok(Self::Port(FailsafePort { direction, protocol, port }))
    }
}

impl fmt::Display for FailsafePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.direction == Direction::Ingress { "in" } else { "out" };
        let protocol = if self.protocol == 6 { "tcp" } else { "udp" };
        write!(f, "{direction}:{protocol}/{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failsafe_port_has_a_direction_a_protocol_and_a_port() {
        for text in DEFAULT.split(',') {
            let Ok(Failsafe::Port(port)) = text.parse() else { panic!("{text} is a port") };
            assert_eq!(port.to_string(), text);
        }
        assert_eq!("none".parse(), Ok(Failsafe::None));
        for wrong in
            ["", "22", "in:22", "tcp/22", "both:tcp/22", "in:sctp/22", "in:tcp/0", "in:tcp/65536", "in:tcp/1-9"]
        {
            assert!(wrong.parse::<Failsafe>().is_err_and(|cure| cure.contains("in:tcp/22")), "{wrong}");
        }
    }
}
