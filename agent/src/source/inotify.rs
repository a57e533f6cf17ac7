//! Inotify for tokio: what the file and the cgroup source wait on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What to do where the kernel allows no further watch.
pub(super) const MORE_WATCHES: &str = "raise the sysctl fs.inotify.max_user_watches";

/// An inotify instance. The kernel queues what happens below its watches; when the queue is full it says so with
/// `IN_Q_OVERFLOW` and drops the rest.
#[derive(Debug)]
pub(super) struct Watcher {
    descriptor: AsyncFd<Descriptor>,
    #[cfg(test)]
    pub(super) watches_left: std::sync::atomic::AtomicUsize,
}

impl Watcher {
    /// A new instance, without watches. Needs a running tokio.
    ///
    /// # Errors
    /// The user has as many instances as the kernel allows; the message says what to do.
    pub(super) fn new() -> anyhow::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|error| match error {
            Errno::EMFILE => anyhow::anyhow!(
                "no inotify instance is left ({error}); raise the sysctl fs.inotify.max_user_instances or the limit of open files"
            ),
            error => anyhow::anyhow!("the kernel refuses an inotify instance: {error}"),
        })?;
        Ok(Self {
            // SAFETY: the instance owns its descriptor, and neither closes nor changes it before it is dropped.
            descriptor: unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) }?,
            #[cfg(test)]
            watches_left: usize::MAX.into(),
        })
    }

    /// Watches a directory; a second time gives the same watch.
    ///
    /// # Errors
    /// As inotify_add_watch(2); `ENOSPC` means that [`MORE_WATCHES`] are needed.
    pub(super) fn add(&self, directory: &Path, mask: AddWatchFlags) -> Result<WatchDescriptor, Errno> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering::Relaxed;
            let taken = self.watches_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            taken.map_err(|_| Errno::ENOSPC)?;
        }
        self.descriptor.get_ref().0.add_watch(directory, mask | AddWatchFlags::IN_ONLYDIR)
    }

    /// Drops a watch, where the kernel has not done so already.
    pub(super) fn remove(&self, watch: WatchDescriptor) {
        // EINVAL says that the directory went, and its watch with it.
        let _ = self.descriptor.get_ref().0.rm_watch(watch);
    }

    /// How many watches the kernel holds.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let descriptor = self.descriptor.get_ref().as_raw_fd();
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).expect("it is open");
        told.lines().filter(|line| line.starts_with("inotify wd:")).count()
    }

    /// Waits for what happens next; at least one event.
    ///
    /// # Errors
    /// As read(2).
    pub(super) async fn read(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            match ready.try_io(|descriptor| Ok(descriptor.get_ref().0.read_events()?)) {
                Ok(Ok(events)) if events.is_empty() => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(outcome) => return outcome,
                Err(_would_block) => {}
            }
        }
    }

    /// What has happened already, without waiting; empty where nothing has.
    ///
    /// # Errors
    /// As read(2).
    pub(super) fn pending(&self) -> io::Result<Vec<InotifyEvent>> {
        match self.descriptor.get_ref().0.read_events() {
            Err(Errno::EAGAIN) => Ok(Vec::new()),
            outcome => Ok(outcome?),
        }
    }
}

/// Tokio asks for a raw descriptor, which nix's type does not give.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
