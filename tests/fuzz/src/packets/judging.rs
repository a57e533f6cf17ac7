//! What holds of a sequence's verdicts: the packet path's decision is the reference model's.

use std::cell::RefCell;
use std::collections::HashMap;

use bulkhead_ebpf::packet::Part;
use bulkhead_tests::equivalence::{Implementation, MARGIN, Userspace, agrees, timeouts};
use bulkhead_tests::model::{ICMP, ICMPV6, Message, Model, Packet, Quote, Spot, World};
use bulkhead_tests::world::{Random, Stage, world, world_without_scopes};

use super::reference::{self, Carried, Facts, Transport};
use super::{Record, WORLDS, has_ethernet};

thread_local! {
    /// Worlds, with tables that hold them: making those takes a thousand times longer than a packet.
    static STAGED: RefCell<HashMap<u8, (World, Userspace)>> = RefCell::default();
}

/// The world of a number.
pub fn numbered(world_number: u8) -> World {
    let (mut random, stage) = (Random::new(u64::from(world_number)), Stage::imagined());
    // The first half are those that the oldest files of the corpus are about.
    if world_number < WORLDS / 2 { world_without_scopes(&mut random, &stage) } else { world(&mut random, &stage) }
}

/// Judges a sequence in a world by both.
pub fn check(world_number: u8, records: &[Record]) {
    STAGED.with_borrow_mut(|staged| {
        let (world, userspace) = staged
            .entry(world_number)
            .or_insert_with(|| (numbered(world_number), Userspace::new(Stage::imagined())));
        let mut model = Model::new(world.clone(), timeouts());
        userspace.start(world);
        let mut now = 0;
        for (step, record) in records.iter().enumerate() {
            let (spot, bytes) = match record {
                Record::Wait(seconds) => {
                    now += seconds;
                    userspace.wait(*seconds);
                    continue;
                }
                Record::Packet(spot, bytes) => (spot, bytes),
            };
            let packet = packet(spot, bytes);
            if !is_of_two_ends(&packet) || !has_link(world, spot) {
                continue;
            }
            while model.on_the_brink(now as f64, MARGIN) {
                now += 3;
                userspace.wait(3);
            }
            let expected = model.judge(&packet, now as f64);
            let found = userspace.judge_bytes(spot, bytes);
            assert!(
                agrees(&expected, &found),
                "in world {world_number}, at {step} of {:#?}\n{packet:#?}\nthe model says {expected:?},\nuser space {found:?}",
                &records[..=step]
            );
        }
    });
}

/// Whether the two ends of the packet's flow can be told apart: on the wire they always can be.
fn is_of_two_ends(packet: &Packet) -> bool {
    let (from, to) = packet.ports();
    (packet.source, from) != (packet.destination, to) || packet.readable().is_none()
}

/// Only workloads' links have a hook.
fn has_link(world: &World, spot: &Spot) -> bool {
    let (Spot::TcEgress { interface } | Spot::TcIngress { interface }) = spot else { return true };
    world.workloads.iter().any(|workload| workload.interface.as_ref().is_some_and(|link| link.index == *interface))
}

/// The model's words for a packet at a hook.
fn packet(spot: &Spot, bytes: &[u8]) -> Packet {
    let (is_v6, at) = if has_ethernet(spot) {
        match reference::frame(bytes) {
            Some(Carried::Ip(is_v6, at)) => (is_v6, at),
            Some(Carried::Arp) => return without_addresses(spot, Message::Arp),
            Some(Carried::Other(ethertype)) => return without_addresses(spot, Message::NotIp { ethertype }),
            None => return without_addresses(spot, Message::Malformed { protocol: 0 }),
        }
    } else {
        (bytes.first().is_some_and(|byte| byte >> 4 == 6), 0)
    };
    let bytes = &bytes[at..];
    let Some(facts) = reference::read(bytes, is_v6) else {
        return without_addresses(spot, Message::Malformed { protocol: 0 });
    };
    let fragment = (facts.part != Part::Whole).then_some(facts.id);
    let message = message(&facts, bytes, is_v6);
    Packet {
        spot: spot.clone(),
        source: facts.source,
        destination: facts.destination,
        message,
        hops: facts.hops,
        fragment,
        dressed: false,
    }
}

fn without_addresses(spot: &Spot, message: Message) -> Packet {
    let nobody = std::net::Ipv4Addr::UNSPECIFIED.into();
    Packet { spot: spot.clone(), source: nobody, destination: nobody, message, hops: 0, fragment: None, dressed: false }
}

fn message(facts: &Facts, bytes: &[u8], is_v6: bool) -> Message {
    if facts.part == Part::Later {
        return Message::LaterFragment { protocol: facts.protocol };
    }
    match facts.transport {
        Transport::Icmp { kind, code, quote: Some(at), .. } => {
            // ICMP of the other IP version is no flow of anybody's.
            let foreign = if is_v6 { ICMP } else { ICMPV6 };
            let quoted = reference::quoted(&bytes[at..], is_v6).filter(|(_, protocol, _)| *protocol != foreign);
            let quote = quoted.map(|([source, destination], protocol, transport)| {
                Box::new(Quote { source, destination, message: said(transport, protocol) })
            });
            Message::IcmpError { kind, code, quote }
        }
        transport => said(transport, facts.protocol),
    }
}

fn said(transport: Transport, protocol: u8) -> Message {
    match transport {
        Transport::Tcp { source, destination, flags } => Message::Tcp { source, destination, flags },
        Transport::Udp { source, destination, .. } => Message::Udp { source, destination },
        Transport::Sctp { source, destination } => Message::Sctp { source, destination },
        Transport::Icmp { kind, code, quote: Some(_), .. } => Message::IcmpError { kind, code, quote: None },
        Transport::Icmp { kind, code, identifier, .. } => Message::Icmp { kind, code, identifier },
        Transport::Nothing => Message::Other(protocol),
    }
}
