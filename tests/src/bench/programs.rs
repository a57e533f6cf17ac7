//! The packet path alone: each program over one frame, by `BPF_PROG_TEST_RUN`, beside "parse and one hash look-up" at the
//! same hook, in turns within one run.

use anyhow::{Result, ensure};
use bulkhead_ebpf::abi::{Hook, Reason, Verdict};
use bulkhead_ebpf::packet::tcp::{ACK, SYN};

use super::harness::{Harness, LOCAL, PEER, PORT, text};
use super::{Figure, median};
use crate::packet::{Ip, ethernet, tcp};

/// A program, its twin in the baseline, and the way its packets go.
struct Row {
    program: &'static str,
    baseline: &'static str,
    hook: Hook,
    is_egress: bool,
    /// The program that makes the flows which this one knows.
    tracked_by: &'static str,
    /// The program that sees what goes the other way.
    answered_by: &'static str,
}

const ROWS: [Row; 5] = [
    row("cgroup_egress", "baseline_cgroup", Hook::CgroupEgress, true, "cgroup_egress", "cgroup_ingress"),
    row("cgroup_ingress", "baseline_cgroup", Hook::CgroupIngress, false, "cgroup_ingress", "cgroup_egress"),
    row("tc_egress", "baseline_tc", Hook::TcEgress, true, "tc_egress", "tc_ingress"),
    row("tc_ingress", "baseline_tc", Hook::TcIngress, false, "tc_ingress", "tc_egress"),
    row("uplink", "baseline_xdp", Hook::Xdp, false, "tc_ingress", "tc_egress"),
];

const fn row(
    program: &'static str,
    baseline: &'static str,
    hook: Hook,
    is_egress: bool,
    tracked_by: &'static str,
    answered_by: &'static str,
) -> Row {
    Row { program, baseline, hook, is_egress, tracked_by, answered_by }
}

/// Turns that each figure is the median of, and runs of a program in a turn.
const ROUNDS: u32 = 21;
const REPEAT: u32 = 100_000;
/// New flows that their figure is the median of; each is one run, as a second one would not be new.
const NEW_FLOWS: u16 = 2_001;

/// At most these many times the baseline.
const ESTABLISHED: f64 = 1.25;
const DENIED: f64 = 4.0;
const NEW: f64 = 10.0;

/// Measures everything.
///
/// # Errors
/// Where the kernel refuses a program or a run, or a program does not answer as it should.
pub fn measure() -> Result<Vec<Figure>> {
    let mut harness = Harness::new()?;
    let mut figures = Vec::new();
    for version in [4, 6] {
        for row in &ROWS {
            measure_row(&mut harness, row, version, &mut figures)?;
        }
    }
    for (name, verified, jited) in harness.sizes()? {
        figures.push(Figure::told(format!("verified instructions, {name}"), f64::from(verified), "instructions"));
        figures.push(Figure::told(format!("machine code, {name}"), f64::from(jited), "bytes"));
    }
    Ok(figures)
}

fn measure_row(harness: &mut Harness, row: &Row, version: u8, figures: &mut Vec<Figure>) -> Result<()> {
    let frame = |source_port: u16, port: u16, flags: u8| frame(version, row.is_egress, source_port, port, flags);
    harness.forget_flows()?;
    harness.set_tuple(tuple(&frame(40_000, PORT, ACK)))?;
    let passes = harness.run(row.tracked_by, &frame(40_000, PORT, SYN), 1)?.0;
    let answer = self::frame(version, !row.is_egress, PORT, 40_000, SYN | ACK);
    harness.run(row.answered_by, &answer, 1)?;
    harness.run(row.tracked_by, &frame(40_000, PORT, ACK), 1)?;
    let established = frame(40_000, PORT, ACK);
    let denied = frame(40_000, PORT + 1, SYN);

    let known = |harness: &mut Harness| -> Result<u64> {
        let counts = harness.counts()?;
        Ok(counts.get(&(row.hook, Verdict::Allow, Reason::Established)).map_or(0, |count| count.packets))
    };
    let before = known(harness)?;
    let (mut baseline, mut fast, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (hit, time) = harness.run(row.baseline, &established, REPEAT)?;
        ensure!(hit == baseline_answer(row), "{} does not find the flow in its table", row.baseline);
        baseline.push(time.as_nanos() as f64);
        let (answer, time) = harness.run(row.program, &established, REPEAT)?;
        ensure!(row.hook == Hook::Xdp || answer == passes, "{} does not let the flow pass", row.program);
        fast.push(time.as_nanos() as f64);
        let (answer, time) = harness.run(row.program, &denied, REPEAT)?;
        ensure!(
            answer != passes || row.hook == Hook::Xdp && answer == 1,
            "{} lets pass what it must deny",
            row.program
        );
        refused.push(time.as_nanos() as f64);
    }
    let expected = u64::from(ROUNDS) * u64::from(REPEAT);
    let seen = known(harness)? - before;
    ensure!(seen == expected, "{}: {seen} packets of {expected} took the established path", row.program);

    let mut new = Vec::new();
    for port in 0..NEW_FLOWS {
        let (_, time) = harness.run(row.program, &frame(10_000 + port, PORT, SYN), 1)?;
        new.push(time.as_nanos() as f64);
    }

    let unit = median(baseline);
    let name = |what: &str| format!("{what}, {}, IPv{version}", row.program);
    figures.push(Figure::told(name("parse and one hash look-up"), unit, "ns"));
    figures.push(Figure::told(name("established flow"), median(fast.clone()), "ns"));
    figures.push(Figure::at_most(name("established flow"), round(median(fast) / unit), "ratio", ESTABLISHED));
    figures.push(Figure::at_most(name("denied packet"), round(median(refused) / unit), "ratio", DENIED));
    figures.push(Figure::at_most(name("new allowed flow"), round(median(new) / unit), "ratio", NEW));
    Ok(())
}

/// What the baseline answers where it finds its entry.
fn baseline_answer(row: &Row) -> i32 {
    match row.hook {
        Hook::Xdp => 2,
        Hook::TcEgress | Hook::TcIngress => 0,
        _ => 1,
    }
}

fn round(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// A frame of a connection to [`PORT`], from the workload or to it.
fn frame(version: u8, is_egress: bool, source_port: u16, port: u16, flags: u8) -> Vec<u8> {
    let (from, to) = if is_egress { (LOCAL, PEER) } else { (PEER, LOCAL) };
    ethernet(&[], &Ip::new(&text(version, from), &text(version, to), tcp(source_port, port, flags)).bytes())
}

/// The baseline's key of a frame.
fn tuple(frame: &[u8]) -> [u32; 10] {
    let word = |at: usize| u32::from_ne_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let mut tuple = [0; 10];
    tuple[9] = 6;
    if frame[14] >> 4 == 4 {
        (tuple[3], tuple[7], tuple[8]) = (word(26), word(30), word(34));
    } else {
        (0..8).for_each(|index| tuple[index] = word(22 + index * 4));
        tuple[8] = word(54);
    }
    tuple
}
