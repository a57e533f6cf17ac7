//! A small world in memory: four workloads, the host, and everybody else; a policy made rule by rule.

mod lru;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::abi::{
    Address, Backends, Control, Direction, Flow, FlowKey, Fragment, FragmentKey, Frontend, IDENTITY_WORLD, Identity,
    IdentityKey, Party, Place, PortIndex, RULE_NONE, Reason, Row, RowKey, RuleKey, RuleRef, SLOT_HOST, SLOT_WORLD,
    Settings, Verdict,
};
use crate::judge::{Judgement, Local, Seen, judge, judge_call, known, undecidable};
use crate::packet::build::{Ip, Transport};
use crate::packet::{Network, Packet, parse, plain};
use crate::tables::Tables;
use crate::track::FlowCell;
use lru::Lru;

/// A party of the stories, by the last byte of its address.
pub(super) type Who = u8;

pub(super) const WEB: Who = 1;
pub(super) const API: Who = 2;
pub(super) const DB: Who = 3;
pub(super) const BATCH: Who = 4;
/// An address of the host itself.
pub(super) const HOST: Who = 254;
/// An address that nobody knows.
pub(super) const STRANGER: Who = 9;
pub(super) const EVERYONE: [Who; 4] = [WEB, API, DB, BATCH];

const HZ: u32 = 100;
const IDENTITY_HOST: u32 = 100;

/// What a story's step ends in.
pub(super) type Outcome = (Verdict, Reason);

pub(super) const fn allow(reason: Reason) -> Outcome {
    (Verdict::Allow, reason)
}

pub(super) const fn deny(reason: Reason) -> Outcome {
    (Verdict::Deny, reason)
}

pub(super) const fn audit(reason: Reason) -> Outcome {
    (Verdict::Audit, reason)
}

pub(super) struct World {
    control: Control,
    now: Cell<u64>,
    identities: HashMap<u32, Identity>,
    pub(super) parties: HashMap<Address, Party>,
    classes: HashMap<PortIndex, u16>,
    rows: HashMap<RowKey, Row>,
    rules: HashMap<RuleKey, RuleRef>,
    rails: u16,
    /// Words of the failsafe ports.
    pub(super) failsafe: HashMap<u32, u64>,
    flows: RefCell<Lru>,
    embryos: RefCell<Lru>,
    fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    pub(super) room_for_flows: usize,
    pub(super) room_for_embryos: usize,
    /// By how much the generation grew while a hook had read it and nothing else.
    pub(super) grown: Cell<u32>,
    /// Whom services stand for.
    pub(super) services: HashMap<Frontend, Backends>,
    /// Bits of [`Place`] by workload.
    pub(super) places: HashMap<Who, u32>,
    /// Rules whose hit was counted, and packets that were news.
    pub(super) hits: RefCell<Vec<u32>>,
    pub(super) news: RefCell<Vec<Outcome>>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            control: Control { generation: 1, settings: Settings::defaults(HZ) },
            now: Cell::new(1_000_000),
            grown: Cell::new(0),
            identities: HashMap::new(),
            parties: HashMap::new(),
            classes: HashMap::new(),
            rows: HashMap::new(),
            rules: HashMap::new(),
            rails: 0,
            failsafe: HashMap::new(),
            flows: RefCell::default(),
            embryos: RefCell::default(),
            fragments: RefCell::default(),
            room_for_flows: usize::MAX,
            room_for_embryos: usize::MAX,
            services: HashMap::new(),
            places: HashMap::new(),
            hits: RefCell::default(),
            news: RefCell::default(),
        };
        let peer = |slot| Identity { slots: slots(&[slot]), count: 1, ..Identity::NOBODY };
        world.identities.insert(IDENTITY_WORLD, peer(SLOT_WORLD));
        world.identities.insert(IDENTITY_HOST, peer(SLOT_HOST));
        for who in EVERYONE {
            let number = u32::from(who);
            world.identities.insert(number, Identity { subject: number, ..peer(slot(who)) });
            for address in addresses(who) {
                world.parties.insert(address, Party { identity: number, workload: number, flags: Party::LOCAL });
            }
        }
        for address in addresses(HOST) {
            world.parties.insert(address, Party { identity: IDENTITY_HOST, workload: 0, flags: Party::HOST });
        }
        world
    }

    /// Puts `who` into a group without rules: nothing comes in, everything may go out.
    pub(super) fn govern(&mut self, who: Who) -> &mut Self {
        self.flag(who, Identity::GOVERNED)
    }

    /// Puts `who` into a group that mentions egress, still without rules: nothing goes out either.
    pub(super) fn restrict(&mut self, who: Who) -> &mut Self {
        self.flag(who, Identity::GOVERNED | Identity::RESTRICTED_EGRESS)
    }

    pub(super) fn flag(&mut self, who: Who, flags: u16) -> &mut Self {
        self.identity(who).flags |= flags;
        self
    }

    /// Makes the workload's addresses known, so that it must use them.
    pub(super) fn make_strict(&mut self, who: Who) {
        self.places.insert(who, Place::STRICT_SOURCE);
    }

    /// Forgets what an identity means, as a full table would.
    pub(super) fn lose_identity(&mut self, who: Who) {
        self.identities.remove(&u32::from(who));
    }

    /// Gives `who` a slot whose bit in a row is also that of `other`.
    pub(super) fn share_bit(&mut self, who: Who, other: Who) {
        self.identity(who).slots[0] = slot(other) + crate::abi::ROW_BITS as u16;
    }

    fn identity(&mut self, who: Who) -> &mut Identity {
        self.identities.get_mut(&u32::from(who)).expect("a workload of the world")
    }

    /// Adds a rule to `subject`'s union, for one service or for all; its number is returned.
    pub(super) fn rule(
        &mut self,
        subject: Who,
        direction: Direction,
        peer: Who,
        service: Option<(u8, u16)>,
        flags: u32,
    ) -> u32 {
        self.flag(subject, Identity::GOVERNED);
        if direction == Direction::Egress {
            self.restrict(subject);
        }
        let class = service.map_or(0, |(protocol, detail)| self.class(protocol, detail));
        let row = RowKey::new(0, u32::from(subject), direction, class);
        self.rows.entry(row).or_insert(Row::EMPTY).allow(slot(peer));
        let rule = u32::try_from(self.rules.len()).expect("few rules");
        self.rules.insert(RuleKey { row, slot: slot(peer), reserved: 0 }, RuleRef { rule, flags });
        rule
    }

    pub(super) fn allow_in(&mut self, subject: Who, peer: Who, service: (u8, u16)) -> u32 {
        self.rule(subject, Direction::Ingress, peer, Some(service), 0)
    }

    pub(super) fn allow_out(&mut self, subject: Who, peer: Who, service: (u8, u16)) -> u32 {
        self.rule(subject, Direction::Egress, peer, Some(service), 0)
    }

    /// Adds a deny entry to a guardrail: who sends and who receives (`None` is anyone) what; the number of its hits is returned.
    pub(super) fn rail(&mut self, from: Option<Who>, to: Option<Who>, service: Option<(u8, u16)>) -> u32 {
        let everyone: Vec<u32> = self.identities.keys().copied().collect();
        let side = |side: Option<Who>| match side {
            None => everyone.clone(),
            Some(HOST) => vec![IDENTITY_HOST],
            Some(STRANGER) => vec![IDENTITY_WORLD],
            Some(who) => vec![u32::from(who)],
        };
        self.rail_of_identities(&side(from), &side(to), service)
    }

    /// The same for identities; a side without any is anyone.
    pub(super) fn rail_of_identities(&mut self, from: &[u32], to: &[u32], service: Option<(u8, u16)>) -> u32 {
        let entry = self.rails;
        self.rails += 1;
        let (word, bit) = (usize::from(entry / 64), 1 << (entry % 64));
        for (number, identity) in &mut self.identities {
            identity.flags |= Identity::GUARDED;
            let bit_of = |side: &[u32]| if side.is_empty() || side.contains(number) { bit } else { 0 };
            identity.denied.from[word] |= bit_of(from);
            identity.denied.to[word] |= bit_of(to);
        }
        let class = service.map_or(0, |(protocol, detail)| self.class(protocol, detail));
        self.rows.entry(RowKey::deny(0, class)).or_insert(Row::EMPTY).allow(entry);
        let rule = 1_000 + u32::from(entry);
        self.rules.insert(RuleKey { row: RowKey::deny(0, 0), slot: entry, reserved: 0 }, RuleRef { rule, flags: 0 });
        rule
    }

    /// Gives the workload's IPv4 address an identity of its own.
    pub(super) fn identity_of_address(&mut self, who: Who, number: u32) {
        let identity = *self.identity(who);
        self.identities.insert(number, identity);
        self.parties.get_mut(&addresses(who)[0]).expect("a workload of the world").identity = number;
    }

    fn class(&mut self, protocol: u8, detail: u16) -> u16 {
        let next = u16::try_from(self.classes.len() + 1).expect("few classes");
        *self.classes.entry(PortIndex::new(protocol, detail)).or_insert(next)
    }

    /// Takes every rule away; who is governed stays so.
    pub(super) fn drop_rules(&mut self) {
        self.rows.clear();
        self.rules.clear();
    }

    /// Another policy takes over, with the next generation.
    pub(super) fn flip(&mut self) {
        self.control.generation += 1;
    }

    /// Has the addresses of `who` belong to `holder` from here on.
    pub(super) fn hand_over(&mut self, who: Who, holder: Who) {
        let number = u32::from(holder);
        for address in addresses(who) {
            self.parties.insert(address, Party { identity: number, workload: number, flags: Party::LOCAL });
        }
        self.control.generation += 2;
    }

    /// Denies what belongs to no known flow.
    pub(super) fn deny_midstream(&mut self) {
        self.control.settings.denies_midstream = 1;
    }

    pub(super) fn wait(&self, seconds: u64) {
        self.now.set(self.now.get() + seconds * u64::from(HZ));
    }

    pub(super) fn flows(&self) -> usize {
        self.flows.borrow().0.len()
    }

    pub(super) fn embryos(&self) -> usize {
        self.embryos.borrow().0.len()
    }

    pub(super) fn forget_flows(&self) {
        self.flows.borrow_mut().0.clear();
        self.embryos.borrow_mut().0.clear();
    }

    /// `who` sends, as the hook at its cgroup sees it.
    pub(super) fn sends(&self, who: Who, packet: &Ip) -> Outcome {
        self.at(who, Seen::Cgroup(cgroup(who)), Direction::Egress, packet)
    }

    /// `who` receives, as the hook at its cgroup sees it.
    pub(super) fn receives(&self, who: Who, packet: &Ip) -> Outcome {
        self.at(who, Seen::Cgroup(cgroup(who)), Direction::Ingress, packet)
    }

    /// `who` sends, as the wall at its interface sees it.
    pub(super) fn wall_sends(&self, who: Who, packet: &Ip) -> Outcome {
        self.at(who, Seen::Interface(interface(who)), Direction::Egress, packet)
    }

    /// `who` receives, as the wall at its interface sees it.
    pub(super) fn wall_receives(&self, who: Who, packet: &Ip) -> Outcome {
        self.at(who, Seen::Interface(interface(who)), Direction::Ingress, packet)
    }

    /// A packet for `who` arrives at an uplink.
    pub(super) fn uplink(&self, who: Who, packet: &Ip) -> Outcome {
        self.at(who, Seen::Address, Direction::Ingress, packet)
    }

    /// `from` sends and `to` receives, at both cgroups; the receiver's outcome, or the sender's denial.
    pub(super) fn passes(&self, from: Who, to: Who, packet: &Ip) -> Outcome {
        let sent = self.sends(from, packet);
        if sent.0 == Verdict::Deny { sent } else { self.receives(to, packet) }
    }

    /// What every hook does with a packet.
    pub(super) fn at(&self, who: Who, seen: Seen, direction: Direction, packet: &Ip) -> Outcome {
        let bytes = packet.bytes();
        let network = if bytes[0] >> 4 == 4 { Network::Ip4 } else { Network::Ip6 };
        self.bytes_at(who, seen, direction, network, &bytes)
    }

    pub(super) fn bytes_at(
        &self,
        who: Who,
        seen: Seen,
        direction: Direction,
        network: Network,
        bytes: &[u8],
    ) -> Outcome {
        let local = self.local(who, seen);
        let fast = plain(bytes, 0, network).and_then(|packet| known(self, &packet, seen, direction).passes());
        let judgement = fast.unwrap_or_else(|| match parse(bytes, 0, network) {
            Ok(packet) => judge(self, bytes, packet, &local, direction),
            Err(reason) => undecidable(self, &local, direction, reason),
        });
        self.note(&judgement)
    }

    /// Whether a packet that `who` sends is known to belong to a flow, without a judgement.
    pub(super) fn knows(&self, who: Who, packet: &Ip) -> bool {
        self.knows_at(Seen::Cgroup(cgroup(who)), packet)
    }

    /// The same at the wall.
    pub(super) fn wall_knows(&self, who: Who, packet: &Ip) -> bool {
        self.knows_at(Seen::Interface(interface(who)), packet)
    }

    fn knows_at(&self, seen: Seen, packet: &Ip) -> bool {
        let bytes = packet.bytes();
        let network = if bytes[0] >> 4 == 4 { Network::Ip4 } else { Network::Ip6 };
        plain(&bytes[..], 0, network)
            .and_then(|packet| known(self, &packet, seen, Direction::Egress).passes())
            .is_some()
    }

    /// `who` calls connect or sendmsg.
    pub(super) fn calls(&self, who: Who, destination: Address, service: (u8, u16)) -> Outcome {
        let ports = (0, service.1.to_be());
        let packet = Packet::new(service.0, (&Address::default(), ports.0), (&destination, ports.1), service.1);
        self.note(&judge_call(self, &destination, &packet, &self.local(who, Seen::Cgroup(cgroup(who)))))
    }

    fn note(&self, judgement: &Judgement) -> Outcome {
        let outcome = (judgement.verdict, judgement.reason);
        if judgement.is_news {
            self.news.borrow_mut().push(outcome);
            if judgement.rule != RULE_NONE {
                self.hits.borrow_mut().push(judgement.rule);
            }
        }
        outcome
    }

    pub(super) fn local(&self, who: Who, seen: Seen) -> Local {
        let generation = self.generation() - self.grown.get();
        let flags = self.places.get(&who).copied().unwrap_or(0);
        if flags & Place::SCOPE != 0 || who == HOST {
            return Local { flags, ..Local::host(generation, seen) };
        }
        let place = Place { workload: u32::from(who), identity: u32::from(who), flags };
        Local::at(generation, place, seen)
    }
}

impl Tables for World {
    fn control(&self) -> &Control {
        &self.control
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn party(&self, address: &Address) -> Party {
        self.parties.get(address).copied().unwrap_or(Party::WORLD)
    }

    fn backends(&self, frontend: &Frontend) -> Option<Backends> {
        self.services.get(frontend).copied()
    }

    fn place(&self, seen: Seen) -> Option<Place> {
        let who = EVERYONE.into_iter().find(|who| match seen {
            Seen::Cgroup(id) => cgroup(*who) == id,
            Seen::Interface(index) => interface(*who) == index,
            Seen::Address => false,
        })?;
        let flags = self.places.get(&who).copied().unwrap_or(0);
        Some(Place { workload: u32::from(who), identity: u32::from(who), flags })
    }

    fn identity(&self, key: &IdentityKey) -> Option<&Identity> {
        self.identities.get(&key.identity)
    }

    fn port_class(&self, _copy: u32, index: PortIndex) -> u16 {
        self.classes.get(&index).copied().unwrap_or(0)
    }

    fn failsafe(&self, word: u32) -> u64 {
        self.failsafe.get(&word).copied().unwrap_or(0)
    }

    fn row(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(&RowKey { copy: 0, ..*key })
    }

    fn rule(&self, key: &RuleKey) -> Option<&RuleRef> {
        self.rules.get(&RuleKey { row: RowKey { copy: 0, ..key.row }, ..*key })
    }

    fn flow(&self, key: &FlowKey) -> Option<&FlowCell> {
        self.flows.borrow_mut().get(key)
    }

    fn embryo(&self, key: &FlowKey) -> Option<&FlowCell> {
        self.embryos.borrow_mut().get(key)
    }

    fn insert_embryo(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.embryos.borrow_mut().insert(key, flow, self.room_for_embryos)
    }

    fn establish(&self, key: &FlowKey, flow: &FlowCell) {
        if self.flows.borrow_mut().insert(key, &flow.flow(), self.room_for_flows) {
            self.embryos.borrow_mut().0.retain(|(of, _)| of != key);
        }
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *fragment);
    }
}

pub(super) fn cgroup(who: Who) -> u64 {
    1_000 + u64::from(who)
}

pub(super) fn interface(who: Who) -> u32 {
    10 + u32::from(who)
}

fn slot(who: Who) -> u16 {
    match who {
        HOST => SLOT_HOST,
        STRANGER => SLOT_WORLD,
        known => 10 + u16::from(known),
    }
}

fn slots(set: &[u16]) -> [u16; 32] {
    let mut slots = [0; 32];
    slots[..set.len()].copy_from_slice(set);
    slots
}

fn texts(who: Who) -> [String; 2] {
    [std::format!("10.0.0.{who}"), std::format!("fd00::{who:x}")]
}

pub(super) fn addresses(who: Who) -> [Address; 2] {
    texts(who).map(|text| text.parse::<core::net::IpAddr>().expect("built above").into())
}

/// A packet from one party to another on IPv4.
pub(super) fn packet(from: Who, to: Who, transport: Transport) -> Ip {
    packets(from, to, transport)[0].clone()
}

/// The same packet on IPv4 and on IPv6.
pub(super) fn packets(from: Who, to: Who, transport: Transport) -> [Ip; 2] {
    let ([from4, from6], [to4, to6]) = (texts(from), texts(to));
    [Ip::new(&from4, &to4, transport.clone()), Ip::new(&from6, &to6, transport)]
}
