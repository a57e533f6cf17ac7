//! Waiting for the packets that are being judged at this moment.

use std::time::{Duration, Instant};

/// A packet that takes longer than this does not exist: nothing on its path waits for anything. It is what is waited for where
/// the kernel can't tell.
const LONGEST: Duration = Duration::from_millis(200);
/// `MEMBARRIER_CMD_GLOBAL` (include/uapi/linux/membarrier.h): `synchronize_rcu`, where there are several CPUs and none of them
/// does without the clock's ticks (kernel/sched/membarrier.c). The kernel runs every program that we attach within RCU.
const MEMBARRIER_CMD_GLOBAL: i32 = 1;

/// Returns once every packet is judged that was being judged at `since`. What long is over costs nothing.
pub(super) fn let_packets_end(since: Instant) {
    let left = LONGEST.saturating_sub(since.elapsed());
    let is_over = left.is_zero() || has_several_cpus() && waits_for_rcu();
    if !is_over {
        std::thread::sleep(left);
    }
}

fn has_several_cpus() -> bool {
    nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).is_ok_and(|count| count > Some(1))
}

fn waits_for_rcu() -> bool {
    // SAFETY: the call takes three numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_over_is_not_waited_for() {
        let now = Instant::now();
        if let Some(long_ago) = now.checked_sub(LONGEST) {
            let_packets_end(long_ago);
            assert!(now.elapsed() < LONGEST);
        }
        let_packets_end(now);
    }
}
