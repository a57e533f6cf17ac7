//! System calls that the agent never makes once it has started, and that would be of use to whoever took it over.
//!
//! A list of what is denied, not of what is allowed: which calls the C library and the runtime make changes from version to
//! version, and an agent that a new one kills enforces nothing new. Denied is what leads out of the process (other programs,
//! other processes' memory, mounts, namespaces, the kernel itself) and interfaces of the kernel that it has no use for.

use std::collections::BTreeMap;

use anyhow::Context;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// What is denied with EPERM on every architecture.
const DENIED: [c_long; 62] = [
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // What is mounted, and where.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_mknodat,
    // With CAP_DAC_READ_SEARCH it opens any file of a file system, also of one that is out of sight.
    libc::SYS_open_by_handle_at,
    // Other namespaces.
    libc::SYS_setns,
    libc::SYS_unshare,
    // Other users, other capabilities.
    libc::SYS_capset,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    // The kernel and the host.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Interfaces with a history, of no use here.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_vmsplice,
    libc::SYS_personality,
    libc::SYS_memfd_create,
    libc::SYS_vhangup,
];

/// The same, of x86-64 alone.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: [c_long; 5] =
    [libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_mknod];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: [c_long; 0] = [];

/// Installs the filter for every thread; later ones inherit it.
///
/// # Errors
/// The kernel refuses, or this is an architecture that the filter is not written for.
pub(super) fn install() -> anyhow::Result<()> {
    for program in [filter(denied()?, libc::EPERM)?, filter(absent(), libc::ENOSYS)?] {
        seccompiler::apply_filter_all_threads(&program).context("seccomp(2)")?;
    }
    Ok(())
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn filter(rules: Rules, errno: i32) -> anyhow::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).context("this architecture")?;
    let (otherwise, matched) = (SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()));
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).context("the filter")?;
    BpfProgram::try_from(filter).context("the filter's program")
}

fn denied() -> anyhow::Result<Rules> {
    let mut rules: Rules = DENIED.into_iter().chain(DENIED_HERE).chain(x32()).map(|call| (call, Vec::new())).collect();
    // A thread may be made, in the namespaces that there are.
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let has = |flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        let condition =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag).context("a flag")?;
        SeccompRule::new(vec![condition]).context("a rule")
    };
    rules.insert(libc::SYS_clone, namespaces.into_iter().map(has).collect::<anyhow::Result<_>>()?);
    Ok(rules)
}

/// A filter does not see the flags that clone3(2) takes from memory. Where there is no such call, C libraries use clone(2).
fn absent() -> Rules {
    BTreeMap::from([(libc::SYS_clone3, Vec::new())])
}

/// The calls of x86-64's other way to call the kernel, x32, which the same architecture's number stands for: all denied calls
/// once more, and those that have numbers of their own there.
#[cfg(target_arch = "x86_64")]
fn x32() -> impl Iterator<Item = c_long> {
    // `__X32_SYSCALL_BIT`, and the range 512 to 547 of arch/x86/entry/syscalls/syscall_64.tbl.
    const BIT: c_long = 0x4000_0000;
    let same = DENIED.into_iter().chain(DENIED_HERE).chain([libc::SYS_clone, libc::SYS_clone3]);
    same.chain(512..=547).map(|call| call | BIT)
}
#[cfg(not(target_arch = "x86_64"))]
fn x32() -> impl Iterator<Item = c_long> {
    std::iter::empty()
}

#[cfg(test)]
mod tests;
