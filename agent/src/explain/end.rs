//! What somebody calls an end of a flow, and who that is.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::snapshot::{Population, Snapshot};
use crate::trial::{Who, place};
use crate::workload::{Labels, SourceKind, Workload};

/// Stands for the world where somebody asks for it: an address of a network that is nobody's (RFC 5737, RFC 3849).
const SOMEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
/// As many workloads that a label fits are asked about.
pub const MAX_FITTING: usize = 256;

/// An end as somebody asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Who it is.
    pub who: Who,
    /// The workload, where it is one.
    pub workload: Option<Workload>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What is said of it: who it is and how that is known.
    pub text: String,
    /// What was assumed, as nothing is known of it.
    pub assumptions: Vec<String>,
}

/// Everyone that `text` may mean: a workload's name, labels (`app=web,env=prod`), an address, `cgroup:PATH` or a path, `pid:N` or a
/// number, `host` or `world`.
///
/// # Errors
/// It means nobody; the message says what may be asked for.
pub fn resolve(text: &str, snapshot: &Snapshot, population: &Population) -> Result<Vec<Asked>, String> {
    if let Some(workload) = population.workloads.iter().find(|workload| *workload.name == *text) {
        return Ok(vec![known(workload, population, "")]);
    }
    if text == "host" {
        return Ok(vec![host(population)]);
    }
    if text == "world" {
        let text = format!("world: an address that is nobody's, such as {}", SOMEWHERE[0]);
        return Ok(vec![elsewhere(SOMEWHERE.to_vec(), text)]);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(vec![behind(address, population)]);
    }
    if let Some(process) = text.strip_prefix("pid:").or(Some(text)).and_then(|text| text.parse::<u32>().ok()) {
        return Ok(vec![in_cgroup(&cgroup_of(process)?, &format!("process {process}"), snapshot, population)]);
    }
    if let Some(path) = text.strip_prefix("cgroup:").or_else(|| text.contains('/').then_some(text)) {
        let root = snapshot.cgroup_root.as_ref().map(|root| root.display().to_string()).unwrap_or_default();
        let path = path.strip_prefix(&root).filter(|_| !root.is_empty()).unwrap_or(path).trim_matches('/');
        return Ok(vec![in_cgroup(path, "a process there", snapshot, population)]);
    }
    if text.contains('=') {
        return selected(text, population);
    }
    Err(nobody(text, population))
}

fn nobody(text: &str, population: &Population) -> String {
    let near = |workload: &&Workload| strsim::jaro_winkler(&workload.name, text) > 0.8;
    let near: Vec<&str> = population.workloads.iter().filter(near).take(3).map(|workload| &*workload.name).collect();
    let mean = if near.is_empty() { String::new() } else { format!(" (there is {})", near.join(", ")) };
    format!(
        "no workload is called `{text}`{mean}; name one (`bulkhead workloads` lists them), or labels as app=web, an address, \
         cgroup:PATH, pid:NUMBER, host or world"
    )
}

/// Everyone whose labels are these; where nobody is, somebody imagined.
fn selected(text: &str, population: &Population) -> Result<Vec<Asked>, String> {
    let pair = |pair: &str| {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("`{pair}` is no label; write KEY=VALUE,KEY=VALUE"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    let labels: Labels = text.split(',').map(pair).collect::<Result<_, String>>()?;
    let fits = |workload: &&Workload| labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value));
    let fitting: Vec<&Workload> = population.workloads.iter().filter(fits).collect();
    if fitting.len() > MAX_FITTING {
        return Err(format!(
            "{} workloads are labelled {text}, and {MAX_FITTING} can be asked about; add a label, or name one",
            fitting.len()
        ));
    }
    if !fitting.is_empty() {
        return Ok(fitting.into_iter().map(|workload| known(workload, population, "")).collect());
    }
    let workload = Workload {
        name: format!("any {text}").into(),
        source: SourceKind::File,
        labels: Arc::new(labels),
        cgroup: None,
        interface: None,
        addresses: Arc::default(),
        local: true,
    };
    let mut asked = known(&workload, population, "");
    asked
        .assumptions
        .insert(0, format!("no workload is labelled {text}: one is imagined that has these labels and no others"));
    Ok(vec![asked])
}

fn known(workload: &Workload, population: &Population, how: &str) -> Asked {
    let mut assumptions = Vec::new();
    if !workload.local {
        assumptions
            .push(format!("{} is on another host: its side is judged as if that host had this policy", workload.name));
    }
    let uses_hosts = workload.local
        && workload.interface.is_none()
        && !population.host_addresses.is_empty()
        && workload.cgroup.is_some();
    let addresses = if !workload.addresses.is_empty() {
        workload.addresses.to_vec()
    } else if uses_hosts {
        population.host_addresses.iter().copied().filter(|address| !address.is_loopback()).collect()
    } else {
        Vec::new()
    };
    let labels: Vec<String> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "without labels".to_owned() } else { labels.join(", ") };
    let text = format!("{how}{}, {labels}", workload.name);
    Asked { who: Who::Workload(workload.name.clone()), workload: Some(workload.clone()), addresses, text, assumptions }
}

fn elsewhere(addresses: Vec<IpAddr>, text: String) -> Asked {
    Asked { who: Who::Elsewhere, workload: None, addresses, text, assumptions: Vec::new() }
}

fn host(population: &Population) -> Asked {
    let mut addresses: Vec<IpAddr> =
        population.host_addresses.iter().copied().filter(|address| !address.is_loopback()).collect();
    let mut assumptions = Vec::new();
    if addresses.is_empty() {
        addresses = population.host_addresses.iter().copied().collect();
        if addresses.is_empty() {
            assumptions.push("no address of this host is known: one is imagined".to_owned());
        }
    }
    Asked { who: Who::Host, workload: None, addresses, text: "this host itself".to_owned(), assumptions }
}

/// Who has an address.
fn behind(address: IpAddr, population: &Population) -> Asked {
    let holders: Vec<&Workload> =
        population.workloads.iter().filter(|workload| workload.addresses.contains(&address)).collect();
    if let [holder] = holders[..] {
        let asked = known(holder, population, &format!("{address}: "));
        return Asked { addresses: vec![address], ..asked };
    }
    if population.host_addresses.contains(&address) {
        return Asked { addresses: vec![address], text: format!("{address}: this host itself"), ..host(population) };
    }
    let service = population.cluster.services().find(|service| service.addresses.contains(&address));
    let what = match (holders.len(), service) {
        (0, Some(service)) => format!("the service {}", service.name),
        (0, None) if population.cluster.node_addresses().any(|node| *node == address) => "another node".to_owned(),
        (0, None) => "no known workload".to_owned(),
        (several, _) => format!("claimed by {several} workloads, so none of them for sure"),
    };
    elsewhere(vec![address], format!("{address}: {what}"))
}

/// The path of a process' cgroup below the root of the cgroup v2 tree.
fn cgroup_of(process: u32) -> Result<String, String> {
    let path = format!("/proc/{process}/cgroup");
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("there is no process {process}: {path}: {error}; name another"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.map(|line| line.trim_matches('/').to_owned())
        .ok_or_else(|| format!("process {process} is in no cgroup of version 2; mount cgroup2"))
}

/// Who a process in a cgroup is: the nearest that is known of the cgroup and those above it.
fn in_cgroup(path: &str, what: &str, snapshot: &Snapshot, population: &Population) -> Asked {
    // The agent may have been given a part of the tree as its root.
    let known_paths: BTreeSet<&str> = snapshot.cgroups.iter().map(|cgroup| cgroup.path.as_str()).collect();
    let mut path = path;
    while !path.is_empty() && !known_paths.is_empty() && !known_paths.contains(path) {
        let Some((_, rest)) = path.split_once('/') else { break };
        path = rest;
    }
    let how = format!("{what} in cgroup {path}: ");
    let mut at = Some(path);
    while let Some(here) = at {
        let scope = population.scopes.iter().find(|(cgroup, _)| cgroup.path == here);
        let workload = population
            .workloads
            .iter()
            .find(|workload| workload.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == here));
        match (workload, scope) {
            // A slice is a workload itself, and yet what is not known below it is not taken for it.
            (_, Some((_, denies))) if here != path => {
                let word = if *denies { "denied" } else { "allowed" };
                let text = format!("{how}not identified below the managed scope {here}, where that is {word}");
                return Asked { who: Who::Unidentified(*denies), text, ..host(population) };
            }
            (Some(workload), _) => return known(workload, population, &how),
            _ => {}
        }
        at = here.rsplit_once('/').map(|(above, _)| above);
    }
    Asked { text: format!("{how}no workload, so this host itself"), ..host(population) }
}

/// Gives every end an address and a place, so that it can be judged, and says what was assumed.
pub fn settle(asked: &mut Asked, number: u64) {
    if let Some(workload) = &mut asked.workload {
        place(workload, number);
    }
    if asked.addresses.is_empty() {
        // Of the shared address space (RFC 6598), which no policy should name.
        let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        let address = IpAddr::from([100, 127, high, low]);
        if asked.workload.is_some() {
            asked
                .assumptions
                .push(format!("it has no address yet: {address} is assumed, which matters to rules with CIDRs alone"));
        }
        asked.addresses = vec![address];
        if let Some(workload) = &mut asked.workload {
            workload.addresses = Arc::from([address]);
        }
    }
}
