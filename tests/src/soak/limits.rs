//! An agent that lacks something: file descriptors, memory, room on the disk, or the kernel's notices.
//!
//! What is enforced stays so, the lack is told by whatever can still tell it, and it is over when there is enough again. A
//! wall clock that jumps is another test's, in emulation: it is the whole machine's.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Effort;
use super::events::Stopped;
use crate::bench::{Figure, rounded};
use crate::document::{from_all, group};
use crate::lab::{Agent, Lab, Outcome, Version, Workload, agent};

/// Memory that the agent gets.
const MEMORY: u64 = 64 << 20;
/// Where the controller of memory is, in a hybrid hierarchy.
const CONTROLLER: &str = "/sys/fs/cgroup/memory";
/// Addresses that come and go in a burst: more than the kernel holds notices for.
const BURST: u32 = 15_000;

/// Takes away one thing after the other.
///
/// # Panics
/// Something passed or was cut, or it did not heal.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    let deadline = effort.deadline();
    while figures.is_empty() || Instant::now() < deadline {
        figures = [descriptors(), notices(), disk(), memory()].concat();
    }
    figures
}

struct Scene {
    server: Workload,
    friend: Workload,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let friend = lab.container("friend", "app=friend");
        server.serve(&[8000, 9000]);
        lab.declare(&server);
        lab.declare(&friend);
        lab.policy("groups.yaml", &group("server", 100, "server", &[&from_all(&[8000])]));
        Self { server, friend, lab }
    }

    fn goes_on(&self, agent: &Agent) {
        for version in Version::BOTH {
            assert_eq!(self.friend.tcp(self.server.at(version, 8000)), Outcome::Reached, "{}", agent.dump());
        }
        assert_eq!(self.friend.tcp(self.server.at(Version::V4, 9000)), Outcome::Silent, "{}", agent.dump());
    }

    /// A further workload, which no group lets send anything.
    fn mute(&mut self, name: &str) -> Workload {
        let mute = self.lab.device(name, &format!("app={name}"));
        self.lab.policy(&format!("{name}.yaml"), &group(name, 400, name, &["egress: []"]));
        self.lab.declare(&mute);
        mute
    }

    fn is_mute(&self, agent: &Agent, mute: &Workload) {
        agent.eventually("the new workload is enforced", || {
            (mute.tcp(self.server.at(Version::V4, 8000)) == Outcome::Silent).then_some(())
        });
    }
}

/// No file descriptor is left: who asks is not answered, and a new link gets no program until there are some.
fn descriptors() -> Vec<Figure> {
    let mut scene = Scene::new();
    let agent = scene.lab.agent();
    let open = fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("it runs").count() as u64;
    let before = Descriptors::limit(&agent, open + 2);
    let held: Vec<UnixStream> = (0..8).filter_map(|_| UnixStream::connect(scene.lab.site().admin()).ok()).collect();
    assert!(!held.is_empty());
    let mute = scene.mute("mute");
    scene.goes_on(&agent);
    let asking = std::thread::spawn({
        let site = scene.lab.shared_site();
        move || agent::run(&site, &["status"]).expect("the agent's binary can be started")
    });
    agent.eventually("the lack is told in the log", || agent.log().contains("file descriptors run out").then_some(()));
    scene.goes_on(&agent);
    let began = Instant::now();
    drop(held);
    drop(before);
    let answer = asking.join().expect("it returns");
    agent.eventually("the agent enforces all it should", || agent.status().enforcing.then_some(()));
    let healed = began.elapsed();
    scene.is_mute(&agent, &mute);
    let is_warned = || agent.status().warnings.iter().any(|warning| warning.contains("file descriptors run out"));
    agent.eventually("the warning goes with the lack", || (!is_warned()).then_some(()));
    let log = agent.log();
    assert!(log.contains("os error 24"), "the lack is not told: {answer:?}\n{}", agent.dump());
    vec![Figure::told("file descriptors: healed after", rounded(healed.as_secs_f64()), "s")]
}

/// A lower limit than the agent had, until it is dropped.
struct Descriptors(libc::pid_t, libc::rlimit);

impl Descriptors {
    fn limit(agent: &Agent, most: u64) -> Self {
        let pid = libc::pid_t::try_from(agent.pid()).expect("process IDs are small");
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: no new limit, and a place for the one there is.
        let result = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        let limit = libc::rlimit { rlim_cur: most, ..before };
        Self(pid, before).set(&limit)
    }

    fn set(self, limit: &libc::rlimit) -> Self {
        // SAFETY: a whole limit, and nobody asks for the one before.
        let result = unsafe { libc::prlimit(self.0, libc::RLIMIT_NOFILE, limit, std::ptr::null_mut()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        self
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { libc::prlimit(self.0, libc::RLIMIT_NOFILE, &raw const self.1, std::ptr::null_mut()) };
    }
}

/// More notices of links and addresses than the kernel holds for the agent: it reads everything again.
fn notices() -> Vec<Figure> {
    let mut scene = Scene::new();
    let agent = scene.lab.agent();
    let resyncs = || agent.metric("bulkhead_source_resyncs_total", &[("source", "netlink")]);
    let before = resyncs();
    let stopped = Stopped::new(&agent);
    let burst: String = (0..BURST)
        .map(|number| format!("10.99.{}.{}/32 dev lo\n", number >> 8, number & 255))
        .map(|address| format!("address add {address}address del {address}"))
        .collect();
    scene.lab.site().host.ip(&burst).expect("the lab's `ip` commands hold");
    let mute = scene.mute("late");
    scene.goes_on_without_agent();
    let began = Instant::now();
    drop(stopped);
    agent.eventually("the agent reads everything again", || (resyncs() > before).then_some(()));
    agent.eventually("and knows what is there", || agent.groups_of("late").filter(|groups| groups == &["late"]));
    let healed = began.elapsed();
    scene.is_mute(&agent, &mute);
    scene.goes_on(&agent);
    let entries = agent.metric("bulkhead_map_entries", &[("map", "addresses")]);
    assert!(entries < 100.0, "{entries} addresses\n{}", agent.dump());
    vec![Figure::told("notices of links and addresses: healed after", rounded(healed.as_secs_f64()), "s")]
}

impl Scene {
    /// As [`Self::goes_on`], while the agent can't be asked anything.
    fn goes_on_without_agent(&self) {
        assert_eq!(self.friend.tcp(self.server.at(Version::V4, 8000)), Outcome::Reached);
        assert_eq!(self.friend.tcp(self.server.at(Version::V6, 9000)), Outcome::Silent);
    }
}

/// The disk is full: of the agent's own only the log goes there, and it goes on without.
fn disk() -> Vec<Figure> {
    let mut scene = Scene::new();
    let disk = Disk::full(&scene.lab.site().directory.join("disk"));
    std::os::unix::fs::symlink(disk.0.join("agent.log"), scene.lab.site().log()).expect("there is no log yet");
    let agent = scene.lab.agent();
    scene.goes_on(&agent);
    let mute = scene.mute("mute");
    scene.is_mute(&agent, &mute);
    assert!(agent.status().enforcing, "{}", agent.dump());
    assert_eq!(agent.log(), "", "there was room");
    assert!(agent.stop().success(), "it stops as ever");
    vec![Figure::told("changes in force with a full disk", 1.0, "change")]
}

/// A small file system without room, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn full(at: &Path) -> Self {
        fs::create_dir(at).expect("the lab's directory is writable");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("root may mount");
        let disk = Self(at.to_owned());
        fs::write(at.join("agent.log"), "").expect("there is room for a name");
        fs::write(at.join("filler"), vec![0; 65_536 * 2]).expect_err("there is less room");
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It goes with the mount namespace at the latest.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// An agent that gets little memory once it has started, for the kernel's verifier charges more to whoever loads programs: it reads a policy with many rules
/// and answers. When it is killed, what it enforced stays.
fn memory() -> Vec<Figure> {
    let scene = Scene::new();
    let agent = scene.lab.agent();
    let limit = match MemoryLimit::enter(&scene.lab, &agent) {
        Ok(limit) => limit,
        Err(error) => {
            println!("skipped: an agent with little memory: {CONTROLLER} can't be used: {error}");
            return Vec::new();
        }
    };
    let rule = |number: u32| {
        format!("{{from: [{{cidr: 10.{}.{}.0/24}}], ports: [{{protocol: tcp, port: 443}}]}}", number >> 8, number & 255)
    };
    let rules: Vec<String> = (0..2_000).map(rule).collect();
    let rules = format!("ingress: [{}]", rules.join(", "));
    let seen = agent.status().reloads;
    scene.lab.policy("many.yaml", &group("many", 500, "many", &[&rules]));
    agent.eventually("the large policy is in force", || (agent.status().reloads > seen).then_some(()));
    scene.goes_on(&agent);
    let read = |file| fs::read_to_string(limit.0.join(file)).expect("it is a cgroup of this controller");
    assert!(read("cgroup.procs").lines().any(|line| line == agent.pid().to_string()), "it is not in there");
    let most: f64 = read("memory.max_usage_in_bytes").trim().parse().expect("a number");
    let resident = agent.metric("process_resident_memory_bytes", &[]);
    assert!(most <= MEMORY as f64 && resident <= MEMORY as f64, "{most} and {resident}\n{}", agent.dump());
    agent.kill();
    scene.goes_on_without_agent();
    vec![
        Figure::at_most("resident memory of an agent that gets 64 MiB", mebibytes(resident), "MiB", 64.0),
        Figure::at_most("what its cgroup was charged with since it was put there", mebibytes(most), "MiB", 64.0),
    ]
}

fn mebibytes(bytes: f64) -> f64 {
    rounded(bytes / f64::from(1 << 20))
}

/// A cgroup with a limit, with an agent in it.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    fn enter(lab: &Lab, agent: &Agent) -> std::io::Result<Self> {
        let name = lab.site().directory.file_name().expect("it has a name").to_owned();
        let limit = Self(Path::new(CONTROLLER).join(name));
        fs::create_dir(&limit.0)?;
        fs::write(limit.0.join("memory.limit_in_bytes"), MEMORY.to_string())?;
        fs::write(limit.0.join("cgroup.procs"), agent.pid().to_string())?;
        Ok(limit)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Empty only when the agent has ended; whoever made no such cgroup has none to remove.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.0.exists() && fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
