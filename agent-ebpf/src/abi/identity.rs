//! Who is who: local workloads by cgroup and interface, everyone by address, and the groups behind an identity.

/// Entries of the map `ADDRESSES`: exact addresses. When it is full, an address stays unknown (`world`): its workload
/// loses what rules by group would allow, nothing is opened.
pub const ADDRESSES: u32 = if cfg!(feature = "successor") { 524_288 } else { 1_048_576 };
/// Entries of the map `CIDRS`: prefixes that rules name, as many as there are slots.
pub const CIDRS: u32 = 65_536;
/// Entries of the map `CGROUPS`. When it is full, the cgroup falls to its nearest known ancestor.
pub const CGROUPS: u32 = 16_384;
/// Entries of the map `INTERFACES`.
pub const INTERFACES: u32 = 16_384;
/// Entries of the map `IDENTITIES`, an array: both copies of every identity.
pub const IDENTITIES: u32 = 131_072;
/// Slots (named groups, CIDRs and entities) of one identity. A workload with more is denied altogether ([`Identity::FULL`]).
pub const MAX_IDENTITY_SLOTS: usize = 32;
/// Deny entries of all guardrails together. A policy that has more is refused whole.
pub const DENY_ENTRIES: usize = 128;
/// The highest number of an identity. A number is given again once nobody has it and all others were given since.
pub const MAX_IDENTITY: u32 = IDENTITIES / 2 - 2;
/// The identity of those for whom no number is left: it has no entry in `IDENTITIES`, so that they are denied altogether.
pub const IDENTITY_NONE: u32 = MAX_IDENTITY + 1;
/// The highest number of a workload; after it numbers begin again.
pub const MAX_WORKLOAD: u32 = (1 << 31) - 1;
/// The identity of every address that no table knows.
pub const IDENTITY_WORLD: u32 = 0;

/// Value of `ADDRESSES` and `CIDRS`: who is behind an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// Key into `IDENTITIES`: groups and covering CIDRs.
    pub identity: u32,
    /// Number of the workload that holds the address; 0 for none (CIDRs, the host).
    pub workload: u32,
    /// Whether the workload is local and where its own ingress is enforced: [`Party::LOCAL`], [`Party::HOST`]; whether the address
    /// stands for others: [`Party::SERVICE`]; and the agent's notes [`Party::TOMBSTONE`], [`Party::NODE`] and [`Party::SHARED`].
    pub flags: u32,
}

const _: () = assert!(size_of::<Party>() == 12);

impl Party {
    /// The workload runs on this host.
    pub const LOCAL: u32 = 1;
    /// The address is the host's own.
    pub const HOST: u32 = 2;
    /// At some of its ports the address stands for others: `SERVICES` says for whom.
    pub const SERVICE: u32 = 4;
    /// A workload had the address until lately, and nobody has it now. The agent's own note: the packet path leaves it out.
    pub const TOMBSTONE: u32 = 8;
    /// The address is another node's. The agent's own note, too.
    pub const NODE: u32 = 16;
    /// Several workloads claim the address. The agent's own note, too.
    pub const SHARED: u32 = 32;
    /// The agent's own note of the workload's name, by which a later agent knows the number again. The packet path leaves it out.
    pub const NAME: u32 = !0xff;
    /// An address that no table knows.
    pub const WORLD: Self = Self { identity: IDENTITY_WORLD, workload: 0, flags: 0 };

    const FLAGS: u32 = Self::LOCAL | Self::HOST | Self::SERVICE;
    const FLAGS_SHIFT: u32 = 29;
    const IDENTITY: u32 = (1 << Self::FLAGS_SHIFT) - 1;

    /// As one number: a function of a program can return no more. Identities are at most [`IDENTITY_NONE`].
    #[inline(always)]
    #[must_use]
    pub const fn pack(&self) -> u64 {
        let low = self.identity & Self::IDENTITY | (self.flags & Self::FLAGS) << Self::FLAGS_SHIFT;
        (self.workload as u64) << 32 | low as u64
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        let low = number as u32;
        Self { identity: low & Self::IDENTITY, workload: (number >> 32) as u32, flags: low >> Self::FLAGS_SHIFT }
    }
}

/// Value of `CGROUPS` and `INTERFACES`: the local workload that owns a cgroup or a link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the workload; 0 for the host and for scopes.
    pub workload: u32,
    /// Key into `IDENTITIES`: the workload's groups.
    pub identity: u32,
    /// Bits below.
    pub flags: u32,
}

const _: () = assert!(size_of::<Place>() == 12);

impl Place {
    /// A managed scope: what lies below it and is not known is unidentified.
    pub const SCOPE: u32 = 1;
    /// An unidentified cgroup below this scope is denied.
    pub const SCOPE_DENIES: u32 = 2;
    /// The workload's addresses are known, so what it sends must carry one of them.
    pub const STRICT_SOURCE: u32 = 4;
    /// As [`Party::NAME`].
    pub const NAME: u32 = Party::NAME;

    /// The host's own processes.
    pub const HOST: Self = Self { workload: 0, identity: IDENTITY_WORLD, flags: 0 };

    const FLAGS: u32 = Self::SCOPE | Self::SCOPE_DENIES | Self::STRICT_SOURCE;

    const IDENTITY: u64 = (1 << 30) - 1;

    /// As the cgroup's own processes have it: a slice may be a workload and a scope, and to them it is the workload.
    #[inline(always)]
    #[must_use]
    pub const fn of_itself(self) -> Self {
        let flags = if self.workload == 0 { self.flags } else { self.flags & !(Self::SCOPE | Self::SCOPE_DENIES) };
        Self { flags, ..self }
    }

    /// As a cgroup below has it that is not known itself: below a scope it is nobody yet, and not the scope's own workload.
    #[inline(always)]
    #[must_use]
    pub const fn of_below(self) -> Self {
        if self.flags & Self::SCOPE == 0 {
            return self;
        }
        let flags = self.flags & (Self::SCOPE | Self::SCOPE_DENIES);
        Self { workload: 0, identity: IDENTITY_WORLD, flags }
    }

    /// As one number: a function of a program can return no more. Identities are at most [`IDENTITY_NONE`], numbers of
    /// workloads [`MAX_WORKLOAD`].
    #[inline(always)]
    #[must_use]
    pub const fn pack(&self) -> u64 {
        (self.workload as u64) << 33 | (self.identity as u64 & Self::IDENTITY) << 3 | (self.flags & Self::FLAGS) as u64
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        let identity = (number >> 3 & Self::IDENTITY) as u32;
        Self { workload: (number >> 33) as u32, identity, flags: number as u32 & Self::FLAGS }
    }
}

/// What an entry of `IDENTITIES` is known by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdentityKey {
    /// A host-local number for one distinct set of groups and covering CIDRs.
    pub identity: u32,
    /// Which copy of the tables: 0 or 1.
    pub copy: u32,
}

impl IdentityKey {
    /// The index into `IDENTITIES`.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.identity.wrapping_mul(2).wrapping_add(self.copy)
    }

    /// What the entry at an index is of.
    #[must_use]
    pub const fn at(index: u32) -> Self {
        Self { identity: index / 2, copy: index % 2 }
    }
}

/// Value of `IDENTITIES`: what one identity is, as a peer and as a subject.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// As a subject: whose policy rows apply. 0 where no group governs it.
    pub subject: u32,
    /// Bits below.
    pub flags: u16,
    /// As a peer: how many of `slots` are set.
    pub count: u16,
    /// As a peer: slots of the groups, CIDRs and entities that rules on this host name.
    pub slots: [u16; MAX_IDENTITY_SLOTS],
    /// As either end of a flow: the guardrails' deny entries that name it.
    pub denied: Denied,
}

const _: () = assert!(size_of::<Identity>() == 8 + 2 * MAX_IDENTITY_SLOTS + size_of::<Denied>());

impl Identity {
    /// In at least one group that says something of ingress or egress: ingress is denied unless a rule allows it.
    pub const GOVERNED: u16 = 1;
    /// At least one group mentions egress: egress is denied unless a rule allows it.
    pub const RESTRICTED_EGRESS: u16 = 2;
    /// Every group that governs ingress is in audit.
    pub const AUDIT_INGRESS: u16 = 4;
    /// Every group that mentions egress is in audit.
    pub const AUDIT_EGRESS: u16 = 8;
    /// At least one group has `established: keep`.
    pub const KEEPS: u16 = 32;
    /// A table had no room for this identity: it is denied altogether.
    pub const FULL: u16 = 16;

    /// The policy has guardrails: they are asked before any rule.
    pub const GUARDED: u16 = 64;
    /// No group mentions ingress, though one mentions egress: everything may come in.
    pub const OPEN_INGRESS: u16 = 256;
    /// The entry of the array is in use: its number is somebody's.
    pub const KNOWN: u16 = 128;

    /// No group, no slot: nobody that a rule names.
    pub const NOBODY: Self =
        Self { subject: 0, flags: 0, count: 0, slots: [0; MAX_IDENTITY_SLOTS], denied: Denied::NOTHING };

    /// Whether all of `flags` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::NOBODY
    }
}

/// The deny entries that name somebody, by the side on which they do: one bit per entry. An entry denies a flow whose sender is
/// in its `from` and whose receiver is in its `to`, so that two words a side say which entries may concern a flow, however many
/// addresses, groups and ports they list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Denied {
    /// Entries whose `from` it is in.
    pub from: [u64; DENY_ENTRIES / 64],
    /// Entries whose `to` it is in.
    pub to: [u64; DENY_ENTRIES / 64],
}

impl Denied {
    /// No entry names it.
    pub const NOTHING: Self = Self { from: [0; DENY_ENTRIES / 64], to: [0; DENY_ENTRIES / 64] };

    /// Adds what `other` is in.
    pub fn add(&mut self, other: &Self) {
        for word in 0..DENY_ENTRIES / 64 {
            self.from[word] |= other.from[word];
            self.to[word] |= other.to[word];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_and_places_survive_as_one_number() {
        for (identity, workload, flags) in [(0, 0, 0), (IDENTITY_NONE, MAX_WORKLOAD, 3), (7, 1, 2), (1, 0, 1)] {
            let party = Party { identity, workload, flags };
            assert_eq!(Party::unpack(party.pack()), party);
            let place = Place { identity, workload, flags: flags | Place::STRICT_SOURCE };
            assert_eq!(Place::unpack(place.pack()), place);
        }
    }

    #[test]
    fn a_slice_is_the_workload_for_its_own_processes_and_not_for_a_cgroup_below_that_nobody_has_named() {
        let workload = Place { workload: 7, identity: 9, flags: Place::STRICT_SOURCE };
        assert_eq!((workload.of_itself(), workload.of_below()), (workload, workload), "it is no scope");
        for scope in [Place::SCOPE, Place::SCOPE | Place::SCOPE_DENIES] {
            let slice = Place { flags: Place::STRICT_SOURCE | scope, ..workload };
            let unidentified = Place { workload: 0, identity: IDENTITY_WORLD, flags: scope };
            assert_eq!((slice.of_itself(), slice.of_below()), (workload, unidentified));
            assert_eq!((unidentified.of_itself(), unidentified.of_below()), (unidentified, unidentified));
        }
    }
}
