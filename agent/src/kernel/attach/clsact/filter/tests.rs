//! What answers mean, and real filters in a network namespace of the test's own.

use std::process::Command;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use super::*;

fn filter(options: Vec<TcFilterBpfOption>) -> TcMessage {
    let options = options.into_iter().map(TcOption::Bpf).collect();
    TcMessage::from_parts(
        TcHeader::default(),
        vec![TcAttribute::Kind("bpf".into()), TcAttribute::Chain(0), TcAttribute::Options(options)],
    )
}

#[test]
fn a_filter_is_known_by_its_program_if_that_decides() {
    let program = || TcFilterBpfOption::ProgId(39);
    let direct = || TcFilterBpfOption::Flags(TcBpfFlags::DirectAction);
    let name = TcFilterBpfOption::ProgName("tc_egress".into());
    assert_eq!(found(&filter(vec![name.clone(), direct(), program()])), Found::Program(39));
    assert_eq!(found(&filter(vec![name.clone(), program()])), Found::Other, "its verdict is thrown away");
    assert_eq!(found(&filter(vec![name, direct()])), Found::Other, "classic BPF has no ID");
    assert_eq!(found(&TcMessage::default()), Found::Other);
}

#[test]
fn a_place_is_that_of_one_side_alone() {
    let parents = [TcAttachType::Ingress, TcAttachType::Egress].map(|side| u32::from(place(7, side).header.parent));
    assert_eq!(parents, [0xffff_fff2, 0xffff_fff3]);
}

/// A filter that runs a program without an ID.
const CLASSIC: [&str; 4] = ["bpf", "direct-action", "bytecode", "1,6 0 0 0"];

fn tc(command: &str, filter: &[&str]) {
    let output = Command::new("tc").args(command.split(' ')).args(filter).output().expect("iproute2 is installed");
    assert!(output.status.success(), "tc {command}: {output:?}");
}

#[test]
fn the_kernel_says_what_is_in_the_place() {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        let loopback = if_nametoindex("lo").expect("every namespace has it");
        let sides = || {
            [TcAttachType::Ingress, TcAttachType::Egress].map(|side| look(loopback, side).expect("the kernel answers"))
        };
        assert_eq!(sides(), [Found::Nothing, Found::Nothing], "no qdisc");
        tc("qdisc add dev lo clsact", &[]);
        assert_eq!(sides(), [Found::Nothing, Found::Nothing], "no filter");
        for another in ["pref 175 handle 1", "pref 176 handle 2"] {
            tc(&format!("filter add dev lo ingress protocol all {another}"), &CLASSIC);
            assert_eq!(sides(), [Found::Nothing, Found::Nothing], "{another}");
        }
        tc("filter add dev lo egress protocol all pref 176 handle 1", &CLASSIC);
        assert_eq!(sides(), [Found::Nothing, Found::Other]);
        assert_eq!(look(u32::from(u16::MAX), TcAttachType::Egress).ok(), Some(Found::Nothing), "no such interface");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
