//! The decision on trial: what the packet path would say of a flow that nobody sent, by its own code over tables in memory.
//!
//! Nothing here knows what a rule means. A flow's first packet is made, byte by byte, and is judged as the hooks judge it: at the
//! sender's, and then at the receiver's. Whoever wants to know why asks again with another policy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Direction, Place, RULE_NONE, Reason, Settings, Verdict};
use bulkhead_ebpf::judge::{Judgement, Local, Seen, judge, undecidable};
use bulkhead_ebpf::packet::build::{Ip, Transport, icmp, icmpv6, other, sctp, tcp, udp};
use bulkhead_ebpf::packet::tcp::SYN;
use bulkhead_ebpf::packet::{self, Network};
use bulkhead_ebpf::tables::Tables;

use crate::config::failsafe::FailsafePort;
use crate::desired::memory::MemoryTables;
use crate::desired::{Desired, Inputs, Nothing, Numbers, State, desired};
use crate::kernel::tables::failsafe_words;
use crate::policy::compile::{RulePlace, TooLarge};
use crate::policy::model::PolicySet;
use crate::snapshot::Population;
use crate::workload::{CgroupRef, Workload};

/// Any number: no time passes.
const HZ: u32 = 100;
const NOW: u64 = 1_000_000;
/// One flow at a time.
const ROOM_FOR_FLOWS: usize = 8;
/// Of what opens a flow, a port of the range that Linux takes for it (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: u16 = 40_000;
/// Cgroups that are made up for workloads without a place have IDs from here on down; the kernel counts up from 1.
const IMAGINED: u64 = u64::MAX;

/// What a flow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port, or ICMP type (high byte) and code; 0 for other protocols.
    pub detail: u16,
}

/// One end of a flow on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A workload, by its name.
    Workload(Arc<str>),
    /// A process of the host that is no workload.
    Host,
    /// A process in a cgroup below a managed scope that no source has named; whether the scope denies it.
    Unidentified(bool),
    /// Whoever has the address, judged nowhere here.
    Elsewhere,
}

/// One end of a flow on trial, with the address that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Who it is.
    pub who: Who,
    /// Its address.
    pub address: IpAddr,
}

/// What one side said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whose rules: `Egress` of the sender, `Ingress` of the receiver.
    pub direction: Direction,
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The number of the rule or deny entry behind it, or [`RULE_NONE`].
    rule: u32,
}

/// A policy over who is there.
#[derive(Debug)]
pub struct Trial {
    tables: MemoryTables,
    /// Who is there, as the agent would have them.
    pub state: State,
    rules: HashMap<u32, RulePlace>,
}

impl Trial {
    /// The tables that an agent would have.
    ///
    /// # Errors
    /// The policy does not fit into them.
    pub fn new(policy: &Arc<PolicySet>, population: &Population, failsafe: &[FailsafePort]) -> Result<Self, TooLarge> {
        let mut numbers = Numbers::default();
        let inputs = Inputs {
            policy,
            policy_is_new: true,
            workloads: &population.workloads,
            host_addresses: &population.host_addresses,
            scopes: &population.scopes,
            cluster: &population.cluster,
        };
        let Desired { contents, state } = desired(inputs, &mut numbers, &Nothing)?;
        let mut tables = MemoryTables::new(contents, Settings::defaults(HZ), ROOM_FOR_FLOWS, NOW);
        tables.set_failsafe(failsafe_words(failsafe));
        let rules = numbers.rules.iter().map(|(place, number)| (number, place.clone())).collect();
        Ok(Self { tables, state, rules })
    }

    /// What each side says of a flow's first packet: the sender's, where it is judged here, and the receiver's, likewise. The
    /// receiver is asked even where the sender's side denies.
    pub fn judge(&mut self, from: &End, to: &End, service: Service) -> Vec<Said> {
        self.tables.forget();
        let bytes = first_packet(from.address, to.address, service);
        let is_loopback =
            self.is_in_hosts_namespace(&from.who, from.address) && self.is_in_hosts_namespace(&to.who, to.address);
        let sides = [(&from.who, Direction::Egress), (&to.who, Direction::Ingress)];
        let judged = sides.into_iter().filter_map(|(who, direction)| {
            if is_loopback && *who != Who::Elsewhere {
                return Some(Judgement::loopback(direction)).map(|it| (it, direction));
            }
            Some((self.side(who, &bytes, direction)?, direction))
        });
        judged
            .map(|(judgement, direction)| Said {
                direction,
                verdict: judgement.verdict,
                reason: judgement.reason,
                rule: judgement.rule,
            })
            .collect()
    }

    /// The rule or deny entry behind what a side said.
    #[must_use]
    pub fn rule(&self, said: &Said) -> Option<&RulePlace> {
        if said.rule == RULE_NONE { None } else { self.rules.get(&said.rule) }
    }

    /// As `bpf/cgroup_skb.rs`, and for who has no cgroup here as `bpf/tc.rs`.
    fn side(&self, who: &Who, bytes: &[u8], direction: Direction) -> Option<Judgement> {
        let generation = self.tables.generation();
        let local = match who {
            Who::Elsewhere => return None,
            Who::Host => Local::host(generation, Seen::Cgroup(0)),
            Who::Unidentified(denies) => {
                let denies = if *denies { Place::SCOPE_DENIES } else { 0 };
                Local { flags: Place::SCOPE | denies, ..Local::host(generation, Seen::Cgroup(0)) }
            }
            Who::Workload(name) => {
                let (workload, _) = self.state.workloads.get(name)?;
                match (&workload.cgroup, &workload.interface) {
                    (Some(cgroup), _) => {
                        let place = self.tables.cgroup_owner(&[cgroup.id])?;
                        Local::at(generation, place, Seen::Cgroup(cgroup.id))
                    }
                    (None, Some(interface)) => {
                        let place = self.tables.link_owner(interface.index)?;
                        Local::at(generation, place, Seen::Interface(interface.index))
                    }
                    (None, None) => return None,
                }
            }
        };
        let network = if bytes.first().is_some_and(|byte| byte >> 4 == 6) { Network::Ip6 } else { Network::Ip4 };
        Some(match packet::parse(bytes, 0, network) {
            Ok(packet) => judge(&self.tables, bytes, packet, &local, direction),
            Err(reason) => undecidable(&self.tables, &local, direction, reason),
        })
    }

    /// Between two processes there, packets never leave loopback.
    fn is_in_hosts_namespace(&self, who: &Who, address: IpAddr) -> bool {
        let is_hosts = self.tables.party(&address.into()).flags & bulkhead_ebpf::abi::Party::HOST != 0;
        match who {
            Who::Host | Who::Unidentified(_) => is_hosts,
            Who::Workload(name) => {
                is_hosts && self.state.workloads.get(name).is_some_and(|(workload, _)| workload.interface.is_none())
            }
            Who::Elsewhere => false,
        }
    }
}

/// Gives a workload a place on this host, where it has none: what its own host would say is asked here.
pub fn place(workload: &mut Workload, number: u64) {
    workload.local = true;
    if workload.cgroup.is_none() && workload.interface.is_none() {
        workload.cgroup = Some(CgroupRef { path: format!("imagined/{number}"), id: IMAGINED - number });
    }
}

/// The strictest of what was said: a flow needs every side.
#[must_use]
pub fn verdict(said: &[Said]) -> Verdict {
    let has = |verdict| said.iter().any(|said| said.verdict == verdict);
    if has(Verdict::Deny) {
        Verdict::Deny
    } else if has(Verdict::Audit) {
        Verdict::Audit
    } else {
        Verdict::Allow
    }
}

fn first_packet(from: IpAddr, to: IpAddr, service: Service) -> Vec<u8> {
    let [kind, code] = service.detail.to_be_bytes();
    let transport: Transport = match service.protocol {
        6 => tcp(EPHEMERAL, service.detail, SYN),
        17 => udp(EPHEMERAL, service.detail),
        132 => sctp(EPHEMERAL, service.detail),
        1 => icmp(kind, code, [0, 1, 0, 1], &[]),
        58 => icmpv6(kind, code, [0, 1, 0, 1], &[]),
        number => other(number, &[0; 8]),
    };
    Ip::between(from, to, transport).bytes()
}
