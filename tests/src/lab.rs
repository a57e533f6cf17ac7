//! The lab: a host of its own on this machine, with the real agent, real sockets and nothing that another lab could see.
//!
//! ```text
//!   workloads                the lab's host                      beyond
//!   container  eth0 ---- v-NAME   routed   uplink0 ---- uplink0  routed   v-NAME ---- eth0  outsider
//!   device     eth0 ---- v-NAME
//!   process    in the host's namespace
//! ```
//!
//! The host is a network namespace, and so are "beyond" and every workload with a link of its own. Cgroups lie below a root of
//! the lab's own, which is what the agent takes for the root of the tree; pins are in a bpffs of its own. Everything goes when
//! the lab is dropped; what a killed test left is swept away when the next lab begins.

pub mod agent;
pub mod binaries;
pub mod cgroup;
pub mod namespace;
pub mod probe;
pub mod protocol;
mod site;
mod sweep;
pub mod workload;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context, Result};

pub use agent::Agent;
pub use probe::{Kept, Probe};
pub use protocol::{Outcome, Transport};
pub use site::Site;
pub use sweep::sweep;
pub use workload::{Version, Workload};

use namespace::Namespace;
use workload::{Attachment, Place};

/// The interface that the agent is told is its uplink.
pub const UPLINK: &str = "uplink0";

/// Addresses of the host and of the router beyond the uplink, on their loopback links.
const HOST: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 77, 255, 1), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0xffff, 1));
const BEYOND: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 77, 255, 2), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0xffff, 2));

/// A host with its surroundings.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the site goes last, when nobody uses it.
    beyond: Namespace,
    next: u8,
    site: Arc<Site>,
}

impl Lab {
    /// A host with an uplink, without workloads.
    ///
    /// # Panics
    /// Not root, no cgroup2, no iproute2, or the system refuses.
    #[must_use]
    pub fn new() -> Self {
        Self::try_new().expect("the lab cannot be set up; kernel tests need root, cgroup2 and iproute2")
    }

    /// As [`Self::new`], for whom a failure is no fault.
    ///
    /// # Errors
    /// As above.
    pub fn try_new() -> Result<Self> {
        sweep::once();
        let site = Site::new()?;
        let beyond = Namespace::new()?;
        let peer = beyond.path();
        site.host.ip(&format!(
            "link add {UPLINK} address 02:00:00:ff:00:01 type veth peer name {UPLINK} address 02:00:00:ff:00:02 netns {}\n\
             link set {UPLINK} up\n\
             address add {}/32 dev lo\n\
             address add {}/128 dev lo nodad\n\
             address add 192.0.2.1/24 dev {UPLINK}\n\
             address add 2001:db8::1/64 dev {UPLINK} nodad\n",
            peer.display(),
            HOST.0,
            HOST.1
        ))?;
        beyond.ip(&format!(
            "link set {UPLINK} up\n\
             address add {}/32 dev lo\n\
             address add {}/128 dev lo nodad\n\
             address add 192.0.2.254/24 dev {UPLINK}\n\
             address add 2001:db8::fe/64 dev {UPLINK} nodad\n\
             route add default via 192.0.2.1\n\
             route add default via 2001:db8::1\n",
            BEYOND.0, BEYOND.1
        ))?;
        site.host.await_link(UPLINK)?;
        beyond.await_link(UPLINK)?;
        site.host.ip("route add default via 192.0.2.254\nroute add default via 2001:db8::fe\n")?;
        Ok(Self { beyond, next: 1, site: Arc::new(site) })
    }

    /// The namespace of the router beyond the uplink.
    #[must_use]
    pub const fn beyond(&self) -> &Namespace {
        &self.beyond
    }

    /// Where the lab is: its directories, its namespace.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// As [`Self::site`], to be held beside the lab.
    #[must_use]
    pub fn shared_site(&self) -> Arc<Site> {
        self.site.clone()
    }

    /// A workload as a container is one: a network namespace of its own with a link to the host, and a cgroup below the
    /// lab's root. `labels` are written `key=value,key=value`. The agent knows nothing of it until it is declared.
    pub fn container(&mut self, name: &str, labels: &str) -> Workload {
        self.linked(name, labels, Place { cgroup: Some(format!("shop/{name}")), is_beyond: false })
    }

    /// As [`Self::container`], in a cgroup of this path below the lab's root.
    pub fn container_in(&mut self, cgroup: &str, name: &str, labels: &str) -> Workload {
        self.linked(name, labels, Place { cgroup: Some(cgroup.to_owned()), is_beyond: false })
    }

    /// A workload as a virtual machine or a device is one: only its link is known here. Its process runs in a cgroup outside
    /// of the lab's tree.
    pub fn device(&mut self, name: &str, labels: &str) -> Workload {
        self.linked(name, labels, Place { cgroup: None, is_beyond: false })
    }

    /// Somebody beyond the uplink: a remote workload when it is declared, the world otherwise.
    pub fn outsider(&mut self, name: &str, labels: &str) -> Workload {
        self.linked(name, labels, Place { cgroup: None, is_beyond: true })
    }

    /// A workload that is a process of the host: in the host's network namespace, in a cgroup of its own.
    pub fn process(&mut self, name: &str, labels: &str) -> Workload {
        self.process_in(&format!("shop/{name}"), name, labels)
    }

    /// As [`Self::process`], in a cgroup of this path below the lab's root.
    pub fn process_in(&mut self, cgroup: &str, name: &str, labels: &str) -> Workload {
        let start = || -> Result<Workload> {
            let directory = self.site.cgroup_root.join(cgroup);
            cgroup::make(&directory)?;
            let probe = Probe::start(&self.site.host, Some(&directory))?;
            Ok(Workload {
                name: name.to_owned(),
                labels: labels.to_owned(),
                cgroup: Some(cgroup.to_owned()),
                link: None,
                addresses: (HOST.0, HOST.1),
                probe,
            })
        };
        start().expect("the lab can start a process")
    }

    /// A process of the host that is no workload: outside of the lab's cgroup tree.
    ///
    /// # Panics
    /// The system refuses.
    #[must_use]
    pub fn host(&self) -> Probe {
        Probe::start(&self.site.host, None).expect("the lab can start a process")
    }

    /// The host's own addresses, at which its processes listen.
    #[must_use]
    pub const fn host_address(&self, version: Version) -> IpAddr {
        match version {
            Version::V4 => IpAddr::V4(HOST.0),
            Version::V6 => IpAddr::V6(HOST.1),
        }
    }

    /// The addresses of the router beyond the uplink.
    #[must_use]
    pub const fn beyond_address(&self, version: Version) -> IpAddr {
        match version {
            Version::V4 => IpAddr::V4(BEYOND.0),
            Version::V6 => IpAddr::V6(BEYOND.1),
        }
    }

    /// Writes a policy file, as an editor does that replaces it in one step.
    ///
    /// # Panics
    /// The system refuses.
    pub fn policy(&self, file: &str, text: &str) {
        self.site.write_policy(file, text).expect("the lab's directory can be written");
    }

    /// Tells the agent of a workload, or of its new labels, by a `Workload` document.
    pub fn declare(&self, workload: &Workload) {
        self.policy(&workload.file(), &workload.document());
    }

    /// Takes the `Workload` document away.
    ///
    /// # Panics
    /// There is none.
    pub fn forget(&self, workload: &Workload) {
        std::fs::remove_file(self.site.policies().join(workload.file())).expect("the workload was declared");
    }

    /// Starts the agent and waits until it enforces.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.agent_with(&[])
    }

    /// As [`Self::agent`], with further arguments.
    #[must_use]
    pub fn agent_with(&self, arguments: &[&str]) -> Agent {
        self.agent_by(agent::command(&self.site, arguments))
    }

    /// As [`Self::agent`], the agent of another layout.
    #[must_use]
    pub fn successor(&self) -> Agent {
        self.agent_by(agent::command_of(binaries::successor(), &self.site, &[]))
    }

    /// As [`Self::agent`], by a command that began as [`agent::command`].
    #[must_use]
    pub fn agent_by(&self, command: std::process::Command) -> Agent {
        Agent::start(self.site.clone(), command)
    }

    fn linked(&mut self, name: &str, labels: &str, place: Place) -> Workload {
        let number = self.next;
        self.next = number.checked_add(1).expect("a lab holds 250 links");
        let (router, gateway) = if place.is_beyond { (&self.beyond, BEYOND.0) } else { (&self.site.host, HOST.0) };
        let attachment = Attachment { router, gateway, number, place };
        Workload::attach(&self.site, name, labels, &attachment)
            .with_context(|| format!("attaching {name}"))
            .expect("the lab can attach a workload")
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
