//! A cluster with more pods than anybody counts, seen from one of its nodes: the API with all of them, the real agent, and the
//! kernel's table of who is behind which address.
//!
//! Pods have what a usual one has: some three kilobytes, most of which nobody here reads. Nine of ten share their labels with
//! others of their deployment, the tenth is of a stateful set and has its own name among them. All are remote but those of
//! [`NODE`], which has as many as any other.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use bulkhead_ebpf::abi::{Address, LAYOUT, Party};
use serde_json::{Value, json};

use crate::apiserver::{ApiServer, NAMESPACE, NODE as NODES, POD};
use crate::document::group;
use crate::lab::{Agent, Lab};
use crate::pod::{self, NODE};

const NAMESPACES: usize = 50;
const APPS: usize = 300;
/// One of so many is of a stateful set.
const STATEFUL: usize = 10;
/// Groups, each of which lets in the one before.
const GROUPS: usize = 50;

/// The cluster.
pub struct Crowd {
    /// Its API.
    pub server: ApiServer,
    lab: Lab,
    nodes: usize,
    /// The pods that exist, by number, oldest first.
    living: VecDeque<usize>,
    next: usize,
}

impl Crowd {
    /// So many pods on so many nodes.
    ///
    /// # Errors
    /// The lab can't be set up.
    pub fn new(pods: usize, nodes: usize) -> anyhow::Result<Self> {
        let lab = Lab::try_new()?;
        let server = lab.site().host.enter(|| Ok(ApiServer::start()))?;
        let named = |number| json!({"metadata": {"name": format!("ns-{number}"), "labels": {"team": format!("team-{}", number % 7)}}});
        server.put_all(&NAMESPACE, (0..NAMESPACES).map(named));
        server.put_all(&NODES, (0..nodes).map(node));
        server.put_all(&POD, (0..pods).map(|number| usual(number, nodes)));
        for app in 0..GROUPS {
            let from = format!("ingress: [{{from: [{{group: app-{}}}]}}]", (app + GROUPS - 1) % GROUPS);
            let id = u32::try_from(app)? + 1;
            lab.policy(&format!("app-{app}.yaml"), &group(&format!("app-{app}"), id, &format!("app-{app}"), &[&from]));
        }
        Ok(Self { server, lab, nodes, living: (0..pods).collect(), next: pods })
    }

    /// Starts the agent of [`NODE`] and waits until it enforces.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn agent(&self) -> Agent {
        let kubeconfig = self.server.kubeconfig();
        let kubeconfig = kubeconfig.to_str().expect("a plain path");
        self.lab.agent_with(&["--kubernetes", "--kubeconfig", kubeconfig, "--node-name", NODE])
    }

    /// The node's lab.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// One pod comes: the address it has.
    pub fn comes(&mut self) -> IpAddr {
        let number = self.next;
        self.next += 1;
        self.living.push_back(number);
        self.server.put(&POD, usual(number, self.nodes));
        address(number)
    }

    /// The oldest pod goes: the address it had.
    ///
    /// # Panics
    /// There is none.
    pub fn goes(&mut self) -> IpAddr {
        let number = self.living.pop_front().expect("there are pods");
        assert!(self.server.delete(&POD, &name(number)), "{} is there", name(number));
        address(number)
    }

    /// So many pods come each second and as many go, for that long. Returns how many of each, the last that came, and when.
    ///
    /// # Panics
    /// The time is too short for one.
    pub fn churn(&mut self, a_second: u32, time: Duration) -> (usize, IpAddr, Instant) {
        let (began, mut turns, mut last) = (Instant::now(), 0, None);
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * f64::from(a_second)) as usize;
            while turns < due {
                self.goes();
                last = Some((self.comes(), Instant::now()));
                turns += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (last, at) = last.expect("at least one came");
        (turns, last, at)
    }

    /// The addresses of all pods that exist, oldest first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.living.iter().map(|number| address(*number))
    }

    /// The kernel's table.
    ///
    /// # Panics
    /// No agent made it.
    #[must_use]
    pub fn table(&self) -> Table {
        let pin = self.lab.site().bpffs().join(format!("bulkhead/v{LAYOUT}/maps/ADDRESSES"));
        let data = MapData::from_pin(pin).expect("the map is pinned");
        Table(HashMap::try_from(Map::HashMap(data)).expect("it is a hash"))
    }
}

/// Who is behind which address.
pub struct Table(HashMap<MapData, Address, Party>);

impl Table {
    /// Whether a workload is behind an address.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.0.get(&Address::from(address), 0).is_ok_and(|party| party.workload != 0)
    }

    /// All addresses with a workload behind them.
    ///
    /// # Panics
    /// The kernel refuses.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let all = self.0.iter().map(|entry| entry.expect("root may read it"));
        all.filter(|(_, party)| party.workload != 0).map(|(address, _)| address.into()).collect()
    }
}

fn name(number: usize) -> String {
    format!("ns-{}/pod-{number}", number % NAMESPACES)
}

fn address(number: usize) -> IpAddr {
    let base = Ipv4Addr::new(100, 64, 0, 0).to_bits();
    Ipv4Addr::from_bits(base + u32::try_from(number).expect("few enough")).into()
}

fn usual(number: usize, nodes: usize) -> Value {
    let node = if number.is_multiple_of(nodes) { NODE.to_owned() } else { format!("other-{}", number % nodes) };
    let app = format!("app-{}", number % APPS);
    let own = if number.is_multiple_of(STATEFUL) {
        json!({"app": app, "apps.kubernetes.io/pod-index": "0", "statefulset.kubernetes.io/pod-name": format!("pod-{number}")})
    } else {
        json!({"app": app, "app.kubernetes.io/managed-by": "Helm", "pod-template-hash": format!("{:08x}", number % APPS)})
    };
    let (namespace, _) =
        name(number).split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("it has a slash");
    let uid = format!("{number:08x}-0000-4000-8000-000000000000");
    let mut pod = pod::object(&namespace, &format!("pod-{number}"), &uid, &node, own, &[address(number)]);
    pod["metadata"]["managedFields"] = json!([{"manager": "kubelet", "fieldsV1": {"f:status": "x".repeat(2_000)}}]);
    pod["spec"]["volumes"] = json!([{"name": "token", "projected": {"sources": "y".repeat(600)}}]);
    pod
}

fn node(number: usize) -> Value {
    let address =
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + u32::try_from(number).expect("few enough"));
    let images: Vec<Value> = (0..20).map(|image| json!({"names": [format!("registry.example/image-{image}@sha256:{}", "0".repeat(64))], "sizeBytes": 1_000_000})).collect();
    json!({"metadata": {"name": if number == 0 { NODE.to_owned() } else { format!("other-{number}") }},
           "status": {"addresses": [{"type": "InternalIP", "address": address}], "images": images}})
}
