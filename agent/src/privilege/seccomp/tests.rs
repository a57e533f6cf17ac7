//! What a process can do under the filter, and what it can't.

use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::*;

/// Runs what must hold under the filter in a process of its own, which is bound by it for ever; its exit code is that of the
/// first expectation that failed, from 1.
fn under_the_filter(expectations: &[fn() -> bool]) -> i32 {
    // SAFETY: the child makes system calls and starts threads, and ends without running anything of its parent's.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let failed = match install() {
                Ok(()) => expectations.iter().position(|holds| !holds()).map_or(0, |index| index as i32 + 1),
                Err(_) => 100,
            };
            // SAFETY: it ends the process at once.
            unsafe { libc::_exit(failed) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("it is our child") {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        },
    }
}

fn is_denied(result: Result<(), Errno>) -> bool {
    result == Err(Errno::EPERM)
}

#[test]
fn what_leads_out_of_the_process_is_denied() {
    let expectations: [fn() -> bool; 5] = [
        || is_denied(unshare(CloneFlags::CLONE_NEWNET)),
        || is_denied(unshare(CloneFlags::CLONE_NEWUSER)),
        || is_denied(traced()),
        || is_denied(nix::mount::umount("/nowhere")),
        // If it could, it would end with 1.
        || is_denied(nix::unistd::execv(c"/bin/false", &[c"false"]).map(|never| match never {})),
    ];
    assert_eq!(under_the_filter(&expectations), 0, "the number of the first that was not denied");
    // Their twins without it.
    assert_eq!(nix::mount::umount("/nowhere"), Err(Errno::ENOENT), "tests run as root");
    assert!(Command::new("/bin/true").status().expect("it can be started").success());
}

#[test]
fn a_thread_in_new_namespaces_is_denied_by_whatever_call() {
    let expectations: [fn() -> bool; 3] = [
        || is_denied(cloned(libc::SYS_clone, libc::CLONE_NEWUSER)),
        || is_denied(cloned(libc::SYS_clone, libc::CLONE_NEWNET | libc::CLONE_NEWNS)),
        || cloned(libc::SYS_clone3, 0) == Err(Errno::ENOSYS),
    ];
    assert_eq!(under_the_filter(&expectations), 0, "the number of the first that was not denied");
}

#[test]
fn threads_files_and_sockets_work() {
    let expectations: [fn() -> bool; 3] = [
        || std::thread::spawn(|| 7).join().is_ok_and(|seven| seven == 7),
        || std::fs::read("/proc/self/status").is_ok(),
        || std::net::UdpSocket::bind(("127.0.0.1", 0)).is_ok(),
    ];
    assert_eq!(under_the_filter(&expectations), 0, "the number of the first that did not work");
}

fn traced() -> Result<(), Errno> {
    // SAFETY: it takes no pointers.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_TRACEME) }).map(drop)
}

fn cloned(call: c_long, flags: i32) -> Result<(), Errno> {
    // SAFETY: without CLONE_VM a child, if there is one, has a copy of everything.
    let result = unsafe { libc::syscall(call, c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) };
    if result == 0 {
        // SAFETY: it ends the child at once.
        unsafe { libc::_exit(0) }
    }
    Errno::result(result).map(drop)
}
