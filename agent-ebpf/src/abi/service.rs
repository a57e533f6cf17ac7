//! Services: addresses and ports that stand for others. A host translates them behind the hooks that see the sender, so that
//! these must know whom a packet is for in the end.

use super::{Address, PortIndex};

/// Entries of the map `SERVICES`. When it is full, a port of a service is nobody's: only rules by CIDR allow it.
pub const SERVICES: u32 = 65_536;

/// Key of `SERVICES`: where clients send to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frontend {
    /// One of the service's addresses; its party has [`super::Party::SERVICE`].
    pub address: Address,
    /// Protocol and port.
    pub service: PortIndex,
}

const _: () = assert!(size_of::<Frontend>() == 20);

/// Value of `SERVICES`: whom it stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backends {
    /// What all of them are.
    pub identity: u32,
    /// The port at which all of them listen.
    pub service: PortIndex,
}

const _: () = assert!(size_of::<Backends>() == 8);

impl Backends {
    /// As one number: a function of a program can return no more.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        (self.identity as u64) << 32 | self.service.0 as u64
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        Self { identity: (number >> 32) as u32, service: PortIndex(number as u32) }
    }
}
