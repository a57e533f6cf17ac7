//! Random traffic: a few conversations between the same few ends, in and out of order, with all that may go wrong.

use std::net::IpAddr;

use super::policy::PORTS;
use bulkhead::workload::CgroupRef;

use super::change::Changes;
use super::{HOST, Random, Stage, Step, WORLD, ip};
use crate::model::{ACK, FIN, ICMP, ICMPV6, Message, Packet, Quote, RST, SYN, Spot, TCP, UDP, World};

/// Seconds that pass: well below, between and beyond the time-outs.
const WAITS: [u64; 6] = [1, 7, 41, 133, 211, 407];

/// Two ends and what they talk.
struct Conversation {
    client: IpAddr,
    server: IpAddr,
    client_port: u16,
    server_port: u16,
    talk: Talk,
    /// The cgroups in which client and server are while they are no workload's, and whether they are on this host at all where
    /// their address is not the host's.
    rooms: [CgroupRef; 2],
    resident: bool,
}

#[derive(Clone, Copy)]
enum Talk {
    Tcp,
    Udp,
    Sctp,
    Echo,
    Other(u8),
    Discovery,
    Dhcp,
    Message(u8, u8),
}

/// What happens, in a world.
pub(super) fn steps(random: &mut Random, stage: &Stage, world: &World) -> Vec<Step> {
    let mut world = world.clone();
    let mut steps = Vec::new();
    let conversations: Vec<Conversation> = (0..=random.below(2)).map(|_| conversation(random, stage, &world)).collect();
    let rooms = conversations.iter().flat_map(|conversation| conversation.rooms.clone()).collect();
    let ends = conversations.iter().flat_map(|conversation| [conversation.client, conversation.server]).collect();
    let mut changed = Changes::new(stage, rooms, ends);
    let changes = random.chance(13);
    // The uplink only drops what is for whom it is addressed to: that a socket of somebody else takes it, it can't know.
    let has_uplink = random.chance(50);
    // Somebody is away for a moment, in the middle of what is said.
    let absence = random.chance(4).then(|| 1 + random.below(3));
    for turn in 0..absence.map_or(3, |at| at + 3) + random.below(6) {
        if absence == Some(turn) {
            for next in changed.absence(random, &world) {
                steps.push(Step::Change(Box::new(next.clone())));
                world = next;
            }
        }
        if turn > 0 && random.chance(12) {
            steps.push(Step::Wait(*random.pick(&WAITS)));
        }
        if changes && turn > 0 && random.chance(if changed.is_awaiting() { 50 } else { 25 }) {
            world = changed.next(random, &world);
            steps.push(Step::Change(Box::new(world.clone())));
        }
        let conversation = random.pick(&conversations);
        let packets = exchange(random, conversation, turn);
        for packet in packets {
            meet(random, stage, &world, conversation, has_uplink, packet, &mut steps);
        }
    }
    steps
}

fn conversation(random: &mut Random, stage: &Stage, world: &World) -> Conversation {
    let is_v4 = random.chance(65);
    let mut held: Vec<IpAddr> = world.workloads.iter().flat_map(|workload| workload.addresses.to_vec()).collect();
    held.retain(|address| address.is_ipv4() == is_v4);
    let mut others: Vec<IpAddr> = HOST.iter().chain(&WORLD).map(|text| ip(text)).collect();
    others.retain(|address| address.is_ipv4() == is_v4);
    let end = |random: &mut Random| {
        if !held.is_empty() && random.chance(78) { *random.pick(&held) } else { *random.pick(&others) }
    };
    let (client, server) = (end(random), end(random));
    let mut talk = match random.below(20) {
        0..=8 => Talk::Tcp,
        9..=12 => Talk::Udp,
        13 => Talk::Sctp,
        14 | 15 => Talk::Echo,
        16 => Talk::Other(*random.pick(&[47, 50, 4, 112])),
        17 if !is_v4 => Talk::Discovery,
        17 | 18 if is_v4 => Talk::Message(*random.pick(&[13, 14, 3, 9]), random.below(2) as u8),
        18 => Talk::Message(*random.pick(&[139, 140, 200]), random.below(2) as u8),
        _ => Talk::Dhcp,
    };
    let client_port = *random.pick(&[40_000, 40_001, 80]);
    let mut server_port = *random.pick(&PORTS);
    if client == server {
        // The two ends of a flow differ, if only in their ports; alike they only meet on loopback.
        talk = *random.pick(&[Talk::Tcp, Talk::Udp]);
        server_port = 53;
    }
    let cgroups: Vec<&CgroupRef> = stage.all_cgroups().collect();
    let room = |random: &mut Random| {
        if random.chance(30) { stage.stranger.clone() } else { (*random.pick(&cgroups)).clone() }
    };
    let rooms = [room(random), room(random)];
    Conversation { client, server, client_port, server_port, talk, rooms, resident: random.chance(35) }
}

impl Conversation {
    /// The cgroup that an address which nobody holds is in; nothing where it is not on this host.
    fn room(&self, world: &World, address: IpAddr) -> Option<&CgroupRef> {
        let ends = [self.client, self.server];
        let room = ends.iter().position(|end| *end == address).map(|end| &self.rooms[end]);
        room.filter(|_| self.resident || world.host.contains(&address))
    }
}

/// What is said next: mostly as it should be, sometimes out of turn.
fn exchange(random: &mut Random, conversation: &Conversation, turn: usize) -> Vec<Packet> {
    let forward = if random.chance(70) { turn.is_multiple_of(2) } else { random.chance(50) };
    let mut packet = says(random, conversation, forward, turn);
    match random.below(100) {
        0..=6 => vec![error_about(random, &packet)],
        7..=10 => fragments(random, packet),
        11..=13 => {
            packet.message = Message::Malformed { protocol: *random.pick(&[TCP, UDP, packet.icmp()]) };
            vec![packet]
        }
        14 => {
            packet.message = random.pick(&[Message::NotIp { ethertype: 0x88cc }, Message::Arp]).clone();
            vec![packet]
        }
        15..=20 => {
            packet.dressed = true;
            vec![packet]
        }
        _ => vec![packet],
    }
}

fn says(random: &mut Random, conversation: &Conversation, forward: bool, turn: usize) -> Packet {
    let Conversation { client, server, client_port, server_port, talk, .. } = *conversation;
    let (source, destination) = if forward { (client, server) } else { (server, client) };
    let (from, to) = if forward { (client_port, server_port) } else { (server_port, client_port) };
    let (mut source, mut destination) = (source, destination);
    let mut hops = 64;
    let is_v4 = client.is_ipv4();
    let message = match talk {
        Talk::Tcp => {
            let usual = match (turn, forward) {
                (0 | 1, true) => SYN,
                (0..=2, false) => SYN | ACK,
                _ => ACK,
            };
            let flags = if random.chance(75) { usual } else { *random.pick(&[SYN, ACK, FIN | ACK, RST, SYN | ACK]) };
            Message::Tcp { source: from, destination: to, flags }
        }
        Talk::Udp => Message::Udp { source: from, destination: to },
        Talk::Sctp => Message::Sctp { source: from, destination: to },
        Talk::Echo => {
            let kind = match (is_v4, forward) {
                (true, true) => 8,
                (true, false) => 0,
                (false, true) => 128,
                (false, false) => 129,
            };
            Message::Icmp { kind, code: 0, identifier: if client_port == 80 { 0 } else { client_port } }
        }
        Talk::Other(protocol) => Message::Other(protocol),
        Talk::Message(kind, code) if is_v4 && kind == 3 => Message::IcmpError {
            kind,
            code,
            quote: Some(Box::new(quote(source, destination, Message::Udp { source: from, destination: to }))),
        },
        Talk::Message(kind, code) => Message::Icmp { kind, code, identifier: 0 },
        Talk::Discovery => {
            let kind = *random.pick(&[135, 136, 133, 134, 143]);
            hops = if random.chance(80) { if kind == 143 { 1 } else { 255 } } else { 64 };
            Message::Icmp { kind, code: 0, identifier: 0 }
        }
        Talk::Dhcp => {
            let (ask, answer) = if is_v4 { (68, 67) } else { (546, 547) };
            let renews = client_port == 80;
            if forward && !renews {
                destination = ip(if is_v4 { "255.255.255.255" } else { "ff02::1:2" });
                if random.chance(50) {
                    source = ip(if is_v4 { "0.0.0.0" } else { "fe80::7" });
                }
            } else if !is_v4 && random.chance(50) {
                source = ip("fe80::1");
            }
            if renews {
                (source, destination) = (client, server);
            }
            if forward || renews {
                Message::Udp { source: ask, destination: answer }
            } else {
                Message::Udp { source: answer, destination: ask }
            }
        }
    };
    Packet { spot: Spot::Xdp, source, destination, message, hops, fragment: None, dressed: false }
}

fn quote(source: IpAddr, destination: IpAddr, message: Message) -> Quote {
    Quote { source, destination, message }
}

/// An ICMP error about a packet: from its receiver or from a router, to its sender or, forged, to somebody else.
fn error_about(random: &mut Random, packet: &Packet) -> Packet {
    let kinds: &[u8] = if packet.source.is_ipv4() { &[3, 11, 12, 5] } else { &[1, 2, 3, 4] };
    if matches!(packet.message, Message::IcmpError { .. }) {
        return packet.clone();
    }
    let router = ip(if packet.source.is_ipv4() { "192.0.2.7" } else { "2001:db8::7" });
    let source = if random.chance(60) { packet.destination } else { router };
    let destination = if random.chance(85) { packet.source } else { router };
    let quote = Some(Box::new(quote(packet.source, packet.destination, packet.message.clone())));
    let message = Message::IcmpError { kind: *random.pick(kinds), code: random.below(2) as u8, quote };
    Packet { source, destination, message, ..packet.clone() }
}

/// The packet in fragments: in order, out of order, or without the first.
fn fragments(random: &mut Random, packet: Packet) -> Vec<Packet> {
    if !matches!(packet.message, Message::Tcp { .. } | Message::Udp { .. } | Message::Icmp { .. } | Message::Other(_)) {
        return vec![packet];
    }
    let id = 1 + random.below(3) as u32;
    let later = Packet {
        message: Message::LaterFragment { protocol: packet.protocol() },
        fragment: Some(id),
        ..packet.clone()
    };
    let first = Packet { fragment: Some(id), ..packet };
    match random.below(4) {
        0 => vec![later, first],
        1 => vec![later],
        _ => vec![first, later],
    }
}

impl Packet {
    const fn icmp(&self) -> u8 {
        if self.source.is_ipv4() { ICMP } else { ICMPV6 }
    }
}

/// Where a packet is met: along its whole way, at one place of it, or where it has no business to be.
fn meet(
    random: &mut Random,
    stage: &Stage,
    world: &World,
    conversation: &Conversation,
    has_uplink: bool,
    packet: Packet,
    steps: &mut Vec<Step>,
) {
    let mut way = way(random, stage, world, conversation, has_uplink, &packet);
    if way.is_empty() || random.chance(6) {
        let spot = anywhere(random, stage, world);
        way = vec![if has_uplink { Spot::Xdp } else { spot }];
    } else if !has_uplink && random.chance(30) {
        way = vec![random.pick(&way).clone()];
    }
    for (stretch, spot) in way.into_iter().enumerate() {
        if spot == Spot::Xdp && !has_uplink {
            continue;
        }
        let framed = matches!(spot, Spot::TcEgress { .. } | Spot::TcIngress { .. });
        if !framed && packet.readable().is_none() {
            continue;
        }
        let packet = Packet { spot, ..packet.clone() };
        steps.push(if has_uplink && stretch > 0 { Step::Onward(packet) } else { Step::Packet(packet) });
    }
}

/// Whether what is in a cgroup below a workload's is that workload, and neither another one nor unidentified.
fn is_part_of(world: &World, below: &CgroupRef, own: &CgroupRef) -> bool {
    world.workloads.iter().all(|workload| workload.cgroup.as_ref() != Some(below))
        && world.scopes.iter().all(|scope| scope.cgroup != *own)
}

fn way(
    random: &mut Random,
    stage: &Stage,
    world: &World,
    conversation: &Conversation,
    has_uplink: bool,
    packet: &Packet,
) -> Vec<Spot> {
    let mut way = Vec::new();
    let holder = |address: IpAddr| world.workloads.iter().find(|workload| workload.addresses.contains(&address));
    let is_host = |address: IpAddr| world.host.contains(&address);
    match holder(packet.source) {
        Some(sender) if sender.local => {
            if let Some(own) = &sender.cgroup {
                // Where it has one below, perhaps from there, which need not be it.
                let index = stage.cgroups.iter().position(|known| known == own).filter(|_| random.chance(25));
                let below = index.map(|index| &stage.inner[index]);
                let cgroup = below.filter(|below| !has_uplink || is_part_of(world, below, own)).unwrap_or(own);
                way.push(Spot::CgroupEgress { cgroup: cgroup.path.clone(), loopback: false });
            }
            if let Some(link) = &sender.interface {
                way.push(Spot::TcEgress { interface: link.index });
            }
        }
        // A process of the host, of a workload without addresses of its own, or one that is still to be named.
        None if let Some(room) = conversation.room(world, packet.source) => {
            let loopback = is_host(packet.source) && random.chance(10);
            way.push(Spot::CgroupEgress { cgroup: room.path.clone(), loopback });
        }
        // One whose workload is gone, say, and who goes on sending.
        None if random.chance(20) => {
            way.push(Spot::CgroupEgress { cgroup: random.pick(&stage.cgroups).path.clone(), loopback: false });
        }
        _ => way.push(Spot::Xdp),
    }
    match holder(packet.destination) {
        Some(receiver) if receiver.local => {
            if let Some(link) = &receiver.interface {
                way.push(Spot::TcIngress { interface: link.index });
            }
            if let Some(cgroup) = &receiver.cgroup {
                let loopback = random.chance(3);
                way.push(Spot::CgroupIngress { cgroup: cgroup.path.clone(), loopback });
            }
        }
        None if let Some(room) = conversation.room(world, packet.destination) => {
            way.push(Spot::CgroupIngress { cgroup: room.path.clone(), loopback: false });
        }
        _ => {}
    }
    way
}

fn anywhere(random: &mut Random, stage: &Stage, world: &World) -> Spot {
    let cgroups: Vec<String> = stage.all_cgroups().map(|cgroup| cgroup.path.clone()).collect();
    // Only workloads' links have a hook.
    let links: Vec<u32> =
        world.workloads.iter().filter_map(|workload| Some(workload.interface.as_ref()?.index)).collect();
    let cgroup = random.pick(&cgroups).clone();
    if links.is_empty() {
        return Spot::CgroupEgress { cgroup, loopback: false };
    }
    let interface = *random.pick(&links);
    match random.below(5) {
        0 => Spot::CgroupEgress { cgroup, loopback: false },
        1 => Spot::CgroupIngress { cgroup, loopback: false },
        2 => Spot::TcEgress { interface },
        3 => Spot::TcIngress { interface },
        _ => Spot::Xdp,
    }
}
