//! A wall clock that jumps. It belongs to the whole machine, so that only one in emulation, which is the tests' alone, is tried.

use std::time::{Duration, Instant};

use bulkhead_tests::check::is_emulated;
use bulkhead_tests::document::{from_all, group};
use bulkhead_tests::lab::{Lab, Outcome, Version};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

const DAY: i64 = 86_400;

/// The wall clock, which is right again in the end.
struct Clock {
    before: TimeSpec,
    since: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { before: clock_gettime(ClockId::CLOCK_REALTIME).expect("there is a clock"), since: Instant::now() }
    }

    /// Sets it to so many days from the right time.
    fn jump(&self, days: i64) {
        let right = Duration::from(self.before) + self.since.elapsed();
        let seconds = i64::try_from(right.as_secs()).expect("this century") + days * DAY;
        let time = TimeSpec::new(seconds, right.subsec_nanos().into());
        clock_settime(ClockId::CLOCK_REALTIME, time).expect("the machine is the tests' own");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.jump(0);
    }
}

#[test]
fn a_wall_clock_that_jumps_cuts_nothing_opens_nothing_and_keeps_no_policy_waiting() {
    if !is_emulated() {
        println!("not tried: the wall clock is not the tests' own here; `cargo xtask test --kernel 6.12 clock` does");
        return;
    }
    let mut lab = Lab::new();
    let server = lab.container("server", "app=server");
    let friend = lab.container("friend", "app=friend");
    server.serve(&[8000, 9000]);
    lab.declare(&server);
    lab.declare(&friend);
    lab.policy("groups.yaml", &group("server", 100, "server", &[&from_all(&[8000])]));
    let agent = lab.agent_with(&["--midstream", "deny"]);
    let kept = friend.keep(server.at(Version::V4, 8000));
    let clock = Clock::now();
    let mut open = [8000, 9000];
    for days in [1, -2, 3_650, 0] {
        clock.jump(days);
        let [allowed, denied] = open;
        assert_eq!(friend.tcp(server.at(Version::V6, allowed)), Outcome::Reached, "{days} days\n{}", agent.dump());
        assert_eq!(friend.tcp(server.at(Version::V4, denied)), Outcome::Silent, "{days} days\n{}", agent.dump());
        // It was opened to the other port, and that one's rule comes and goes.
        if allowed == 8000 {
            assert_eq!(friend.exchange(kept), Outcome::Reached, "{days} days: the connection is cut\n{}", agent.dump());
        }
        open.reverse();
        lab.policy("groups.yaml", &group("server", 100, "server", &[&from_all(&open[..1])]));
        agent.eventually("the new policy holds", || {
            (friend.tcp(server.at(Version::V4, open[0])) == Outcome::Reached).then_some(())
        });
        assert!(agent.is_ready(), "{days} days\n{}", agent.dump());
    }
}
