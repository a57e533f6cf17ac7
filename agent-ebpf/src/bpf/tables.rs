//! The maps, and the look-ups over them. Keys, values and capacities are in [`bulkhead_ebpf::abi`].

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie};
use bulkhead_ebpf::abi::{
    ADDRESSES as MAX_ADDRESSES, Address, Backends, CGROUPS as MAX_CGROUPS, CIDRS as MAX_CIDRS,
    COUNTERS as MAX_COUNTERS, Control, Count, Direction, EMBRYOS as MAX_EMBRYOS, FAILSAFE as MAX_FAILSAFE,
    FLOWS as MAX_FLOWS, FRAGMENTS as MAX_FRAGMENTS, Flow, FlowKey, Fragment, FragmentKey, Frontend,
    IDENTITIES as MAX_IDENTITIES, INTERFACES as MAX_INTERFACES, Identity, IdentityKey, MAX_RULES, PORT_INDEXES, Party,
    Place, PortIndex, ROWS as MAX_ROWS, RULE_REFS as MAX_RULE_REFS, Row, RowKey, RuleKey, RuleRef,
    SERVICES as MAX_SERVICES, Settings,
};
use bulkhead_ebpf::judge::{Evaluation, Seen, Subject, evaluate, failsafe, guardrail};
use bulkhead_ebpf::tables::Tables;
use bulkhead_ebpf::track::FlowCell;

/// Memory follows use: these tables are written rarely and mostly far from full.
const NO_PREALLOC: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;
/// An entry that another CPU has just made is not overwritten.
const NO_EXIST: u64 = aya_ebpf::bindings::BPF_NOEXIST as u64;
/// The agent writes a whole copy through shared memory.
const MMAPABLE: u32 = aya_ebpf::bindings::BPF_F_MMAPABLE;

#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, 0);
#[map]
static ADDRESSES: HashMap<Address, Party> = HashMap::with_max_entries(MAX_ADDRESSES, NO_PREALLOC);
#[map]
static CIDRS: LpmTrie<Address, Party> = LpmTrie::with_max_entries(MAX_CIDRS, NO_PREALLOC);
#[map]
static SERVICES: HashMap<Frontend, Backends> = HashMap::with_max_entries(MAX_SERVICES, NO_PREALLOC);
#[map]
static CGROUPS: HashMap<u64, Place> = HashMap::with_max_entries(MAX_CGROUPS, NO_PREALLOC);
#[map]
static INTERFACES: HashMap<u32, Place> = HashMap::with_max_entries(MAX_INTERFACES, NO_PREALLOC);
#[map]
static IDENTITIES: Array<Identity> = Array::with_max_entries(MAX_IDENTITIES, 0);
/// Four classes to a value, because the kernel rounds array values up to eight bytes; one copy after the other.
#[map]
static PORT_CLASSES: Array<[u16; 4]> = Array::with_max_entries(PORT_INDEXES / 4 * 2, MMAPABLE);
/// Set once, when an agent starts.
#[map]
static FAILSAFE: Array<u64> = Array::with_max_entries(MAX_FAILSAFE, MMAPABLE);
#[map]
static ROWS: HashMap<RowKey, Row> = HashMap::with_max_entries(MAX_ROWS, NO_PREALLOC);
#[map]
static RULE_REFS: HashMap<RuleKey, RuleRef> = HashMap::with_max_entries(MAX_RULE_REFS, NO_PREALLOC);
#[map]
static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(MAX_FLOWS, 0);
#[map]
static EMBRYOS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(MAX_EMBRYOS, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(MAX_FRAGMENTS, 0);
#[map]
static COUNTERS: PerCpuArray<Count> = PerCpuArray::with_max_entries(MAX_COUNTERS, 0);
/// One for all CPUs, added to atomically: a hit is a flow's and not a packet's, and so many per-CPU slots take the kernel a
/// tenth of a second to make.
#[map]
static RULE_HITS: Array<u64> = Array::with_max_entries(MAX_RULES, 0);
/// 512 KiB hold about 6,500 events: more than a busy host makes between two wake-ups of the agent.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(512 * 1024, 0);
/// Events of this second on this CPU, and those lost since the map was made.
#[map]
static EVENT_BUDGET: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);

pub(super) use budget::Budget;
mod budget {
    /// What one CPU may still send.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(in crate::bpf) struct Budget {
        /// Jiffies at which the second began, their lower half.
        pub(in crate::bpf) since: u32,
        pub(in crate::bpf) sent: u32,
        pub(in crate::bpf) lost: u64,
    }
}

/// What holds until the agent has written `CONTROL`: nothing times out, no event is sent.
static UNSET: Control = Control { generation: 0, settings: Settings::defaults(0) };

/// The kernel's maps as [`Tables`].
pub(super) struct Kernel;

impl Tables for Kernel {
    #[inline(always)]
    fn control(&self) -> &Control {
        CONTROL.get(0).unwrap_or(&UNSET)
    }

    #[inline(always)]
    fn generation(&self) -> u32 {
        // SAFETY: valid and aligned as a reference is; volatile keeps the read where it stands.
        unsafe { (&raw const self.control().generation).read_volatile() }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and returns a number.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn party(&self, address: &Address) -> Party {
        // SAFETY: entries are 12 bytes, copied out at once; an entry that is being replaced is read old or new.
        if let Some(party) = unsafe { ADDRESSES.get(address) } {
            return Party::unpack(party.pack());
        }
        let [high, low] = address.halves();
        Party::unpack(party_of_prefix(high, low))
    }

    #[inline(always)]
    fn backends(&self, frontend: &Frontend) -> Option<Backends> {
        let [high, low] = frontend.address.halves();
        let found = backends_of(high, low, frontend.service.0);
        if found == 0 { None } else { Some(Backends::unpack(found, frontend.service)) }
    }

    #[inline(always)]
    fn place(&self, seen: Seen) -> Option<Place> {
        match seen {
            Seen::Cgroup(id) => cgroup(id),
            Seen::Interface(index) => interface(index),
            Seen::Address => None,
        }
    }

    #[inline(always)]
    fn identity(&self, key: &IdentityKey) -> Option<&Identity> {
        // The agent writes an identity before anything refers to it, and removes it after nothing does.
        IDENTITIES.get(key.index()).filter(|identity| identity.has(Identity::KNOWN))
    }

    #[inline(always)]
    fn port_class(&self, copy: u32, index: PortIndex) -> u16 {
        let Some(classes) = PORT_CLASSES.get(copy * (PORT_INDEXES / 4) + index.0 / 4) else { return 0 };
        classes[(index.0 % 4) as usize]
    }

    #[inline(always)]
    fn failsafe(&self, word: u32) -> u64 {
        FAILSAFE.get(word).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn row(&self, key: &RowKey) -> Option<&Row> {
        // SAFETY: rows of the copy in force are never written.
        unsafe { ROWS.get(key) }
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<&RuleRef> {
        // SAFETY: references of the copy in force are never written.
        unsafe { RULE_REFS.get(key) }
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<&FlowCell> {
        let flow = FLOWS.get_ptr_mut(key)?;
        // SAFETY: FlowCell has Flow's layout (asserted), and is made for shared access; an entry that is evicted meanwhile
        // is memory that the map keeps.
        Some(unsafe { &*flow.cast::<FlowCell>() })
    }

    #[inline(always)]
    fn embryo(&self, key: &FlowKey) -> Option<&FlowCell> {
        let flow = EMBRYOS.get_ptr_mut(key)?;
        // SAFETY: as above; an entry that is removed meanwhile is memory that the map keeps, too.
        Some(unsafe { &*flow.cast::<FlowCell>() })
    }

    #[inline(always)]
    fn insert_embryo(&self, key: &FlowKey, flow: &Flow) -> bool {
        EMBRYOS.insert(key, flow, NO_EXIST).is_ok()
    }

    #[inline(always)]
    fn establish(&self, key: &FlowKey, flow: &FlowCell) {
        // SAFETY: FlowCell has Flow's layout (asserted); only the kernel's helper reads through the reference, and copies
        // from one map to the other without a copy on the stack.
        let flow = unsafe { &*core::ptr::from_ref(flow).cast::<Flow>() };
        if FLOWS.insert(key, flow, NO_EXIST).is_ok() {
            // It is gone already where the table was full: then it gave way.
            let _ = EMBRYOS.remove(key);
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: entries are 8 bytes, copied out at once.
        unsafe { FRAGMENTS.get(key).copied() }
    }

    #[inline(always)]
    fn evaluate(
        &self,
        subject: Subject,
        [own, here]: [u32; 2],
        peer: u32,
        role: Direction,
        service: PortIndex,
    ) -> Evaluation {
        if subject.is_guarded() {
            let asked = (role as u32) << 31 | subject.copy() << 30 | service.0;
            let denial = ask_guardrails(own, here, peer, asked);
            if denial != 0 {
                return Evaluation::unpack(denial);
            }
        }
        Evaluation::unpack(evaluate_rules(subject.pack(), peer, role as u32, service.0))
    }

    #[inline(always)]
    fn is_failsafe(&self, own: &Address, role: Direction, service: PortIndex) -> bool {
        let [high, low] = own.halves();
        ask_failsafe(high, low, role as u32, service.0) != 0
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        // Without room the later fragments are denied as unseen, which is counted.
        let _ = FRAGMENTS.insert(key, fragment, 0);
    }
}

/// Who is behind a prefix of an address, as a function of its own, for the same reason as [`evaluate_rules`]. Linux 6.1 takes no map's key
/// from memory that such a function was handed, so that it is handed numbers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn party_of_prefix(high: u64, low: u64) -> u64 {
    let address = Address::from_halves([high, low]);
    CIDRS.get(lpm_trie::Key::new(128, address)).unwrap_or(&Party::WORLD).pack()
}

/// Whom a service stands for, as a function of its own, for the same reasons; 0 where nobody stands there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn backends_of(high: u64, low: u64, service: u32) -> u32 {
    let frontend = Frontend { address: Address::from_halves([high, low]), service: PortIndex(service) };
    // SAFETY: entries are 8 bytes, copied out at once; an entry that is being replaced is read old or new.
    unsafe { SERVICES.get(frontend) }.map_or(0, |backends| backends.pack())
}

/// The rules as a function of its own: with scalars for arguments the verifier walks through it once, whoever calls.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evaluate_rules(subject: u64, peer: u32, role: u32, service: u32) -> u64 {
    let role = if role == Direction::Egress as u32 { Direction::Egress } else { Direction::Ingress };
    evaluate(&Kernel, Subject::unpack(subject), peer, role, PortIndex(service)).pack()
}

/// The failsafe ports, for the same reason; 0 where none names it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ask_failsafe(high: u64, low: u64, role: u32, service: u32) -> u32 {
    let role = if role == Direction::Egress as u32 { Direction::Egress } else { Direction::Ingress };
    u32::from(failsafe(&Kernel, &Address::from_halves([high, low]), role, PortIndex(service)))
}

/// The guardrails, for the same reason; 0 where none denies.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ask_guardrails(own: u32, here: u32, peer: u32, asked: u32) -> u64 {
    let role = if asked >> 31 == Direction::Egress as u32 { Direction::Egress } else { Direction::Ingress };
    let (copy, service) = (asked >> 30 & 1, PortIndex(asked & !(3 << 30)));
    guardrail(&Kernel, copy, [own, here], peer, role, service).map_or(0, Evaluation::pack)
}

#[inline(always)]
pub(super) fn cgroup(id: u64) -> Option<Place> {
    // SAFETY: entries are 12 bytes, copied out at once.
    unsafe { CGROUPS.get(id).copied() }
}

#[inline(always)]
pub(super) fn interface(index: u32) -> Option<Place> {
    // SAFETY: entries are 12 bytes, copied out at once.
    unsafe { INTERFACES.get(index).copied() }
}

#[inline(always)]
pub(super) fn counter(index: u32) -> Option<*mut Count> {
    COUNTERS.get_ptr_mut(index)
}

#[inline(always)]
pub(super) fn rule_hits(rule: u32) -> Option<*mut u64> {
    RULE_HITS.get_ptr_mut(rule)
}

#[inline(always)]
pub(super) fn events() -> &'static RingBuf {
    &EVENTS
}

#[inline(always)]
pub(super) fn event_budget() -> Option<*mut Budget> {
    EVENT_BUDGET.get_ptr_mut(0)
}
