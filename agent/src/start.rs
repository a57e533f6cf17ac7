//! How an agent starts and stops, in the order that leaves no gap and nothing half-done behind.
//!
//! 1. what can be wrong without touching the kernel: root, options, policy, socket, port
//! 2. a bpffs where there is none, and then privileges go: all that follows works with what a running agent has
//! 3. the sources' first word: every cgroup and link that exists, and what a Kubernetes API tells
//! 4. programs and maps, loaded or adopted; the maps filled
//! 5. the programs attached: enforcement begins with the whole policy or not at all
//!
//! A start that fails on a host where nothing was enforced takes away what it made. One that fails where an earlier agent's
//! programs are pinned leaves those as they were.

mod cluster;
mod first_word;
mod flow_log;
mod own_cgroup;
mod policies;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use aya::maps::{MapData, RingBuf};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::AdminState;
use crate::config::{ManagedScope, RunOptions, Uplinks};
use crate::controller::{Audience, Controller, Event, HostFacts, Kernel, Loaded as LoadedPolicy, PolicyLoad};
use crate::exit::{Exit, Failure};
use crate::flow::SharedNames;
use crate::flow::journal::Journal;
use crate::flow::record::Recorder;
use crate::kernel::attach::Attachments;
use crate::kernel::counts::LogMaps;
use crate::kernel::error::KernelError;
use crate::kernel::pin::Pins;
use crate::kernel::readings::KernelReadings;
use crate::kernel::tables::Tables;
use crate::kernel::{clock, events, load};
use crate::metrics::Metrics;
use crate::metrics::flow_log::FlowLogMetrics;
use crate::metrics::health::Health;
use crate::metrics::kubernetes::KubernetesMetrics;
use crate::metrics::listener::Shown;
use crate::metrics::trail::TrailMetrics;
use crate::privilege;
use crate::source::file::PolicyFiles;
use crate::source::{cgroup, kubernetes, netlink, uplink};
use crate::surface::Surface;
use crate::tally::keeper::Keeper;
use crate::trail::{self, Trail};
use crate::workload::registry::Registry;
use first_word::first_word;
use own_cgroup::own_cgroup;
use policies::Policies;

/// Events that wait for the controller; more make the sources wait, which resynchronise if they lose something over it.
const QUEUE: usize = 4_096;

/// Enforces until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps the agent from enforcing, with what to do about it.
pub async fn run(options: RunOptions) -> Result<(), Failure> {
    let began = Instant::now();
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::message(Exit::NoPerm, "only root can put programs into the kernel", "use sudo"));
    }
    privilege::require()?;
    let uplinks = options.uplinks()?;
    let scopes = cluster::scopes(&options);
    let failsafe = options.failsafe_ports()?;
    let cgroup_root = cgroup_root(&options)?;
    make_scopes(&scopes, &cgroup_root);
    // Their content is noted before it is read, so that no edit is missed in between.
    let files = PolicyFiles::new(options.policies.clone());
    let policies = Policies::read(&options)?;
    let cluster = policies.objects().map(|objects| cluster::source(&options, objects.clone())).transpose()?;
    let surface = Surface::bind(&options).await?;
    let pins = Pins::prepare(&options.bpffs).map_err(failure)?;
    let was_enforced = pins.has_links();
    // Before there is a second thread.
    privilege::drop()?;
    let keeper = Keeper::new(&options.state.state);
    let trail_counts = TrailMetrics::default();
    let trail = trail(&options, &trail_counts);
    let journal_counts = FlowLogMetrics::default();
    let journal = Journal::open(&options.flow_log, journal_counts.clone())?;

    let (stop, stopped) = watch::channel(false);
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(cgroup::watch(cgroup_root.clone(), sender.clone(), stopped.clone()));
    tasks.spawn(netlink::watch(sender.clone(), stopped.clone()));
    let own = options.kubernetes.then(|| own_cgroup(&cgroup_root, &scopes)).flatten();
    let told = options.clone();
    let host = HostFacts { failsafe, cgroup_root: cgroup_root.clone() };
    let loading = tokio::task::spawn_blocking(move || {
        let loaded = Loaded::load(pins.clone(), &told, host, own);
        loaded.map_err(|error| {
            if !was_enforced && let Err(error) = pins.remove() {
                tracing::warn!(%error, "what was made in the bpffs stays there; `bulkhead detach` removes it");
            }
            failure(error)
        })
    });
    let counted = KubernetesMetrics::default();
    let mut registry = Registry::new(scopes);
    if let Some(cluster) = cluster {
        registry = registry.with_pods();
        tasks.spawn(kubernetes::watch(cluster, counted.clone(), sender.clone(), stopped.clone()));
    }
    let registry = first_word(&mut receiver, registry, policies.objects(), was_enforced).await?;
    let mut loaded = loading.await.map_err(anyhow::Error::from)??;

    let wanted = match &uplinks {
        Uplinks::None => Vec::new(),
        Uplinks::Named(names) => names.clone(),
        Uplinks::DefaultRoutes => uplink::default_route_interfaces().await?,
    };
    if wanted.is_empty() {
        tracing::info!("no uplink: nothing is dropped before the stack, the hooks behind it decide everything");
    }

    let names = SharedNames::default();
    let audience = Audience {
        metrics: Metrics::new(loaded.kernel.readings.clone(), names.clone(), counted),
        health: Arc::new(Health::new()),
        recorder: Arc::new(Recorder::new(names.clone())),
        names,
        policies: policies.objects().cloned(),
        trail: trail.as_ref().map(|(trail, _)| trail.clone()),
    };
    audience.metrics.add_trail(&trail_counts);
    audience.metrics.add_flow_log(&journal_counts);
    let pins = loaded.pins.clone();
    let readings = loaded.kernel.readings.clone();
    log_of_kernel(&mut loaded.kernel.attachments, &mut tasks);
    let ring = loaded.ring;
    if let Some(objects) = policies.objects() {
        objects.tell_ports(Instant::now(), registry.port_numbers());
    }
    let (policy, of_objects) = policies.first()?;
    let mut controller = Controller::new(policy, registry, loaded.kernel, audience.clone());
    controller.note_objects(of_objects);
    controller.take_uplinks(wanted);
    if let Err(error) = controller.start(began, &cgroup_root) {
        drop(controller);
        if !was_enforced {
            pins.remove().map_err(failure)?;
        }
        return Err(error.downcast::<KernelError>().map_or_else(
            |error| Failure::new(Exit::Config, error, "make the policy smaller, as the message says"),
            failure,
        ));
    }
    tracing::info!(milliseconds = began.elapsed().as_secs_f64() * 1e3, adopted = was_enforced, "enforcing");
    let found = if was_enforced { "took over what was enforced" } else { "found nothing enforced" };
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    controller.trail_said("agent", "started", format!("version {version}, process {pid}; {found}"));

    let recorder = audience.recorder.clone();
    let ending = recorder.clone();
    let writing = match (journal, loaded.log) {
        (Some((journal, thread)), Some(maps)) => {
            recorder.log_to(journal, maps.clone());
            tasks.spawn(flow_log::tell_ends(maps, readings.clone(), recorder.clone()));
            Some(thread)
        }
        _ => None,
    };
    let keeping = {
        if let Some(view) = keeper.read() {
            recorder.tally().restore(view);
        }
        tokio::spawn(keeper.run(recorder.clone(), readings, stopped.clone()))
    };
    tasks.spawn(async move {
        if let Err(error) = events::read(ring, |event| recorder.record(event)).await {
            tracing::error!(%error, "flows can't be read any more; restart the agent to see them again");
        }
    });
    let load = policies.clone();
    tasks.spawn(files.watch(move |paths| load.load(paths), sender.clone(), stopped.clone()));
    if let Some(objects) = policies.objects() {
        tasks.spawn(objects.clone().watch(sender.clone(), stopped.clone()));
    }
    if uplinks == Uplinks::DefaultRoutes {
        tasks.spawn(uplink::watch(sender.clone(), stopped.clone()));
    }
    tasks.spawn(signals(policies, options.policies.clone(), sender.clone()));
    let state = AdminState { controller: sender, recorder: audience.recorder };
    let serving =
        tokio::spawn(surface.serve(state, Shown { metrics: audience.metrics, health: audience.health }, stopped));

    let controller = controller.run(receiver).await;
    // Nobody listens any more either way.
    let _ = stop.send(true);
    tasks.shutdown().await;
    drop(serving.await);
    drop(keeping.await);
    ending.close_log();
    let left = if options.detach_on_exit { "nothing is enforced any more" } else { "what is enforced stays" };
    controller.trail_said("agent", "stopped", format!("told to, process {}; {left}", std::process::id()));
    let kernel = controller.into_kernel();
    drop(audience.trail);
    if let Some((trail, thread)) = trail {
        drop(trail);
        drop(tokio::task::spawn_blocking(|| thread.join()).await);
    }
    if let Some(thread) = writing {
        drop(tokio::task::spawn_blocking(|| thread.join()).await);
    }
    finish(kernel, &pins, options.detach_on_exit)
}

/// Opens the audit trail. An agent that can't write it enforces all the same, and says so.
fn trail(options: &RunOptions, counts: &TrailMetrics) -> Option<(Trail, JoinHandle<()>)> {
    let path = trail::path(&options.state.state);
    match trail::writer::start(&path, counts.clone()) {
        Ok(started) => Some(started),
        Err(error) => {
            tracing::warn!(
                "the audit trail {} can't be opened: {error}; what happens is not recorded; give --state a directory that can be written",
                path.display()
            );
            None
        }
    }
}

/// Stops enforcing or leaves it, as was asked.
fn finish(mut kernel: Kernel, pins: &Pins, detach: bool) -> Result<(), Failure> {
    if !detach {
        tracing::info!("stopped; what is enforced stays enforced: `bulkhead detach` takes it out of the kernel");
        return Ok(());
    }
    kernel.attachments.attach_interfaces(&std::collections::BTreeMap::new()).map_err(failure)?;
    drop(kernel);
    let removed = pins.remove().map_err(failure)?;
    tracing::info!(removed = removed.len(), "stopped; nothing is enforced any more");
    Ok(())
}

/// What is in the kernel before anything is attached.
struct Loaded {
    pins: Pins,
    kernel: Kernel,
    ring: RingBuf<MapData>,
    log: Option<Arc<LogMaps>>,
}

impl Loaded {
    fn load(pins: Pins, options: &RunOptions, host: HostFacts, own: Option<u64>) -> Result<Self, KernelError> {
        let logs_flows = options.flow_log.flow_log.is_some();
        let mut ebpf = load::load(&pins, options.max_flows, logs_flows)?;
        let log = logs_flows.then(|| LogMaps::take(&mut ebpf).map(Arc::new)).transpose()?;
        let hz = clock::jiffies_per_second(&mut ebpf)?;
        let mut tables = Tables::open(&pins, options.settings(hz), &host.failsafe)?;
        // What an earlier agent left in force may deny it.
        own.map_or(Ok(()), |own| tables.exempt(&pins, own))?;
        let kernel = Kernel {
            tables,
            readings: Arc::new(KernelReadings::open(&pins, options.settings(hz))?),
            attachments: Attachments::new(ebpf, pins.clone())?,
            host,
        };
        Ok(Self { ring: events::open_ring(&pins)?, pins, kernel, log })
    }
}

fn cgroup_root(options: &RunOptions) -> Result<PathBuf, Failure> {
    let root = match &options.cgroup_root {
        Some(root) => root.clone(),
        None => cgroup::cgroup_root()?,
    };
    if statfs(&root).is_ok_and(|info| info.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        return Ok(root);
    }
    Err(Failure::message(
        Exit::Config,
        format!("{} is no cgroup v2 directory", root.display()),
        "give --cgroup-root the place where cgroup2 is mounted (`findmnt -t cgroup2` shows it), or leave it out",
    ))
}

/// Makes the managed scopes that deny and are not there yet: what starts in one must find it known, and the first that starts
/// there would be faster than the notice of the scope itself. Whoever makes it otherwise finds it and takes it.
fn make_scopes(scopes: &[ManagedScope], cgroup_root: &Path) {
    for scope in scopes.iter().filter(|scope| scope.denies) {
        let directory = cgroup_root.join(&scope.path);
        if let Err(error) = std::fs::create_dir_all(&directory) {
            tracing::warn!(
                "cannot make the managed scope {}: {error}; what is the first to start there may send before it is denied",
                directory.display()
            );
        }
    }
}

/// Carries what the programs log into the agent's own log.
fn log_of_kernel(attachments: &mut Attachments, tasks: &mut JoinSet<()>) {
    let logger = aya_log::EbpfLogger::init(attachments.ebpf()).context("no log of the kernel side");
    // SAFETY: the logger owns the descriptor that it reports, and keeps it open for as long as it lives.
    match logger.and_then(|logger| Ok(unsafe { tokio::io::unix::AsyncFd::register(logger) }?)) {
        Ok(mut logger) => drop(tasks.spawn(async move {
            while let Ok(mut guard) = logger.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        })),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "what the programs in the kernel log is not shown"),
    }
}

/// SIGTERM and SIGINT stop the agent, SIGHUP reads the policy files again.
async fn signals(policies: Policies, paths: Vec<PathBuf>, events: mpsc::Sender<Event>) {
    let listen = |kind| signal(kind).expect("a signal that may be caught, inside a runtime");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    let mut hang_up = listen(SignalKind::hangup());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                let (seen, policies, paths) = (Instant::now(), policies.clone(), paths.clone());
                let loading = tokio::task::spawn_blocking(move || policies.load(&paths));
                let Ok(LoadedPolicy { result, objects }) = loading.await else { continue };
                if events.send(Event::Policy(PolicyLoad { seen, result, objects })).await.is_err() {
                    return;
                }
            }
        }
    }
    // A controller that is gone already has stopped.
    let _ = events.send(Event::Shutdown).await;
}

fn failure(error: KernelError) -> Failure {
    let exit = match &error {
        KernelError::NoBtf | KernelError::TooOld(_) => Exit::Unavailable,
        KernelError::NoInterface(_) | KernelError::Newer(_) => Exit::Config,
        KernelError::Missing(_) => Exit::Software,
        _ => Exit::OsErr,
    };
    Failure::new(exit, error, "")
}
