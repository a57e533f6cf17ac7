//! Services: addresses and ports that stand for others. A host translates them behind the hooks that see the sender, so that
//! these must know whom a packet is for in the end.

use super::{Address, IDENTITY_NONE, PortIndex};

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
    /// The port at which all of them listen, of the same protocol.
    pub service: PortIndex,
}

const _: () = assert!(size_of::<Backends>() == 8 && IDENTITY_NONE <= 0xffff);

impl Backends {
    /// As one small number, for a program's stack is small; not 0, as no port is.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u32 {
        self.identity << 16 | self.service.0 & 0xffff
    }

    /// From that number, for who stands behind `frontend`.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u32, frontend: PortIndex) -> Self {
        Self { identity: number >> 16, service: PortIndex(frontend.0 & !0xffff | number & 0xffff) }
    }
}
