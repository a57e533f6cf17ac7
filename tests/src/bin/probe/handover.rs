//! Sockets that go from one process to another over a Unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// How long the other process may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for it.
const INTERVAL: Duration = Duration::from_millis(5);

/// Gives a socket to whoever takes it at `path`.
pub fn give(socket: &OwnedFd, path: &Path) -> Result<()> {
    let stream = soon(|| UnixStream::connect(path)).context("nobody takes it")?;
    let rights = [socket.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"s")], &message, MsgFlags::empty(), None)?;
    Ok(())
}

/// Takes a socket from whoever gives it at `path`.
pub fn take(path: &Path) -> Result<OwnedFd> {
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    let (stream, _) = soon(|| listener.accept()).context("nobody gives it")?;
    stream.set_nonblocking(false)?;
    let (mut byte, mut space) = ([0], cmsg_space!([i32; 1]));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let [descriptor] = descriptors[..]
        {
            // SAFETY: the kernel has just made it for this process, and nobody else has it.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    bail!("no socket came")
}

fn soon<T>(mut attempt: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(INTERVAL),
            ended => return ended,
        }
    }
}
