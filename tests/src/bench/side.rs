//! Labs side by side, alike but for what enforces in them.
//!
//! Each way of enforcement has a lab of its own, with the same two workloads, and all stand from the first round to the last:
//! nothing is attached or detached between rounds, and nobody measures a flow table that was just made. Those that are not
//! measured idle. What they share is the machine: the kernel has switches that turn for all as soon as one uses them (those of
//! cgroup programs, of tcx, of netfilter), so that "none" pays for a branch or two as a host does that uses them elsewhere.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::maps::PerCpuArray;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, LinkOrder, ProgramError, SchedClassifier,
    TcAttachType, Xdp, XdpMode,
};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::harness::BASELINE;
use super::load::{self, LAST, Server};
use super::nftables;
use crate::lab::{Agent, Lab, Transport, UPLINK, Version, Workload};

/// Clients that the policy allows; only the first exists, the rest are addresses that have to be told apart.
const CLIENTS: u8 = 100;
/// A port of the server that no policy allows.
pub const DENIED: u16 = 9_999;

/// A way of enforcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    None,
    /// Nothing, once more: the difference to [`Self::None`] is noise.
    Control,
    /// The agent.
    Bulkhead,
    /// The agent, once more: the difference to [`Self::Bulkhead`] is noise.
    BulkheadAgain,
    /// The agent, with a flow log.
    Logging,
    /// Programs that do nothing, at every hook at which the agent's programs meet these packets.
    Empty,
    /// nftables, stateful, in the forward hook.
    Nftables,
    /// nftables, stateless, in the prerouting hook before connections are tracked: as early as it can.
    NftablesEarly,
    /// An XDP program that drops and counts whatever comes by the uplink: the limit of what any XDP program can reach there.
    Dropping,
}

impl Way {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Control => "none again",
            Self::Bulkhead => "Bulkhead",
            Self::BulkheadAgain => "Bulkhead again",
            Self::Logging => "with a flow log",
            Self::Empty => "empty programs",
            Self::Nftables => "nftables",
            Self::NftablesEarly => "nftables before conntrack",
            Self::Dropping => "XDP that drops everything",
        }
    }

    const fn denies(self) -> bool {
        matches!(self, Self::Bulkhead | Self::BulkheadAgain | Self::Logging | Self::Nftables)
    }
}

/// A lab with one way of enforcement, of which the policy allows `client` to reach `server` at the load's ports.
pub struct Side {
    /// What enforces.
    pub way: Way,
    /// It sends.
    pub client: Workload,
    /// It counts.
    pub server: Workload,
    /// The agent, where it is that.
    pub agent: Option<Agent>,
    programs: Option<Ebpf>,
    _load: Server,
    /// Where they are; dropped last.
    pub lab: Lab,
}

impl Side {
    /// Sets a lab up, and sees that it allows what it must, and denies what it must.
    ///
    /// # Errors
    /// The system refuses something, or the lab does not behave.
    ///
    /// # Panics
    /// As [`Lab`] does.
    pub fn new(way: Way) -> Result<Self> {
        let mut lab = Lab::try_new()?;
        let (client, server) = (lab.container("client", "app=client"), lab.container("server", "app=server"));
        let load = Server::start(&lab, &server)?;
        server.serve(&[DENIED]);
        let (mut agent, mut programs) = (None, None);
        match way {
            Way::None | Way::Control => {}
            Way::Bulkhead | Way::BulkheadAgain => agent = Some(enforce(&lab, &client, &server, &[])),
            Way::Logging => {
                let log = lab.site().directory.join("flows.json").display().to_string();
                agent = Some(enforce(&lab, &client, &server, &["--flow-log", &log]));
            }
            Way::Empty => programs = Some(attach_empty(&lab, &[&client, &server])?),
            Way::Dropping => programs = Some(attach_dropping(&lab)?),
            Way::Nftables => nftables::load(&lab.site().host, &nftables::forward(&elements(&client, &server)))?,
            Way::NftablesEarly => {
                nftables::load(&lab.site().host, &nftables::early(UPLINK, &elements(&client, &server)))?;
            }
        }
        let side = Self { way, client, server, agent, programs, _load: load, lab };
        side.check()?;
        Ok(side)
    }

    /// Packets that were denied so far.
    ///
    /// # Errors
    /// Nothing counts them here.
    pub fn denied(&self) -> Result<f64> {
        if let Some(agent) = &self.agent {
            return Ok(agent.metric("bulkhead_packets_total", &[("verdict", "deny")]));
        }
        if let Some(programs) = &self.programs {
            let dropped: PerCpuArray<_, u64> = programs.map("DROPPED").context("it is in the object")?.try_into()?;
            return Ok(dropped.get(&0, 0)?.iter().sum::<u64>() as f64);
        }
        nftables::denied(&self.lab.site().host)
    }

    /// A bench of what is not enforced, or not reached, measures nothing.
    fn check(&self) -> Result<()> {
        for transport in [Transport::Tcp, Transport::Udp] {
            let denied = self.client.reach(transport, self.server.at(Version::V4, DENIED)).is_denied();
            ensure!(denied == self.way.denies(), "{}: {transport:?} is not judged as it should be", self.way.name());
        }
        let allowed = self.client.tcp(self.server.at(Version::V4, load::ROUND_TRIPS));
        ensure!(!allowed.is_denied(), "{}: what the policy allows does not pass: {allowed:?}", self.way.name());
        Ok(())
    }
}

/// Has the agent enforce the policy.
fn enforce(lab: &Lab, client: &Workload, server: &Workload, more: &[&str]) -> Agent {
    let ports = |protocol: &str| format!("{{protocol: {protocol}, port: {}, endPort: {LAST}}}", load::THROUGHPUT);
    let ports = format!("[{}, {}]", ports("tcp"), ports("udp"));
    lab.policy(
        "policy.yaml",
        &format!(
            "apiVersion: bulkhead.dev/v1alpha1\n\
             kind: SecurityGroup\n\
             metadata: {{name: client}}\n\
             spec:\n  \
               id: 1\n  \
               selector: {{matchLabels: {{app: client}}}}\n  \
               egress: [{{to: [{{group: server}}], ports: {ports}}}]\n\
             ---\n\
             apiVersion: bulkhead.dev/v1alpha1\n\
             kind: SecurityGroup\n\
             metadata: {{name: server}}\n\
             spec:\n  \
               id: 2\n  \
               selector: {{matchLabels: {{app: server}}}}\n  \
               ingress: [{{from: [{{group: client}}], ports: {ports}}}]\n"
        ),
    );
    let remote = |number: u8| {
        format!(
            "apiVersion: bulkhead.dev/v1alpha1\n\
             kind: Workload\n\
             metadata: {{name: client-{number}, labels: {{app: client}}}}\n\
             spec: {{addresses: [{}]}}\n",
            remote_address(number)
        )
    };
    lab.policy("remote.yaml", &(1..CLIENTS).map(remote).collect::<Vec<_>>().join("---\n"));
    lab.declare(client);
    lab.declare(server);
    lab.agent_with(more)
}

/// The same policy as elements of nftables' map.
fn elements(client: &Workload, server: &Workload) -> Vec<String> {
    let to = server.address(Version::V4);
    let clients = std::iter::once(client.address(Version::V4).to_string()).chain((1..CLIENTS).map(remote_address));
    let ports = || (load::THROUGHPUT..=load::COUNT).chain(load::FLOWS..=LAST);
    clients
        .flat_map(|from| ports().map(move |port| (from.clone(), port)))
        .flat_map(|(from, port)| ["tcp", "udp"].map(|protocol| nftables::element(&from, to, protocol, port)))
        .collect()
}

fn remote_address(number: u8) -> String {
    format!("10.78.0.{number}")
}

/// Attaches the programs that do nothing; they go with what is returned.
fn attach_empty(lab: &Lab, workloads: &[&Workload]) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(BASELINE).context("loading the eBPF object")?;
    attach_to_cgroup(&mut ebpf, &lab.site().cgroup_root).context("attaching empty programs to the cgroup")?;
    let links: Vec<&str> = workloads.iter().filter_map(|workload| workload.interface()).collect();
    let sides = [("empty_tc_egress", TcAttachType::Ingress), ("empty_tc_ingress", TcAttachType::Egress)];
    lab.site().host.enter(|| {
        for (name, side) in sides {
            let program: &mut SchedClassifier = ebpf.program_mut(name).context("it is in the object")?.try_into()?;
            program.load()?;
            for link in &links {
                attach_tc(program, link, side).with_context(|| format!("attaching {name} to {link}"))?;
            }
        }
        Ok(())
    })?;
    Ok(ebpf)
}

/// Attaches the program that drops everything to the uplink; it goes with what is returned.
fn attach_dropping(lab: &Lab) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(BASELINE).context("loading the eBPF object")?;
    lab.site().host.enter(|| {
        let program: &mut Xdp = ebpf.program_mut("drop_all").context("it is in the object")?.try_into()?;
        program.load()?;
        program.attach(UPLINK, XdpMode::Driver).map(drop).context("attaching drop_all to the uplink")
    })?;
    Ok(ebpf)
}

fn attach_to_cgroup(ebpf: &mut Ebpf, root: &Path) -> Result<()> {
    let cgroup = File::open(root)?;
    let packets =
        [("empty_cgroup_egress", CgroupSkbAttachType::Egress), ("empty_cgroup_ingress", CgroupSkbAttachType::Ingress)];
    for (name, direction) in packets {
        let program: &mut CgroupSkb = ebpf.program_mut(name).context("it is in the object")?.try_into()?;
        program.load()?;
        program.attach(&cgroup, direction, CgroupAttachMode::Single)?;
    }
    for name in ["empty_connect4", "empty_sendmsg4"] {
        let program: &mut CgroupSockAddr = ebpf.program_mut(name).context("it is in the object")?.try_into()?;
        program.load()?;
        program.attach(&cgroup, CgroupAttachMode::Single)?;
    }
    Ok(())
}

/// By tcx or clsact, as the agent does.
fn attach_tc(program: &mut SchedClassifier, link: &str, side: TcAttachType) -> Result<(), ProgramError> {
    let options = if KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0)) {
        TcAttachOptions::TcxOrder(LinkOrder::default())
    } else {
        // The other direction has added it already, the second time.
        let _ = qdisc_add_clsact(link);
        TcAttachOptions::Netlink(NlOptions::default())
    };
    program.attach_with_options(link, side, options).map(drop)
}
