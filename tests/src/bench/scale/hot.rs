//! The same packets with few entries in the tables and with very many: the packet path must not tell them apart.

use std::net::Ipv4Addr;
use std::thread;

use anyhow::{Result, ensure};
use bulkhead_ebpf::abi::{Address, Direction, Party, Row, RowKey, RuleKey, RuleRef};
use bulkhead_ebpf::packet::tcp::{ACK, SYN};

use crate::bench::harness::{Harness, LOCAL, PEER, PORT, SLOT_PEER, text};
use crate::bench::{Figure, median};
use crate::packet::{Ip, ethernet, tcp};

/// Rules, as references in rows of the workload that is judged, and addresses: few and many.
const RULES: [u32; 2] = [10, 100_000];
const ADDRESSES: [u32; 2] = [10, 1_000_000];
/// Slots that one of the rows allows.
const SLOTS: u32 = 100;

/// Programs whose packets are judged, and those that see the answers.
const PROGRAMS: [(&str, &str); 2] = [("cgroup_ingress", "cgroup_egress"), ("tc_ingress", "tc_egress")];

/// Turns that each figure is the median of, runs of a program in a turn, and new flows, each of which is one run.
const ROUNDS: usize = 41;
const REPEAT: u32 = 20_000;
const NEW_FLOWS: u16 = 50;

/// At most this many times as long.
const TARGET: f64 = 1.05;

/// Times of one program, in nanoseconds.
#[derive(Default)]
struct Times {
    established: Vec<f64>,
    denied: Vec<f64>,
    new: Vec<f64>,
}

pub(super) fn measure() -> Result<Vec<Figure>> {
    // The harness takes its thread to another network namespace.
    thread::spawn(|| {
        let mut few = filled(RULES[0], ADDRESSES[0])?;
        let mut figures = Vec::new();
        for (what, rules, addresses) in
            [("100,000 rules", RULES[1], ADDRESSES[0]), ("a million addresses", RULES[0], ADDRESSES[1])]
        {
            let mut many = filled(rules, addresses)?;
            for (program, answers) in PROGRAMS {
                compare(&mut few, &mut many, (program, answers), what, &mut figures)?;
            }
        }
        Ok(figures)
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The harness's own policy among so many rules of the same workload, and its parties among so many addresses.
fn filled(rules: u32, addresses: u32) -> Result<Harness> {
    let mut harness = Harness::new()?;
    for rule in 0..rules {
        // The harness's own rules are of class 1.
        let class = u16::try_from(2 + rule / SLOTS)?;
        let row = RowKey::new(1, 1, Direction::Ingress, class);
        let slot = SLOT_PEER + u16::try_from(rule % SLOTS)?;
        harness.set("RULE_REFS", RuleKey { row, slot, reserved: 0 }, RuleRef { rule: 2 + rule, flags: 0 })?;
        if rule % SLOTS == 0 {
            let mut allowed = Row::EMPTY;
            (SLOT_PEER..SLOT_PEER + u16::try_from(SLOTS)?).for_each(|slot| allowed.allow(slot));
            harness.set("ROWS", row, allowed)?;
        }
    }
    for number in 0..addresses {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(11, 0, 0, 0).to_bits() + number);
        harness.set("ADDRESSES", Address::v4(address.octets()), Party { identity: 2, workload: 3, flags: 0 })?;
    }
    Ok(harness)
}

fn compare(
    few: &mut Harness,
    many: &mut Harness,
    (program, answers): (&str, &str),
    what: &str,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let mut times = [Times::default(), Times::default()];
    for round in 0..ROUNDS {
        // Neither is always the first.
        for turn in [round % 2, (round + 1) % 2] {
            let harness = if turn == 0 { &mut *few } else { &mut *many };
            time(harness, program, answers, &mut times[turn])?;
        }
    }
    let [few, many] = times;
    for (kind, few, many) in [
        ("established flow", few.established, many.established),
        ("denied packet", few.denied, many.denied),
        ("new allowed flow", few.new, many.new),
    ] {
        let ratio = (median(many) / median(few) * 100.0).round() / 100.0;
        figures.push(Figure::at_most(format!("{kind}, {program}, {what} against 10"), ratio, "ratio", TARGET));
    }
    Ok(())
}

fn time(harness: &mut Harness, program: &str, answers: &str, times: &mut Times) -> Result<()> {
    harness.forget_flows()?;
    let (passes, _) = harness.run(program, &frame(PEER, LOCAL, 40_000, PORT, SYN), 1)?;
    harness.run(answers, &frame(LOCAL, PEER, PORT, 40_000, SYN | ACK), 1)?;
    harness.run(program, &frame(PEER, LOCAL, 40_000, PORT, ACK), 1)?;
    let (answer, time) = harness.run(program, &frame(PEER, LOCAL, 40_000, PORT, ACK), REPEAT)?;
    ensure!(answer == passes, "{program} does not let the flow pass");
    times.established.push(time.as_nanos() as f64);
    let (answer, time) = harness.run(program, &frame(PEER, LOCAL, 40_000, PORT + 1, SYN), REPEAT)?;
    ensure!(answer != passes, "{program} lets pass what it must deny");
    times.denied.push(time.as_nanos() as f64);
    let mut new = Vec::new();
    for port in 0..NEW_FLOWS {
        let (answer, time) = harness.run(program, &frame(PEER, LOCAL, 10_000 + port, PORT, SYN), 1)?;
        ensure!(answer == passes, "{program} denies a new flow");
        new.push(time.as_nanos() as f64);
    }
    times.new.push(median(new));
    Ok(())
}

fn frame(from: u8, to: u8, source_port: u16, port: u16, flags: u8) -> Vec<u8> {
    ethernet(&[], &Ip::new(&text(4, from), &text(4, to), tcp(source_port, port, flags)).bytes())
}
