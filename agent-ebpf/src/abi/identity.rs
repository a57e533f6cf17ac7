//! Who is who: local workloads by cgroup and interface, everyone by address, and the groups behind an identity.

/// Entries of the map `ADDRESSES`: exact addresses. When it is full, an address stays unknown (`world`): its workload
/// loses what rules by group would allow, nothing is opened.
pub const ADDRESSES: u32 = 1_048_576;
/// Entries of the map `CIDRS`: prefixes that rules name, as many as there are slots.
pub const CIDRS: u32 = 65_536;
/// Entries of the map `CGROUPS`. When it is full, the cgroup falls to its nearest known ancestor.
pub const CGROUPS: u32 = 16_384;
/// Entries of the map `INTERFACES`.
pub const INTERFACES: u32 = 16_384;
/// Entries of the map `IDENTITIES`, both copies together.
pub const IDENTITIES: u32 = 131_072;
/// Slots (named groups, CIDRs and entities) of one identity. A workload with more is denied altogether ([`Identity::FULL`]).
pub const MAX_IDENTITY_SLOTS: usize = 32;
/// The highest number of an identity; after it numbers begin again.
pub const MAX_IDENTITY: u32 = (1 << 30) - 1;
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
    /// Whether the workload is local and where its own ingress is enforced: [`Party::LOCAL`], [`Party::HOST`];
    /// or [`Party::TOMBSTONE`].
    pub flags: u32,
}

const _: () = assert!(size_of::<Party>() == 12);

impl Party {
    /// The workload runs on this host.
    pub const LOCAL: u32 = 1;
    /// The address is the host's own.
    pub const HOST: u32 = 2;
    /// A workload had the address until lately, and nobody has it now. The agent's own note: the packet path leaves it out.
    pub const TOMBSTONE: u32 = 4;
    /// An address that no table knows.
    pub const WORLD: Self = Self { identity: IDENTITY_WORLD, workload: 0, flags: 0 };

    const FLAGS: u32 = Self::LOCAL | Self::HOST;
    const FLAGS_SHIFT: u32 = 30;

    /// As one number: a function of a program can return no more. Identities are below 2^30 ([`MAX_IDENTITY`]).
    #[inline(always)]
    #[must_use]
    pub const fn pack(&self) -> u64 {
        let low = self.identity & MAX_IDENTITY | (self.flags & Self::FLAGS) << Self::FLAGS_SHIFT;
        (self.workload as u64) << 32 | low as u64
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        let low = number as u32;
        Self { identity: low & MAX_IDENTITY, workload: (number >> 32) as u32, flags: low >> Self::FLAGS_SHIFT }
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

    const FLAGS: u32 = Self::SCOPE | Self::SCOPE_DENIES | Self::STRICT_SOURCE;

    /// As one number: a function of a program can return no more. Identities are below 2^30 ([`MAX_IDENTITY`]), numbers of
    /// workloads below 2^31 ([`MAX_WORKLOAD`]).
    #[inline(always)]
    #[must_use]
    pub const fn pack(&self) -> u64 {
        (self.workload as u64) << 33
            | (self.identity as u64 & MAX_IDENTITY as u64) << 3
            | (self.flags & Self::FLAGS) as u64
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        let identity = (number >> 3) as u32 & MAX_IDENTITY;
        Self { workload: (number >> 33) as u32, identity, flags: number as u32 & Self::FLAGS }
    }
}

/// Key of `IDENTITIES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdentityKey {
    /// A host-local number for one distinct set of groups and covering CIDRs.
    pub identity: u32,
    /// Which copy of the tables: 0 or 1.
    pub copy: u32,
}

const _: () = assert!(size_of::<IdentityKey>() == 8);

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
}

const _: () = assert!(size_of::<Identity>() == 8 + 2 * MAX_IDENTITY_SLOTS);

impl Identity {
    /// In at least one group: ingress is denied unless a rule allows it.
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

    /// No group, no slot: nobody that a rule names.
    pub const NOBODY: Self = Self { subject: 0, flags: 0, count: 0, slots: [0; MAX_IDENTITY_SLOTS] };

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_and_places_survive_as_one_number() {
        for (identity, workload, flags) in [(0, 0, 0), (MAX_IDENTITY, MAX_WORKLOAD, 3), (7, 1, 2), (1, 0, 1)] {
            let party = Party { identity, workload, flags };
            assert_eq!(Party::unpack(party.pack()), party);
            let place = Place { identity, workload, flags: flags | Place::STRICT_SOURCE };
            assert_eq!(Place::unpack(place.pack()), place);
        }
    }
}
