//! Network namespaces for tests, changed with iproute2.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use tokio::task::LocalSet;

/// Runs a test on a thread of its own in a new network namespace, which goes with the thread.
pub(super) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(LocalSet::new().run_until(test()));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs commands of `ip`, one a line, in this thread's network namespace.
pub(super) fn ip(commands: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2");
    child.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("writing");
    assert!(child.wait().expect("it ends").success(), "ip -batch: {commands}");
}

/// A pair of links that the kernel gives no address to by itself.
pub(super) fn pair() {
    ip(
        "link add veth-a type veth peer name veth-b\nlink set veth-b addrgenmode none\nlink set veth-a addrgenmode none",
    );
}
