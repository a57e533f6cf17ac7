//! A workload of the lab: its place, its addresses, and the process inside.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::process::Command;

use anyhow::Result;

use super::cgroup;
use super::namespace::Namespace;
use super::probe::{Probe, join_cgroup};
use super::protocol::Transport;
use super::site::Site;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// A workload, which can be asked what its [`Probe`] can be asked.
#[derive(Debug)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its labels, as `key=value,key=value`.
    pub labels: String,
    /// Its cgroup below the lab's root.
    pub cgroup: Option<String>,
    pub(super) link: Option<Link>,
    pub(super) addresses: (Ipv4Addr, Ipv6Addr),
    pub(super) probe: Probe,
}

/// The link of a workload.
#[derive(Debug)]
pub(super) struct Link {
    /// The name of the other end: the host's, or the router's beyond.
    name: String,
    mac: [u8; 6],
    is_beyond: bool,
    /// Held so that it lives, with the workload's end of the link, as long as the workload.
    namespace: Namespace,
}

/// What kind of place a workload with a link gets.
pub(super) struct Place {
    pub cgroup: Option<String>,
    pub is_beyond: bool,
}

/// Where a link goes.
pub(super) struct Attachment<'a> {
    pub router: &'a Namespace,
    pub gateway: Ipv4Addr,
    pub number: u8,
    pub place: Place,
}

impl Workload {
    pub(super) fn attach(site: &Site, name: &str, labels: &str, attachment: &Attachment<'_>) -> Result<Self> {
        let Attachment { router, gateway, number, place } = attachment;
        let namespace = Namespace::new()?;
        let link = format!("v-{name}");
        let (v4, v6) = if place.is_beyond {
            (Ipv4Addr::new(198, 51, 100, *number), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, (*number).into()))
        } else {
            (Ipv4Addr::new(10, 77, 0, *number), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, (*number).into()))
        };
        let mac = [2, 0, 0, 0, 0, *number];
        router.ip(&format!(
            "link add {link} address 02:00:00:00:00:{number:02x} type veth peer name eth0 address 02:00:00:00:01:{number:02x} \
             netns {}\n\
             link set {link} up\n\
             address add fe80::1/64 dev {link} nodad\n\
             route add {v4}/32 dev {link}\n\
             route add {v6}/128 dev {link}\n",
            namespace.path().display()
        ))?;
        namespace.ip(&format!(
            "link set eth0 up\n\
             address add {v4}/32 dev eth0\n\
             address add {v6}/128 dev eth0 nodad\n\
             route add default via {gateway} dev eth0 onlink\n\
             route add default via fe80::1 dev eth0\n"
        ))?;
        router.await_link(&link)?;
        namespace.await_link("eth0")?;
        let directory = place.cgroup.as_ref().map(|path| site.cgroup_root.join(path));
        if let Some(directory) = &directory {
            cgroup::make(directory)?;
        }
        let probe = Probe::start(&namespace, directory.as_deref())?;
        Ok(Self {
            name: name.to_owned(),
            labels: labels.to_owned(),
            cgroup: place.cgroup.clone(),
            link: Some(Link { name: link, mac, is_beyond: place.is_beyond, namespace }),
            addresses: (v4, v6),
            probe,
        })
    }

    /// Where it can be reached.
    #[must_use]
    pub fn address(&self, version: Version) -> IpAddr {
        match version {
            Version::V4 => self.addresses.0.into(),
            Version::V6 => self.addresses.1.into(),
        }
    }

    /// Where it can be reached, at a port.
    #[must_use]
    pub fn at(&self, version: Version, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(version), port)
    }

    /// The host's end of its link.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.link.as_ref().filter(|link| !link.is_beyond).map(|link| link.name.as_str())
    }

    /// Has `command` start as a process of the workload: in its network namespace and in its cgroup.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn place(&self, site: &Site, command: &mut Command) -> Result<()> {
        self.link.as_ref().map_or(&site.host, |link| &link.namespace).place(command);
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| join_cgroup(command, &site.cgroup_root.join(cgroup)))
    }

    /// The link address of the host's end of its link, to which frames for others go.
    ///
    /// # Panics
    /// It has no link.
    #[must_use]
    pub fn gateway_mac(&self) -> [u8; 6] {
        self.link.as_ref().expect("a workload with a link").mac
    }

    /// Runs commands of `ip`, one a line, where its end of the link is, and returns what they print.
    ///
    /// # Panics
    /// It has no link, or `ip` refuses.
    pub fn ip(&self, batch: &str) -> String {
        let link = self.link.as_ref().expect("a workload with a link");
        link.namespace.ask_ip(batch).expect("the lab's `ip` commands hold")
    }

    /// Listens by TCP and UDP, IPv4 and IPv6, on these ports of its addresses.
    pub fn serve(&self, ports: &[u16]) {
        for port in ports {
            for version in Version::BOTH {
                self.probe.listen(Transport::Tcp, self.at(version, *port));
                self.probe.listen(Transport::Udp, self.at(version, *port));
            }
        }
    }

    /// Its `Workload` document. A process of the host has no address of its own; somebody beyond has nothing else.
    #[must_use]
    pub fn document(&self) -> String {
        let labels = self.labels.replace('=', ": ").replace(',', ", ");
        let mut spec = String::new();
        let mut line = |key: &str, value: &str| {
            writeln!(spec, "  {key}: {value}").expect("a string takes everything");
        };
        if let Some(cgroup) = &self.cgroup {
            line("cgroup", cgroup);
        }
        if let Some(interface) = self.interface() {
            line("interface", interface);
        }
        if self.link.is_some() {
            line("addresses", &format!("[{}, \"{}\"]", self.addresses.0, self.addresses.1));
        }
        format!(
            "apiVersion: bulkhead.dev/v1alpha1\n\
             kind: Workload\n\
             metadata: {{name: {}, labels: {{{labels}}}}}\n\
             spec:\n{spec}",
            self.name
        )
    }

    /// The file of its document.
    #[must_use]
    pub fn file(&self) -> String {
        format!("workload-{}.yaml", self.name)
    }
}

impl Deref for Workload {
    type Target = Probe;

    fn deref(&self) -> &Probe {
        &self.probe
    }
}
