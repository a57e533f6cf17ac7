//! A process in a cgroup that makes test runs for others.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::test_run::test_run;

/// Program, interface and frame.
const REQUEST: usize = 8 + 512;

/// One such process. It ends when this is dropped, or the test is.
pub(super) struct Worker {
    socket: OwnedFd,
    process: Pid,
}

impl Worker {
    /// Starts a process in `cgroup`. It inherits every open descriptor, so programs must be loaded before.
    pub(super) fn start(cgroup: &Path) -> Result<Self> {
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // SAFETY: the child only makes system calls, over memory that it has already, and never returns.
        match unsafe { fork() }.context("starting a process")? {
            ForkResult::Child => {
                drop(socket);
                serve(&theirs);
            }
            ForkResult::Parent { child } => {
                let worker = Self { socket, process: child };
                std::fs::write(cgroup.join("cgroup.procs"), child.to_string())
                    .with_context(|| format!("moving a process to {}", cgroup.display()))?;
                Ok(worker)
            }
        }
    }

    /// Has the process run a program.
    pub(super) fn test_run(&self, program: i32, interface: u32, frame: &[u8]) -> io::Result<u32> {
        let mut request = [0; REQUEST];
        request[..4].copy_from_slice(&program.to_ne_bytes());
        request[4..8].copy_from_slice(&interface.to_ne_bytes());
        request[8..8 + frame.len()].copy_from_slice(frame);
        send(self.socket.as_raw_fd(), &request[..8 + frame.len()], MsgFlags::empty())?;
        let mut answer = [0; 8];
        recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let [a, b, c, d, e, f, g, h] = answer;
        match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(u32::from_ne_bytes([e, f, g, h])),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = waitpid(self.process, None);
    }
}

fn serve(socket: &OwnedFd) -> ! {
    // SAFETY: plain system calls. The process ends with the thread that started it, even where that is killed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let mut request = [0; REQUEST];
    loop {
        let length = recv(socket.as_raw_fd(), &mut request, MsgFlags::empty()).unwrap_or(0);
        if length < 8 {
            // SAFETY: ends the process without running what the parent's memory holds.
            unsafe { libc::_exit(0) };
        }
        let word = |at: usize| [request[at], request[at + 1], request[at + 2], request[at + 3]];
        let (program, interface) = (i32::from_ne_bytes(word(0)), u32::from_ne_bytes(word(4)));
        let (errno, passed) = match test_run(program, Some(interface), &request[8..length]) {
            Ok(passed) => (0, passed),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), 0),
        };
        let mut answer = [0; 8];
        answer[..4].copy_from_slice(&errno.to_ne_bytes());
        answer[4..].copy_from_slice(&passed.to_ne_bytes());
        let _ = send(socket.as_raw_fd(), &answer, MsgFlags::empty());
    }
}
