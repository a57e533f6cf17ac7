//! Network namespaces, held by descriptor alone: the last process that holds one takes it away when it dies, however it dies.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};

use crate::check::{DEADLINE, slowed};

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, with its loopback up, that forwards, skips duplicate address detection (a second's wait for each address)
    /// and lets anyone ping.
    ///
    /// # Errors
    /// Not root, or the system refuses.
    pub fn new() -> Result<Self> {
        let file = thread::scope(|scope| {
            scope
                .spawn(|| -> Result<File> {
                    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace; be root")?;
                    File::open("/proc/thread-self/ns/net").context("cannot open the network namespace")
                })
                .join()
                .expect("the thread returns its errors")
        })?;
        let namespace = Self { file };
        namespace.enter(|| {
            for (name, value) in [
                ("ipv6/conf/all/accept_dad", "0"),
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv4/ip_forward", "1"),
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/default/rp_filter", "0"),
                ("ipv4/ping_group_range", "0 2147483647"),
            ] {
                let path = PathBuf::from("/proc/sys/net").join(name);
                fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        })?;
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// A path that names the namespace for as long as this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs something inside, on a thread of its own.
    ///
    /// # Errors
    /// What `inside` returns, or the system refuses.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
                inside()
            });
            thread.join().expect("the thread returns its errors")
        })
    }

    /// Has `command` start inside.
    pub fn place(&self, command: &mut Command) {
        let namespace = self.file.as_raw_fd();
        // SAFETY: setns is a plain system call, which may be made between fork and exec; the descriptor is open there,
        // because the child has a copy of every descriptor of its parent until exec.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(namespace, libc::CLONE_NEWNET) == 0 {
                    return Ok(());
                }
                Err(std::io::Error::last_os_error())
            });
        }
    }

    /// Runs commands of `ip`, one a line, inside.
    ///
    /// # Errors
    /// `ip` is missing or refuses one of them.
    pub fn ip(&self, batch: &str) -> Result<()> {
        self.ask_ip(batch).map(drop)
    }

    /// Waits until a link carries packets and its addresses are answered for. The kernel gets there after both ends are up, when
    /// it has the time, and loses what is sent before.
    ///
    /// # Errors
    /// There is no such link, or its other end does not get up.
    pub fn await_link(&self, link: &str) -> Result<()> {
        let deadline = Instant::now() + slowed(DEADLINE);
        let is_up = || self.ask_ip(&format!("link show dev {link}\n")).map(|text| text.contains(" state UP "));
        let is_tentative =
            || self.ask_ip(&format!("address show dev {link} tentative\n")).map(|text| text.contains("inet6"));
        while !is_up()? || is_tentative()? {
            ensure!(Instant::now() < deadline, "the link {link} carries nothing: is its other end up?");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// As [`Self::ip`]; returns what it prints.
    ///
    /// # Errors
    /// As above.
    pub fn ask_ip(&self, batch: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.place(&mut command);
        let mut child = command.spawn().context("cannot start `ip`; install iproute2 (`cargo xtask setup`)")?;
        child.stdin.take().expect("it is piped").write_all(batch.as_bytes()).context("cannot write to `ip`")?;
        let output = child.wait_with_output().context("cannot wait for `ip`")?;
        if !output.status.success() {
            bail!("`ip` refuses: {}; it was told:\n{batch}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
