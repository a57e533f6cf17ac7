//! Events: what the ring buffer carries of new, denied and audited flows.

use super::{Address, Direction, Hook, Reason, Verdict};

/// One judgement, as the kernel saw it. Names are the agent's to add.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port in host order; 0 where the protocol has none, or at the connect and sendmsg hooks.
    pub source_port: u16,
    /// Destination port in host order; ICMP type (high byte) and code.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags byte; 0 for other protocols.
    pub tcp_flags: u8,
    /// [`Hook`] as a number.
    pub hook: u8,
    /// [`Direction`] of the rules that were consulted, as a number.
    pub direction: u8,
    /// [`Verdict`] as a number.
    pub verdict: u8,
    /// [`Reason`] as a number.
    pub reason: u8,
    /// Always 0.
    pub reserved: u16,
    /// The local workload that was judged; 0 for none.
    pub workload: u32,
    /// The workload at the other end, where its address is known; 0 otherwise.
    pub peer_workload: u32,
    /// The rule that decided, or [`super::RULE_NONE`].
    pub rule: u32,
    /// Generation under which it was judged.
    pub generation: u32,
    /// Interface index, in the network namespace of the hook; 0 where the hook has none.
    pub interface: u32,
    /// Process at the connect and sendmsg hooks; 0 elsewhere.
    pub process: u32,
}

const _: () = assert!(size_of::<Event>() == 68);

impl Event {
    /// Reads a record of the ring buffer.
    ///
    /// # Errors
    /// `None` where the record has another size, or a number that no enum has: a program of another layout wrote it.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        let mut bytes = [0u8; size_of::<Self>()];
        if record.len() != bytes.len() {
            return None;
        }
        bytes.copy_from_slice(record);
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let address_at = |at: usize| Address::from_words([u32_at(at), u32_at(at + 4), u32_at(at + 8), u32_at(at + 12)]);
        let event = Self {
            source: address_at(0),
            destination: address_at(16),
            source_port: u16_at(32),
            destination_port: u16_at(34),
            protocol: bytes[36],
            tcp_flags: bytes[37],
            hook: bytes[38],
            direction: bytes[39],
            verdict: bytes[40],
            reason: bytes[41],
            reserved: 0,
            workload: u32_at(44),
            peer_workload: u32_at(48),
            rule: u32_at(52),
            generation: u32_at(56),
            interface: u32_at(60),
            process: u32_at(64),
        };
        Hook::from_number(event.hook)?;
        Direction::from_number(event.direction)?;
        Verdict::from_number(event.verdict)?;
        Reason::from_number(event.reason)?;
        Some(event)
    }
}
