//! Loading the eBPF object: maps created or adopted from their pins, every program through the verifier.

use std::path::Path;
use std::thread;

use aya::maps::{MapError, MapInfo, ProgramArray};
use aya::programs::{Program, ProgramError};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::error::KernelError;
use super::pin::Pins;

/// The eBPF object that the build script made.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs"));

/// Maps that are pinned, so that a later agent finds them as they are.
pub const MAPS: [&str; 23] = [
    "CONTROL",
    "ADDRESSES",
    "CIDRS",
    "SERVICES",
    "CGROUPS",
    "INTERFACES",
    "IDENTITIES",
    "PORT_CLASSES",
    "FAILSAFE",
    "ROWS",
    "RULE_REFS",
    "FLOWS",
    "EMBRYOS",
    "FRAGMENTS",
    "COUNTERS",
    "RULE_HITS",
    "EVENTS",
    "EVENT_BUDGET",
    "CGROUP_EGRESS_JUDGE",
    "CGROUP_INGRESS_JUDGE",
    "TC_EGRESS_JUDGE",
    "TC_INGRESS_JUDGE",
    "UPLINK_JUDGE",
];

/// The programs that judge what those of the hooks hand over, with the array by which they do; the hook's own program is named
/// the same without the ending. A pin keeps each array, which the kernel empties where nobody has it open.
pub(super) const JUDGES: [(&str, &str); 5] = [
    ("cgroup_egress_judge", "CGROUP_EGRESS_JUDGE"),
    ("cgroup_ingress_judge", "CGROUP_INGRESS_JUDGE"),
    ("tc_egress_judge", "TC_EGRESS_JUDGE"),
    ("tc_ingress_judge", "TC_INGRESS_JUDGE"),
    ("uplink_judge", "UPLINK_JUDGE"),
];

/// The oldest kernel whose verifier is known to take the programs.
const OLDEST: KernelVersion = KernelVersion::new(6, 1, 0);

/// The programs at the cgroup root, and the one that reads the clock: without them nothing is enforced.
pub const AT_ONCE: [&str; 7] =
    ["cgroup_egress", "cgroup_ingress", "connect4", "connect6", "sendmsg4", "sendmsg6", "clock"];

/// Maps of the flow log, which are not pinned: each agent has its own. Without a log they hold nothing.
pub const OF_LOG: [&str; 3] = ["FLOW_COUNTS", "SOCKETS", "PROCESSES"];

/// Makes or adopts the maps and loads the programs of [`AT_ONCE`]; nothing is attached yet.
///
/// # Errors
/// [`KernelError::NoBtf`], [`KernelError::TooOld`], [`KernelError::Object`], [`KernelError::Program`].
pub fn load(pins: &Pins, max_flows: u32, logs_flows: bool) -> Result<Ebpf, KernelError> {
    check_kernel()?;
    let is_on = u32::from(logs_flows);
    let mut loader = EbpfLoader::new();
    for name in MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.map_max_entries("FLOWS", max_flows);
    loader.map_max_entries("EMBRYOS", max_flows / 2);
    loader.override_global("LOGS_FLOWS", &is_on, true);
    if logs_flows {
        loader.map_max_entries("FLOW_COUNTS", max_flows);
    } else {
        for map in OF_LOG {
            loader.map_max_entries(map, 1);
        }
    }
    let mut ebpf = loader.load(OBJECT)?;
    tell_size(pins, max_flows);
    load_programs(&mut ebpf, |name| AT_ONCE.contains(&name))?;
    Ok(ebpf)
}

/// Says where an earlier agent made the table of flows in another size: it stays as it is, for the flows in it.
fn tell_size(pins: &Pins, max_flows: u32) {
    let Ok(entries) = MapInfo::from_pin(pins.map("FLOWS")).map(|info| info.max_entries()) else { return };
    if entries != max_flows {
        tracing::warn!(
            "the table of flows keeps its {entries} entries instead of the {max_flows} of --max-flows, as it is in use; to change \
             that, stop the agent, run `bulkhead detach`, and start it again"
        );
    }
}

/// Loads those of the programs that are wanted and not loaded yet, side by side: the kernel's verifier takes most of an
/// agent's start, and uses one CPU for each program. Who wants a hook's program wants the one that judges for it.
///
/// # Errors
/// [`KernelError::Program`], [`KernelError::Map`].
pub fn load_programs(ebpf: &mut Ebpf, is_wanted: impl Fn(&str) -> bool) -> Result<(), KernelError> {
    thread::scope(|scope| {
        let loading: Vec<_> = ebpf
            .programs_mut()
            .filter(|(name, program)| is_wanted(name.trim_end_matches("_judge")) && program.fd().is_err())
            .map(|(name, program)| (name.to_owned(), scope.spawn(move || load_program(program))))
            .collect();
        for (name, thread) in loading {
            let result = thread.join().expect("loading a program does not panic");
            let failed = |source: ProgramError| KernelError::Program {
                what: format!("loading program {name}"),
                source: source.into(),
            };
            result.map_err(failed)?;
        }
        Ok::<_, KernelError>(())
    })?;
    set_judges(ebpf)
}

/// Has the programs of the hooks find those that judge, as far as they are loaded. Nothing is attached before that; an earlier
/// agent's programs find this one's from here on.
///
/// # Errors
/// [`KernelError::Map`].
pub fn set_judges(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    for (name, map) in JUDGES {
        let failed = |source| KernelError::Map { map, operation: "writing", source };
        let Some(program) = ebpf.program(name).and_then(|program| program.fd().ok()) else { continue };
        let program = program.try_clone().map_err(|error| failed(MapError::IoError(error)))?;
        let array = ebpf.map_mut(map).expect("the object has an array for each of them");
        let mut array = ProgramArray::try_from(array).map_err(failed)?;
        array.set(0, &program, 0).map_err(failed)?;
    }
    Ok(())
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        other => unreachable!("the object has no programs of type {:?}", other.prog_type()),
    }
}

fn check_kernel() -> Result<(), KernelError> {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(KernelError::NoBtf);
    }
    if KernelVersion::current().is_ok_and(|current| current < OLDEST) {
        let release = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_else(|_| "unknown".to_owned());
        return Err(KernelError::TooOld(release));
    }
    Ok(())
}
