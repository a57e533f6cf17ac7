//! The policy after validation: every name resolved, every number in range. Later stages have nothing to re-check.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_ebpf::abi::Direction;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::workload::port::PortName;
use crate::workload::{DeclaredWorkload, Selector};

/// Everything that one set of policy files says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySet {
    /// Security groups, by name.
    pub groups: Vec<SecurityGroup>,
    /// Guardrails, by name.
    pub guardrails: Vec<Guardrail>,
    /// Statically declared workloads, by name.
    pub workloads: Vec<DeclaredWorkload>,
    /// Names of ports that rules use: the policy depends on the numbers that these have.
    pub port_names: BTreeSet<PortName>,
    /// Those of them that have more numbers than are used: what is left over is allowed nothing.
    pub crowded_names: BTreeSet<PortName>,
}

/// The number by which hosts know a security group: the same on every host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A security group: who is in it, and what its members may receive and send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its name, unique in the set.
    pub name: String,
    /// Its ID, unique in the set; derived from the name where the document gives none.
    pub id: GroupId,
    /// For people.
    pub description: Option<String>,
    /// Which workloads are members.
    pub selector: Selector,
    /// Rules for what members receive; `None` where the group does not mention ingress, as only what stands for a NetworkPolicy
    /// or one of its peers can.
    pub ingress: Option<Vec<Rule>>,
    /// Rules for what members send; `None` where the group does not mention egress, which then stays open.
    pub egress: Option<Vec<Rule>>,
    /// Whether denials are enforced.
    pub mode: Mode,
    /// What a change of policy does to flows that this group's rules allowed.
    pub established: Established,
    /// Where the document stands.
    pub origin: Origin,
}

impl SecurityGroup {
    /// The rules of one direction, with their index.
    pub fn rules(&self, direction: Direction) -> impl Iterator<Item = (usize, &Rule)> {
        let rules = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        rules.iter().flatten().enumerate()
    }

    /// The rules of both directions.
    pub fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.ingress.iter().chain(&self.egress).flatten()
    }

    /// Whether it says anything of what its members receive or send: a group that does not only names them for others' rules.
    #[must_use]
    pub const fn governs(&self) -> bool {
        self.ingress.is_some() || self.egress.is_some()
    }
}

/// One allow entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// For people; shown with every verdict that the rule decides.
    pub description: Option<String>,
    /// The other side; at least one.
    pub peers: Vec<Peer>,
    /// Protocols and ports; `None` is every protocol and port.
    pub ports: Option<Vec<PortMatch>>,
    /// What it allows besides, at ports that it names.
    pub named: Vec<NamedPort>,
    /// Where the rule stands.
    pub origin: Origin,
}

/// One of the numbers that a port which a rule names is known to have, and for whom it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamedPort {
    /// The port.
    pub port: PortMatch,
    /// Whose port has this number.
    pub of: PortOf,
}

/// Whose port a [`NamedPort`] is: always the receiver's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PortOf {
    /// For ingress, subjects that are members of this group besides. The peers are the rule's.
    Subjects(GroupId),
    /// For egress, these peers in place of the rule's.
    Peers(Vec<Peer>),
}

/// A part of what a rule allows: all of these peers, at all of these ports.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The group that a subject must be a member of besides.
    pub subjects: Option<GroupId>,
    /// The other side.
    pub peers: &'a [Peer],
    /// Protocols and ports; `None` is every protocol and port.
    pub ports: Option<&'a [PortMatch]>,
}

impl Rule {
    /// A rule that allows nothing, in place of one that is wrong.
    #[must_use]
    pub const fn nobody(origin: Origin) -> Self {
        Self { description: None, peers: Vec::new(), ports: None, named: Vec::new(), origin }
    }

    /// Everything that it allows.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let own = Part { subjects: None, peers: &self.peers, ports: self.ports.as_deref() };
        let named = self.named.iter().map(|NamedPort { port, of }| {
            let ports = Some(std::slice::from_ref(port));
            match of {
                PortOf::Subjects(group) => Part { subjects: Some(*group), peers: &self.peers, ports },
                PortOf::Peers(peers) => Part { subjects: None, peers, ports },
            }
        });
        [own].into_iter().chain(named).filter(|part| part.ports.is_none_or(|ports| !ports.is_empty()))
    }
}

/// What an administrator denies, whatever groups allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guardrail {
    /// Its name, unique among guardrails.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What is denied; at least one.
    pub entries: Vec<DenyEntry>,
    /// Where the document stands.
    pub origin: Origin,
}

/// One deny entry of a guardrail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyEntry {
    /// For people; shown with every verdict that the entry decides.
    pub description: Option<String>,
    /// Who sends; `None` is anyone, and otherwise there is at least one.
    pub from: Option<Vec<Peer>>,
    /// Who receives; `None` is anyone, and otherwise there is at least one.
    pub to: Option<Vec<Peer>>,
    /// Protocols and ports; `None` is every protocol and port.
    pub ports: Option<Vec<PortMatch>>,
    /// Where the entry stands.
    pub origin: Origin,
}

impl DenyEntry {
    /// An entry that denies nothing, in place of one that is wrong.
    #[must_use]
    pub const fn nobody(origin: Origin) -> Self {
        Self { description: None, from: Some(Vec::new()), to: None, ports: None, origin }
    }
}

/// The other side of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Peer {
    /// Members of a group.
    Group(GroupId),
    /// Addresses, workloads' included.
    Cidr(IpNet),
    /// Every address that is neither a known workload's nor this host's.
    World,
    /// This host itself.
    Host,
    /// Every other node of the cluster.
    RemoteHost,
}

/// One entry of a rule's `ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortMatch {
    /// TCP (6), UDP (17) or SCTP (132) destination ports, both ends included.
    Ports {
        /// IP protocol number.
        protocol: u8,
        /// First port.
        first: u16,
        /// Last port, at least `first`.
        last: u16,
    },
    /// ICMP (1) or ICMPv6 (58).
    Icmp {
        /// IP protocol number.
        protocol: u8,
        /// Type; `None` for all, and then there is no code.
        kind: Option<u8>,
        /// Code; `None` for all.
        code: Option<u8>,
    },
    /// Any other protocol, by number.
    Protocol(u8),
}

/// Whether a group's denials hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Denials drop.
    #[default]
    Enforce,
    /// Denials pass, are counted and logged.
    Audit,
}

/// What a change of policy does to tracked flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Established {
    /// They are judged again at their next packet.
    #[default]
    Revoke,
    /// They live on (AWS's behaviour).
    Keep,
}

/// Begins the path of what is no file, but an object of the Kubernetes API.
pub const KUBERNETES: &str = "kubernetes:";

/// A place in a policy file, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The file.
    pub file: Arc<PathBuf>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nobody has an object of the API before them as lines.
        if self.file.as_os_str().as_encoded_bytes().starts_with(KUBERNETES.as_bytes()) {
            return write!(f, "{}", self.file.display());
        }
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
