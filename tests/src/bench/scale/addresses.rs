//! Many addresses in the kernel's table, by the agent's own registry, computation and writing, within this process.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bulkhead::desired::{Desired, Inputs, Numbers, desired};
use bulkhead::kernel::load::load;
use bulkhead::kernel::pin::Pins;
use bulkhead::kernel::tables::{Applied, Tables};
use bulkhead::policy::load::load as load_policy;
use bulkhead::policy::model::{Origin, PolicySet};
use bulkhead::source::{Change, LinkFact};
use bulkhead::workload::registry::Registry;
use bulkhead::workload::{DeclaredWorkload, Labels};
use bulkhead_ebpf::abi::{ADDRESSES, Settings};

use crate::bench::agent::status;
use crate::bench::{Figure, median, quantile};
use crate::document;
use crate::lab::Lab;

/// A million, or what the table holds with some room for others.
const COUNT: u32 = if ADDRESSES - ROOM < 1_000_000 { ADDRESSES - ROOM } else { 1_000_000 };
const ROOM: u32 = 1_024;
/// Remote workloads that share them.
const WORKLOADS: u32 = 1_000;
/// Changes of a single workload; each is one that comes and one that goes.
const CHANGES: u32 = 1_000;
/// Flows of the table, which nobody uses here.
const FLOWS: u32 = 1_024;

/// At most so many seconds, MiB and milliseconds.
const LOAD: f64 = 3.0;
const MEMORY: f64 = 200.0;
const CHANGE: f64 = 1.0;
const CHANGE_LATE: f64 = 5.0;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let lab = Lab::try_new()?;
    lab.policy("web.yaml", &document::group("web", 100, "web", &["ingress: [{from: [{group: db}]}]"]));
    lab.policy("db.yaml", &document::group("db", 200, "db", &["ingress: [{from: [{group: web}]}]"]));
    let policy = load_policy(&[lab.site().policies()]).map_err(|problems| anyhow!("{problems:?}"))?;
    let pins = Pins::prepare(&lab.site().bpffs())?;
    let _programs = load(&pins, FLOWS, false)?;
    let mut tables = Tables::open(&pins, Settings::defaults(1_000), &[])?;

    // What the process needed at its highest so far is forgotten (proc_pid_clear_refs(5)).
    fs::write("/proc/self/clear_refs", "5").context("cannot write /proc/self/clear_refs")?;
    let policy = Arc::new(PolicySet { workloads: remote_workloads(), ..policy });
    let mut registry = Registry::new(Vec::new());
    registry.declare(&policy);
    // One local workload that stays: the rows that later ones need are there.
    registry.take(Change::LinkResync(vec![link(1)]));
    let mut numbers = Numbers::default();
    let began = Instant::now();
    let view = registry.view();
    let inputs = Inputs {
        policy: &policy,
        policy_is_new: true,
        workloads: &view.workloads,
        host_addresses: &view.host_addresses,
        scopes: &view.scopes,
        cluster: registry.cluster(),
    };
    let Desired { contents, mut state } = desired(inputs, &mut numbers, &tables)?;
    drop(view);
    let computed = began.elapsed();
    ensure!(contents.addresses.len() as u32 > COUNT, "some addresses are missing");
    tables.apply(&contents)?;
    let loaded = began.elapsed();
    drop(contents);
    let peak = status("/proc/self/status", "VmHWM:")?;

    let mut changes = Vec::new();
    for number in 0..CHANGES {
        for change in [Change::LinkChanged(link(2 + number)), Change::LinkGone(2 + number)] {
            let began = Instant::now();
            let touched = registry.take(change);
            let patch = state.patch(&touched, &registry, &mut numbers, &tables);
            let patch = patch.map_err(|_| anyhow!("a single workload's change is not seen as one"))?;
            let applied = tables.patch(&patch)?;
            changes.push(began.elapsed().as_secs_f64() * 1e3);
            ensure!(applied == Applied::Workloads, "a change that changes nothing");
        }
    }
    let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
    let name = |what: &str| format!("{what}, {COUNT} addresses");
    Ok(vec![
        Figure::told(name("computing all tables"), round(computed.as_secs_f64()), "s"),
        Figure::told(name("writing them"), round((loaded - computed).as_secs_f64()), "s"),
        Figure::at_most(name("loading"), round(loaded.as_secs_f64()), "s", LOAD),
        Figure::at_most(name("highest resident memory while loading"), peak.round(), "MiB", MEMORY),
        Figure::at_most(name("one workload's change, median"), round(median(changes.clone())), "ms", CHANGE),
        Figure::at_most(
            name("one workload's change, 99th percentile"),
            round(quantile(changes, 0.99)),
            "ms",
            CHANGE_LATE,
        ),
    ])
}

fn remote_workloads() -> Vec<DeclaredWorkload> {
    let file = Arc::new(PathBuf::from("remote.yaml"));
    let share = COUNT.div_ceil(WORKLOADS);
    let workload = |number: u32| DeclaredWorkload {
        name: format!("remote-{number:04}"),
        labels: Labels::from([("app".to_owned(), if number.is_multiple_of(2) { "web" } else { "db" }.to_owned())]),
        cgroup: None,
        interface: None,
        addresses: (number * share..((number + 1) * share).min(COUNT)).map(address).collect(),
        origin: Origin { file: file.clone(), line: 1, column: 1 },
    };
    (0..WORKLOADS).map(workload).collect()
}

/// An address of a remote workload.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number).into()
}

/// A link that is a local workload, by its alias.
fn link(index: u32) -> LinkFact {
    LinkFact {
        index,
        name: format!("veth-{index}"),
        alias: Some("app=web".to_owned()),
        host_addresses: Vec::new(),
        peer_addresses: vec![Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 0).to_bits() + index).into()],
    }
}
