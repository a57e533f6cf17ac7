//! Model, user-space decision and the programs in the kernel, held against each other, packet by packet.

mod shrink;
mod story;
mod userspace;
mod wire;

mod kernel;

pub use kernel::Kernel;
pub use shrink::shrink;
pub use story::story;
pub use userspace::{Counts, Userspace};
pub use wire::{ethernet_frame, packet};

use bulkhead_ebpf::abi::{Reason, Settings, Verdict};

use crate::model::{Answer, Model, Packet, RuleName, Timeouts, World};
use crate::world::{Case, Step};

/// Something that judges packets in a world.
pub trait Implementation {
    /// What it is called in a story.
    fn name(&self) -> &'static str;
    /// Makes the world so, and forgets all flows.
    fn start(&mut self, world: &World);
    /// Makes the world so; flows stay.
    fn change(&mut self, world: &World);
    /// Lets seconds pass.
    fn wait(&mut self, seconds: u64);
    /// Judges a packet.
    fn judge(&mut self, packet: &Packet) -> Outcome;
}

/// What an implementation says of a packet, as far as it can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the packet passes.
    pub passes: bool,
    /// Verdict and reason.
    pub verdict: Option<(Verdict, Reason)>,
    /// The rule that decided.
    pub rule: Option<RuleName>,
}

/// Where an implementation differs from the model.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which implementation.
    pub implementation: &'static str,
    /// The step, an index into the case's.
    pub step: usize,
    /// What the model says.
    pub expected: Answer,
    /// What the implementation says.
    pub found: Outcome,
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Packets that the model allows, audits, denies.
    pub verdicts: [u64; 3],
    /// Packets that may have belonged to a tracked flow.
    pub established: u64,
    /// Changes of the world.
    pub changes: u64,
}

/// Seconds around a time-out in which either answer would be right: the time of a packet is noted once a second.
pub const MARGIN: f64 = 2.5;

/// Runs a case through the model and the implementations, up to the first difference.
pub fn run(case: &Case, implementations: &mut [&mut dyn Implementation], tally: &mut Tally) -> Option<Difference> {
    let mut model = Model::new(case.world.clone(), timeouts());
    let (mut now, mut lost) = (0, false);
    for implementation in &mut *implementations {
        implementation.start(&case.world);
    }
    for (step, happens) in case.steps.iter().enumerate() {
        match happens {
            Step::Wait(seconds) => {
                now += seconds;
                implementations.iter_mut().for_each(|implementation| implementation.wait(*seconds));
            }
            Step::Change(world) => {
                tally.changes += 1;
                model.change(world);
                implementations.iter_mut().for_each(|implementation| implementation.change(world));
            }
            Step::Onward(_) if lost => {}
            Step::Packet(packet) | Step::Onward(packet) => {
                while model.on_the_brink(now as f64, MARGIN) {
                    now += 3;
                    implementations.iter_mut().for_each(|implementation| implementation.wait(3));
                }
                let expected = model.judge(packet, now as f64);
                lost = expected.verdict == Verdict::Deny;
                tally.packets += 1;
                tally.verdicts[expected.verdict as usize] += 1;
                tally.established += u64::from(expected.reasons.contains(&Reason::Established));
                for implementation in &mut *implementations {
                    let found = implementation.judge(packet);
                    if !agrees(&expected, &found) {
                        return Some(Difference { implementation: implementation.name(), step, expected, found });
                    }
                }
            }
        }
    }
    None
}

/// Whether an implementation's outcome is one that the model's answer leaves.
#[must_use]
pub fn agrees(expected: &Answer, found: &Outcome) -> bool {
    let passes = found.passes == (expected.verdict != Verdict::Deny);
    // What is never cut, or for nobody here, may be of a flow too, and that one in audit.
    let is_unasked = expected.reasons.iter().any(|reason| matches!(reason, Reason::NeverCut | Reason::NotLocal));
    let is_same = |(verdict, reason)| verdict == expected.verdict && expected.reasons.contains(&reason);
    let verdict = is_unasked || found.verdict.is_none_or(is_same);
    let rule = found.rule.as_ref().is_none_or(|rule| expected.rules.contains(rule));
    passes && verdict && rule
}

/// The defaults, in seconds.
#[must_use]
pub const fn timeouts() -> Timeouts {
    let Settings { tcp_embryonic, tcp_established, tcp_closing, udp_one_way, udp_stream, icmp, other, .. } =
        Settings::defaults(1);
    Timeouts {
        tcp_embryonic: tcp_embryonic as f64,
        tcp_established: tcp_established as f64,
        tcp_closing: tcp_closing as f64,
        udp_one_way: udp_one_way as f64,
        udp_stream: udp_stream as f64,
        icmp: icmp as f64,
        other: other as f64,
    }
}
