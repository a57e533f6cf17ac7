//! The programs themselves: every one of them passes the verifier of the kernel that this runs on.

use std::path::Path;

use aya::programs::{Program, ProgramError, ProgramInfo};
use bulkhead::kernel::load::{load, load_programs};
use bulkhead::kernel::pin::Pins;
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

/// The kernel's own limit on the instructions that the verifier looks at (`BPF_COMPLEXITY_LIMIT_INSNS`).
const LIMIT: u32 = 1_000_000;

/// The programs of the hooks.
const HOOKS: [&str; 9] = [
    "cgroup_egress",
    "cgroup_ingress",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "tc_egress",
    "tc_ingress",
    "uplink",
];

/// A bpffs of the test's own.
struct Bpffs(TempDir);

impl Drop for Bpffs {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).expect("the agent mounted a bpffs here");
    }
}

#[test]
fn every_program_passes_the_verifier() {
    pass(false);
}

#[test]
fn every_program_passes_the_verifier_with_a_flow_log() {
    pass(true);
}

fn pass(logs_flows: bool) {
    let bpffs = Bpffs(TempDir::with_prefix("bulkhead-load-").expect("the temporary directory is writable"));
    let pins = Pins::prepare(bpffs.0.path()).expect("a bpffs can be mounted");
    let mut ebpf = load(&pins, 1_024, logs_flows).unwrap_or_else(|error| panic!("{error}"));
    load_programs(&mut ebpf, |_| true).unwrap_or_else(|error| panic!("{error}"));
    let mut names = Vec::new();
    for (name, program) in ebpf.programs() {
        let info = info(program).unwrap_or_else(|error| panic!("{name} is not in the kernel: {error}"));
        // Counted since Linux 5.16.
        let looked_at = info.verified_instruction_count().expect("this kernel counts what its verifier looks at");
        println!("{name}: the verifier looked at {looked_at} instructions");
        assert!(looked_at < LIMIT / 4 * 3, "{name} may be too much for another kernel's verifier: {looked_at}");
        names.push(name);
    }
    for hook in HOOKS {
        assert!(names.contains(&hook), "there is no program {hook} among {names:?}");
    }
    assert!(Path::new(&pins.map("FLOWS")).exists(), "maps are pinned");
}

fn info(program: &Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.info(),
        Program::CgroupSockAddr(program) => program.info(),
        Program::SchedClassifier(program) => program.info(),
        Program::Xdp(program) => program.info(),
        other => panic!("the object has no programs of type {:?}", other.prog_type()),
    }
}
