//! Tables that are full: of flows, of cgroups, of addresses.
//!
//! Whom a table has no room for is denied, or is who its documents say it falls back to; everyone else is left alone, a new
//! policy takes force all the same, and what was left out comes in once there is room. So that this takes seconds, the agent
//! finds maps in its place that are like its own and smaller.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::Pod;
use aya::maps::{HashMap, Map, MapData};
use bulkhead_ebpf::abi::{Address, LAYOUT, Party, Place};

use super::Effort;
use crate::bench::{Figure, rounded};
use crate::document::{group, selecting, to_all};
use crate::lab::{Agent, Kept, Lab, Outcome, Probe, Site, Version, Workload, cgroup};

/// The smallest table of flows that the agent takes.
const FLOWS: usize = 1_024;
/// How many addresses and cgroups there is room for.
const ADDRESSES: u32 = 64;
const CGROUPS: u32 = 16;
/// All time-outs, so that what is forgotten is so soon.
const TIME_OUTS: &str = "tcp-handshake=2,tcp-established=2,tcp-closing=2,udp-one-way=2,udp-stream=2,icmp=2,other=2";

/// Fills table after table, and makes room again.
///
/// # Panics
/// Somebody was let through or cut for it, it was not told, or it did not heal.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let mut scene = Scene::new();
    let maximum = FLOWS.to_string();
    let arguments = ["--max-flows", &maximum, "--timeout", TIME_OUTS, "--managed-scope", "pods.slice"];
    scene.lab.agent_with(&arguments).kill();
    shrink(scene.lab.site(), "ADDRESSES", ADDRESSES);
    shrink(scene.lab.site(), "CGROUPS", CGROUPS);
    let agent = scene.lab.agent_with(&arguments);
    let kept = Version::BOTH.map(|version| scene.friend.keep(scene.server.at(version, 8000)));
    let (mut rounds, mut healing) = (0, [Duration::ZERO; 3]);
    let deadline = effort.deadline();
    while rounds == 0 || Instant::now() < deadline {
        let times = [
            scene.too_many_flows(&agent, &kept),
            scene.too_many_cgroups(&agent, &kept, rounds),
            scene.too_many_addresses(&agent, &kept),
        ];
        healing = std::array::from_fn(|table| healing[table].max(times[table]));
        rounds += 1;
    }
    let healed = |what, time: Duration| Figure::told(what, rounded(time.as_secs_f64()), "s");
    vec![
        Figure::told("times that each table was filled", rounds as f64, "times"),
        healed("flows: until the warning was gone, at most", healing[0]),
        healed("cgroups: from room to everyone in place, at most", healing[1]),
        healed("addresses: from room to everyone known, tombstones included, at most", healing[2]),
    ]
}

struct Scene {
    server: Workload,
    friend: Workload,
    stranger: Workload,
    outsider: Workload,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let friend = lab.container("friend", "app=friend");
        let stranger = lab.device("stranger", "app=stranger");
        let outsider = lab.outsider("outsider", "app=friend");
        server.serve(&[8000, 8001, 9000]);
        for workload in [&server, &friend, &stranger] {
            lab.declare(workload);
        }
        let scene = Self { server, friend, stranger, outsider, lab };
        scene.policy(8000);
        scene
    }

    /// Friends and the host reach ports from 8000 to the last one.
    fn policy(&self, last: u16) {
        let rule = format!(
            "ingress: [{{from: [{{group: friends}}, {{entity: host}}], ports: [{{protocol: tcp, port: 8000, endPort: {last}}}]}}]"
        );
        let job = selecting("job", 300, "{matchExpressions: [{key: unit, operator: Exists}]}", &[&to_all(&[8000])]);
        self.lab.policy(
            "groups.yaml",
            &[group("server", 100, "server", &[&rule]), group("friends", 200, "friend", &[]), job].concat(),
        );
    }

    /// More established flows than are remembered at once.
    fn too_many_flows(&mut self, agent: &Agent, kept: &[Kept]) -> Duration {
        let busy = self.lab.container("busy", "app=friend");
        self.lab.declare(&busy);
        agent.eventually("the busy one is known", || agent.groups_of("busy"));
        for version in Version::BOTH {
            let _ = [0, 1].map(|_| busy.hammer(self.server.at(version, 8000)));
        }
        self.warns(agent, "the table flows is full");
        assert!(agent.log().contains("the table flows is full"), "{}", agent.dump());
        assert!(agent.metric("bulkhead_map_entries", &[("map", "flows")]) > FLOWS as f64 / 2.0);
        self.goes_on(agent, kept);
        self.lab.forget(&busy);
        drop(busy);
        self.heals(agent, kept, "the table flows is full")
    }

    /// More cgroups below a managed scope than there is room for.
    fn too_many_cgroups(&self, agent: &Agent, kept: &[Kept], round: usize) -> Duration {
        let unit = |number: u32| self.lab.site().cgroup_root.join(format!("pods.slice/full-{round}-{number}.service"));
        let units: Vec<PathBuf> = (0..CGROUPS + 8).map(unit).collect();
        units.iter().for_each(|unit| cgroup::make(unit).expect("a cgroup can be made"));
        self.warns(agent, "CGROUPS");
        assert!(agent.metric("bulkhead_kernel_errors_total", &[("operation", "write")]) > 0.0, "{}", agent.dump());
        assert!(agent.log().contains("CGROUPS"), "{}", agent.dump());
        assert!(!agent.is_ready(), "not all that should be is enforced");
        self.goes_on(agent, kept);

        // A new policy takes force all the same, and is taken back.
        assert_eq!(self.friend.tcp(self.server.at(Version::V4, 8001)), Outcome::Silent);
        self.policy(8001);
        agent.eventually("the new policy is in force though a table is full", || {
            (self.friend.tcp(self.server.at(Version::V4, 8001)) == Outcome::Reached).then_some(())
        });
        self.policy(8000);
        agent.eventually("the policy before is in force again", || {
            (self.friend.tcp(self.server.at(Version::V4, 8001)) == Outcome::Silent).then_some(())
        });

        let known: HashSet<u64> = entries::<u64, Place>(self.lab.site(), "CGROUPS").into_iter().collect();
        let (inside, outside): (Vec<_>, Vec<_>) = units.iter().partition(|unit| known.contains(&id_of(unit)));
        assert!(inside.len() > 4 && outside.len() >= 8, "{inside:?} {outside:?}");
        let start = |unit: &Path| Probe::start(&self.lab.site().host, Some(unit)).expect("a probe can be started");
        let (lucky, unlucky) = (start(inside[0]), start(outside[0]));
        let to = self.server.at(Version::V4, 8000);
        assert_eq!(lucky.tcp(to), Outcome::Reached, "there was room for it\n{}", agent.dump());
        assert_ne!(unlucky.tcp(to), Outcome::Reached, "there was no room for it\n{}", agent.dump());
        // Room for those that are left.
        let began = Instant::now();
        let left = [inside[0], outside[0]];
        for gone in units.iter().filter(|unit| !left.contains(unit)) {
            cgroup::remove(gone).expect("nobody is in it");
        }
        let healed = self.heals(agent, kept, "CGROUPS").max(began.elapsed());
        assert_eq!(unlucky.tcp(to), Outcome::Reached, "there is room for it\n{}", agent.dump());
        drop((lucky, unlucky));
        left.iter().for_each(|unit| cgroup::remove(unit).expect("nobody is in it any more"));
        healed
    }

    /// More addresses of remote workloads than there is room for: whose address is not known is the world.
    fn too_many_addresses(&self, agent: &Agent, kept: &[Kept]) -> Duration {
        let addresses: Vec<String> = (1..=ADDRESSES).map(|number| format!("203.0.113.{number}")).collect();
        self.lab.policy(
            "filler.yaml",
            &format!(
                "apiVersion: bulkhead.dev/v1alpha1\nkind: Workload\nmetadata: {{name: filler, labels: {{app: filler}}}}\n\
                 spec: {{addresses: [{}]}}\n",
                addresses.join(", ")
            ),
        );
        self.warns(agent, "ADDRESSES");
        assert!(agent.log().contains("ADDRESSES"), "{}", agent.dump());
        let held = entries::<Address, Party>(self.lab.site(), "ADDRESSES").len();
        assert_eq!(held, ADDRESSES as usize, "as many as fit are there");
        self.lab.declare(&self.outsider);
        agent.eventually("the outsider is known to the agent", || agent.groups_of("outsider"));
        assert_eq!(self.outsider.tcp(self.server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
        self.goes_on(agent, kept);
        let began = Instant::now();
        fs::remove_file(self.lab.site().policies().join("filler.yaml")).expect("it was written");
        let healed = self.heals(agent, kept, "ADDRESSES").max(began.elapsed());
        assert_eq!(self.outsider.tcp(self.server.at(Version::V4, 8000)), Outcome::Reached, "{}", agent.dump());
        self.lab.forget(&self.outsider);
        agent.eventually("the outsider is forgotten", || agent.groups_of("outsider").is_none().then_some(()));
        healed
    }

    fn warns(&self, agent: &Agent, of: &str) {
        agent.eventually(&format!("the status warns of {of}"), || {
            agent.status().warnings.iter().any(|warning| warning.contains(of)).then_some(())
        });
    }

    fn heals(&self, agent: &Agent, kept: &[Kept], of: &str) -> Duration {
        let began = Instant::now();
        agent.eventually(&format!("nothing is said of {of} any more"), || {
            self.goes_on(agent, kept);
            let status = agent.status();
            (status.enforcing && !status.warnings.iter().any(|warning| warning.contains(of))).then_some(())
        });
        began.elapsed()
    }

    /// Nobody else notices.
    fn goes_on(&self, agent: &Agent, kept: &[Kept]) {
        for kept in kept {
            assert_eq!(self.friend.exchange(*kept), Outcome::Reached, "{}", agent.dump());
        }
        let (strange, friendly) = thread::scope(|threads| {
            let strange = threads.spawn(|| self.stranger.tcp(self.server.at(Version::V6, 8000)));
            let friendly = Version::BOTH.map(|version| self.friend.tcp(self.server.at(version, 8000)));
            (strange.join().expect("it returns"), friendly)
        });
        assert_eq!(friendly, [Outcome::Reached, Outcome::Reached], "{}", agent.dump());
        assert_ne!(strange, Outcome::Reached, "{}", agent.dump());
    }
}

fn id_of(cgroup: &Path) -> u64 {
    fs::metadata(cgroup).expect("it was made").ino()
}

fn pin(site: &Site, map: &str) -> PathBuf {
    site.bpffs().join(format!("bulkhead/v{LAYOUT}/maps")).join(map)
}

fn entries<K: Pod, V: Pod>(site: &Site, map: &str) -> Vec<K> {
    let data = MapData::from_pin(pin(site, map)).expect("the map is pinned");
    let map: HashMap<_, K, V> = HashMap::try_from(Map::HashMap(data)).expect("it is a hash");
    map.keys().collect::<Result<_, _>>().expect("it can be read")
}

/// Puts an empty map of the same kind with room for so many entries where the agent looks for one.
fn shrink(site: &Site, map: &str, room: u32) {
    let path = pin(site, map);
    let info = MapData::from_pin(&path).and_then(|data| data.info()).expect("the map is pinned");
    // BPF_MAP_CREATE of BPF_MAP_TYPE_HASH with BPF_F_NO_PREALLOC, BPF_OBJ_PIN (include/uapi/linux/bpf.h).
    let created = bpf(0, &mut [1, info.key_size(), info.value_size(), room, 1]);
    // SAFETY: a descriptor that the kernel has just returned, and nobody else's.
    let created = unsafe { OwnedFd::from_raw_fd(created) };
    fs::remove_file(&path).expect("the pin can be removed");
    let name = [path.as_os_str().as_bytes(), &[0]].concat();
    let address = name.as_ptr() as u64;
    let descriptor = created.as_fd().as_raw_fd().cast_unsigned();
    bpf(6, &mut [address as u32, (address >> 32) as u32, descriptor, 0]);
}

fn bpf(command: i32, attributes: &mut [u32]) -> i32 {
    // SAFETY: the caller's words are a beginning of `union bpf_attr` on a little-endian machine, and what they point to lives.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    result as i32
}
