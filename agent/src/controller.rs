//! The one owner of the desired state: every input is an [`Event`] of one loop, and only this loop writes the kernel's maps.
//!
//! Level-triggered: whatever happened, the loop computes what the maps shall hold and writes the difference. What fails is
//! tried again a second later; until then the status and the metrics say so, and what is in the kernel stays.

mod answers;
pub mod audit;
mod loaded;
mod names;
mod pressure;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bulkhead_ebpf::abi::Party;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::config::failsafe::FailsafePort;
use crate::desired::tombstones::{TOMBSTONES, Tombstones};
use crate::desired::{Contents, Desired, Held, Inputs, Numbers, State, desired};
use crate::flow::SharedNames;
use crate::flow::record::Recorder;
use crate::kernel::attach::Attachments;
use crate::kernel::error::KernelError;
use crate::kernel::readings::KernelReadings;
use crate::kernel::tables::{Applied, Tables};
use crate::metrics::Metrics;
use crate::metrics::health::Health;
use crate::policy::compile::TooLarge;
use crate::policy::model::PolicySet;
use crate::snapshot::Snapshot;
use crate::source::policy_objects::PolicyObjects;
use crate::source::{Change, Fact, Told};
use crate::trail::Trail;
use crate::view::plan::ConnectionsView;
use crate::view::{GroupsView, StatusView, WorkloadView};
use crate::workload::SourceKind;
use crate::workload::registry::{Registry, Touched};

pub use loaded::{InForce, Loaded, OfObjects, PolicyLoad, Receipt};

/// How often the loop turns without events: failures are tried again, and the health check hears from it.
const TICK: Duration = Duration::from_secs(1);
/// Events taken at once before the maps are written.
const BATCH: usize = 1_024;

/// Everything that can happen to the agent.
#[derive(Debug)]
pub enum Event {
    /// A source saw something.
    Fact(Fact),
    /// The policy files were read.
    Policy(PolicyLoad),
    /// The interfaces that shall have the XDP program.
    Uplinks(Vec<String>),
    /// Somebody asks over the admin socket.
    Query(Query),
    /// The agent shall stop.
    Shutdown,
}

/// A question over the admin socket. A dropped sender means that the agent is stopping.
#[derive(Debug)]
pub enum Query {
    /// `bulkhead status`.
    Status(oneshot::Sender<StatusView>),
    /// `bulkhead workloads`.
    Workloads(oneshot::Sender<Vec<WorkloadView>>),
    /// `bulkhead groups`.
    Groups(oneshot::Sender<GroupsView>),
    /// What it knows, for commands that ask what would be.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Established flows.
    Connections(oneshot::Sender<ConnectionsView>),
}

/// The kernel's side, as the controller drives it.
pub struct Kernel {
    /// The maps.
    pub tables: Tables,
    /// The programs.
    pub attachments: Attachments,
    /// Counters and sizes.
    pub readings: Arc<KernelReadings>,
    /// What was told of the host: failsafe ports, and where the cgroup tree is.
    pub host: HostFacts,
}

/// What holds for as long as the agent runs.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Failsafe ports.
    pub failsafe: Vec<FailsafePort>,
    /// Where the cgroup tree is mounted.
    pub cgroup_root: PathBuf,
}

/// Whom the controller tells.
#[derive(Clone)]
pub struct Audience {
    /// Metrics.
    pub metrics: Metrics,
    /// The health check.
    pub health: Arc<Health>,
    /// Names for flows.
    pub names: SharedNames,
    /// Flows.
    pub recorder: Arc<Recorder>,
    /// What judges policy by what pods call their ports; `None` where no pods are known.
    pub policies: Option<PolicyObjects>,
    /// The audit trail; `None` where it can't be written.
    pub trail: Option<Trail>,
}

/// The desired state and the hand that writes it.
pub struct Controller {
    policy: Arc<PolicySet>,
    registry: Registry,
    uplinks: BTreeSet<String>,
    numbers: Numbers,
    kernel: Kernel,
    audience: Audience,
    started: Instant,
    policy_loaded_at: SystemTime,
    reloads: u64,
    refusals: u64,
    problems: Vec<String>,
    /// Of the Kubernetes API, as of the policy that was loaded last.
    objects: OfObjects,
    /// What was computed last; `None` where everything has to be computed.
    state: Option<State>,
    /// What may have changed since.
    touched: Touched,
    failures: Vec<String>,
    /// What was logged of them last.
    complaint: Option<(String, Instant)>,
    /// Set where programs may not be attached where they should be.
    attachments_differ: bool,
    audit: audit::Audit,
    pressure: pressure::Pressure,
}

impl Controller {
    /// A controller with its first policy; nothing is written yet.
    #[must_use]
    pub fn new(policy: PolicySet, mut registry: Registry, kernel: Kernel, audience: Audience) -> Self {
        let (last_workload, identities) = kernel.tables.numbers_in_use();
        let mut tombstones = Tombstones::new(kernel.tables.longest_time_out(), TOMBSTONES);
        // Of an earlier agent's, nobody knows how old they are.
        let buried = kernel.tables.addresses().filter(|(_, party)| party.flags & Party::TOMBSTONE != 0);
        buried.for_each(|(address, _)| tombstones.bury(address.into()));
        let policy = Arc::new(policy);
        registry.declare(&policy);
        Self {
            policy,
            registry,
            uplinks: BTreeSet::new(),
            numbers: Numbers::above(last_workload, identities, tombstones),
            kernel,
            audience,
            started: Instant::now(),
            policy_loaded_at: SystemTime::now(),
            reloads: 0,
            refusals: 0,
            problems: Vec::new(),
            objects: OfObjects::default(),
            state: None,
            touched: Touched::everything(),
            failures: Vec::new(),
            complaint: None,
            attachments_differ: true,
            audit: audit::Audit::default(),
            pressure: pressure::Pressure::default(),
        }
    }

    /// Takes what a source saw, without writing it yet.
    pub fn take(&mut self, change: Change) {
        match &change {
            Change::CgroupResync(_) => self.audience.metrics.resynced(SourceKind::Cgroup),
            Change::LinkResync(_) => self.audience.metrics.resynced(SourceKind::Netlink),
            Change::LinkChanged(_) | Change::LinkGone(_) => self.attachments_differ = true,
            Change::Pods(Told::All(_)) => self.audience.metrics.resynced(SourceKind::Kubernetes),
            Change::CgroupAppeared(_)
            | Change::CgroupGone(_)
            | Change::Pods(_)
            | Change::Namespaces(_)
            | Change::Nodes(_)
            | Change::Services(_) => {}
        }
        self.touched.add(self.registry.take(change));
    }

    /// Takes the uplinks, without attaching to them yet.
    pub fn take_uplinks(&mut self, uplinks: Vec<String>) {
        let uplinks = uplinks.into_iter().collect();
        self.attachments_differ |= self.uplinks != uplinks;
        self.uplinks = uplinks;
    }

    /// Writes the first policy and attaches; `seen` is when the agent began to start.
    ///
    /// # Errors
    /// The policy does not fit, or the kernel refuses something.
    pub fn start(&mut self, seen: Instant, cgroup_root: &Path) -> Result<(), anyhow::Error> {
        let policy = self.policy.clone();
        let contents = self.compute(&policy, true)?;
        self.write_all(&contents)?;
        self.policy_took_force(seen);
        self.trail_policy(None);
        self.tell_crowded(&PolicySet::default());
        self.kernel.attachments.pins().inherit()?;
        self.kernel.attachments.attach_cgroup(cgroup_root)?;
        let has_links =
            self.state.iter().flat_map(|state| state.workloads.values()).any(|(it, _)| it.interface.is_some());
        self.kernel.attachments.load(!self.uplinks.is_empty(), has_links)?;
        for uplink in &self.uplinks {
            self.kernel.attachments.attach_uplink(uplink)?;
        }
        self.kernel.attachments.release_other_uplinks()?;
        self.attach();
        if !self.attachments_differ {
            self.kernel.attachments.pins().remove_older()?;
        }
        self.tell_health();
        Ok(())
    }

    /// Runs until told to stop, or until nobody is left to tell anything.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) -> Self {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        // What nothing needed so far is loaded now that everything is enforced: the first link must not wait for it.
        if let Err(error) = self.kernel.attachments.load(true, true) {
            self.fail("attach", &error.into());
            self.tell_health();
        }
        loop {
            tokio::select! {
                taken = events.recv_many(&mut batch, BATCH) => if taken == 0 { return self },
                _ = tick.tick() => {}
            }
            self.audience.health.beat();
            self.audience.recorder.tick();
            let mut facts = Vec::new();
            let mut queries = Vec::new();
            let mut stops = false;
            for event in batch.drain(..) {
                match event {
                    Event::Fact(fact) => {
                        facts.push(fact.seen);
                        self.take(fact.change);
                    }
                    Event::Policy(load) => {
                        // What came before the edit is written before it, so that each is timed for itself.
                        self.reconcile(&mut facts);
                        self.reload(load);
                    }
                    Event::Uplinks(uplinks) => self.take_uplinks(uplinks),
                    Event::Query(query) => queries.push(query),
                    Event::Shutdown => stops = true,
                }
            }
            self.reconcile(&mut facts);
            self.audit();
            self.pressure.look(&self.kernel.readings);
            for query in queries {
                self.answer(query);
            }
            if stops {
                return self;
            }
        }
    }

    /// What is attached, for detaching at the end.
    #[must_use]
    pub fn into_kernel(self) -> Kernel {
        self.kernel
    }

    /// Brings the kernel to what is wanted, where it may not be there.
    fn reconcile(&mut self, facts: &mut Vec<Instant>) {
        self.tell_ports(facts.first());
        let seen = std::mem::take(facts);
        // Their entries go.
        self.touched.host_addresses.extend(self.numbers.tombstones.advance(self.started.elapsed()));
        if self.touched.is_nothing() && !self.attachments_differ && self.failures.is_empty() {
            return;
        }
        self.failures.clear();
        match self.bring_up_to_date() {
            Ok(applied) => {
                if applied != Applied::Unchanged {
                    self.audience.metrics.set_generation(self.kernel.tables.generation());
                }
                for seen in seen {
                    self.audience.metrics.workload_applied(seen.elapsed().as_secs_f64());
                }
            }
            Err(error) => self.fail("write", &error),
        }
        if self.attachments_differ {
            self.attach();
        }
        self.tell_health();
    }

    /// Writes what the touched workloads change, or everything.
    fn bring_up_to_date(&mut self) -> Result<Applied, anyhow::Error> {
        let touched = std::mem::take(&mut self.touched);
        let before = self.groups_before(&touched);
        if let Some(mut state) = self.state.take() {
            let Ok(patch) = state.patch(&touched, &self.registry, &mut self.numbers, &self.kernel.tables) else {
                return self.compute_anew(state, &before);
            };
            self.audience.names.update(|names| self.rename(&state, &touched, names));
            self.attachments_differ |= !patch.interfaces.is_empty();
            let applied = self.kernel.tables.patch(&patch);
            self.tell_sizes(&state);
            self.trail_members(before, &state, &touched);
            self.state = Some(state);
            if applied.is_err() {
                // Everything is computed and compared the next time.
                self.touched = Touched::everything();
            }
            return Ok(applied?);
        }
        let policy = self.policy.clone();
        let contents = self.compute(&policy, false)?;
        self.write_all(&contents)
    }

    /// Computes and writes everything, where no patch would do; `former` is what was in force, but for the groups of what was touched.
    fn compute_anew(&mut self, former: State, touched: &tell::Groups) -> Result<Applied, anyhow::Error> {
        let policy = self.policy.clone();
        let contents = self.compute(&policy, false)?;
        self.trail_all_members(&former, touched, "workloads");
        self.write_all(&contents)
    }

    /// Puts a new policy in force, or refuses it and keeps the one that is.
    fn reload(&mut self, load: PolicyLoad) {
        let Some(standing) = self.note_objects(load.objects) else { return };
        let policy = match load.result {
            Ok(policy) => Arc::new(policy),
            Err(problems) => return self.refuse(problems.iter().map(ToString::to_string).collect()),
        };
        if *policy == *self.policy && self.problems == standing && self.failures.is_empty() {
            tracing::debug!("the policy files say what is in force already");
            self.objects.receipt.give();
            return;
        }
        self.registry.declare(&policy);
        let contents = match self.compute(&policy, true) {
            Ok(contents) => contents,
            Err(problem) => {
                self.registry.declare(&self.policy);
                return self.refuse(vec![problem.to_string()]);
            }
        };
        let before = std::mem::replace(&mut self.policy, policy);
        self.tell_crowded(&before);
        self.failures.clear();
        match self.write_all(&contents) {
            Ok(_) => {
                self.attach();
                self.policy_took_force(load.seen);
                self.trail_policy(Some(&before));
                self.problems = standing;
            }
            Err(error) => self.fail("write", &error),
        }
        self.tell_health();
    }

    fn policy_took_force(&mut self, seen: Instant) {
        self.reloads += 1;
        self.problems.clear();
        self.policy_loaded_at = SystemTime::now();
        let (generation, seconds) = (self.kernel.tables.generation(), seen.elapsed().as_secs_f64());
        self.audience.metrics.policy_applied(generation, seconds);
        tracing::info!(
            target: "bulkhead::policy",
            generation,
            groups = self.policy.groups.len(),
            workloads = self.state.as_ref().map_or(0, |state| state.workloads.len()),
            milliseconds = seconds * 1e3,
            "the policy is in force"
        );
    }

    /// Computes what the tables shall hold for `policy`. Where it does not fit, nothing changes.
    fn compute(&mut self, policy: &Arc<PolicySet>, policy_is_new: bool) -> Result<Contents, TooLarge> {
        let view = self.registry.view();
        let inputs = Inputs {
            policy,
            policy_is_new,
            workloads: &view.workloads,
            host_addresses: &view.host_addresses,
            scopes: &view.scopes,
            cluster: self.registry.cluster(),
        };
        let Desired { contents, state } = desired(inputs, &mut self.numbers, &self.kernel.tables)?;
        for warning in &state.warnings {
            if self.state.as_ref().is_none_or(|before| !before.warnings.contains(warning)) {
                tracing::warn!("{warning}");
            }
        }
        if let Some(before) = self.state.replace(state) {
            self.trail_all_members(&before, &tell::Groups::new(), "policy");
        }
        Ok(contents)
    }

    /// Writes everything that was computed, and tells everyone who asks by number what the numbers now mean.
    fn write_all(&mut self, contents: &Contents) -> Result<Applied, anyhow::Error> {
        self.touched = Touched::everything();
        self.kernel.tables.reset_hits(&self.numbers.rules.take_fresh())?;
        let state = self.state.take().expect("computed before it is written");
        self.audience.names.publish(self.names(&state));
        let applied = self.kernel.tables.apply(contents);
        self.tell_sizes(&state);
        self.state = Some(state);
        self.attachments_differ = true;
        let applied = applied?;
        self.touched = Touched::default();
        Ok(applied)
    }

    /// Attaches to the uplinks and the workloads' links that exist; what fails is noted and tried again.
    fn attach(&mut self) {
        let mut errors: Vec<KernelError> = Vec::new();
        let links: BTreeSet<&str> = self.registry.links().values().map(|link| link.name.as_str()).collect();
        let attached: BTreeSet<String> = self.kernel.attachments.uplinks().collect();
        for uplink in self.uplinks.iter().filter(|name| links.contains(name.as_str()) && !attached.contains(*name)) {
            errors.extend(self.kernel.attachments.attach_uplink(uplink).err());
        }
        let gone: Vec<&String> =
            attached.iter().filter(|name| !self.uplinks.contains(*name) || !links.contains(name.as_str())).collect();
        if !gone.is_empty() {
            for uplink in &gone {
                self.kernel.attachments.forget_uplink(uplink);
            }
            errors.extend(self.kernel.attachments.release_other_uplinks().err());
        }
        let workloads = self.state.iter().flat_map(|state| state.workloads.values());
        let wanted: BTreeMap<u32, String> = workloads
            .filter_map(|(workload, _)| workload.interface.as_ref())
            .map(|interface| (interface.index, interface.name.clone()))
            .collect();
        errors.extend(self.kernel.attachments.attach_interfaces(&wanted).err());
        self.attachments_differ = !errors.is_empty();
        for error in errors {
            self.fail("attach", &error.into());
        }
    }

    fn fail(&mut self, operation: &str, error: &anyhow::Error) {
        self.audience.metrics.kernel_error(operation);
        let text = format!("{error:#}");
        // It is tried at every event, and once a second is often enough to read of it.
        if self.complaint.as_ref().is_none_or(|(said, at)| *said != text || at.elapsed() >= TICK) {
            tracing::error!(operation, error = text, "the kernel refuses; trying again in a second");
            self.complaint = Some((text.clone(), Instant::now()));
        }
        self.failures.push(text);
    }

    fn tell_health(&mut self) {
        match self.failures.first() {
            None => {
                self.audience.health.set_ready();
                self.objects.receipt.give();
            }
            Some(failure) => self.audience.health.set_not_ready(failure.clone()),
        }
    }

    fn tell_sizes(&self, state: &State) {
        let mut sizes = self.kernel.tables.sizes();
        sizes.insert("tombstones", self.numbers.tombstones.len() as u64);
        self.kernel.readings.note(sizes, self.numbers.rules.end());
        self.audience.metrics.set_groups(self.policy.groups.len());
        self.audience.metrics.set_workloads(&state.by_source);
    }
}
