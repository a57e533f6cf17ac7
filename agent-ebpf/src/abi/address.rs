//! One address type for both IP versions.

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
///
/// One form means one address table, one flow table and one code path. A packet that carries a mapped address on the wire
/// is malformed (RFC 4942 section 2.2) and never gets here, so that nothing can pass for an IPv4 address.
///
/// The words hold the address's bytes in network order, as they stand in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    words: [u32; 4],
}

const _: () = assert!(size_of::<Address>() == 16);

const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// From the four bytes of an IPv4 address, in network order.
    #[inline(always)]
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self { words: [0, 0, MAPPED, u32::from_ne_bytes(bytes)] }
    }

    /// From the sixteen bytes of an IPv6 address, in network order.
    #[inline(always)]
    #[must_use]
    pub const fn v6(b: [u8; 16]) -> Self {
        Self {
            words: [
                u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
                u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
                u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
                u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
            ],
        }
    }

    /// From four words as they lie in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// Both halves as they lie in memory, for a function that takes numbers.
    #[inline(always)]
    #[must_use]
    pub const fn halves(&self) -> [u64; 2] {
        let [a, b, c, d] = self.words;
        [(b as u64) << 32 | a as u64, (d as u64) << 32 | c as u64]
    }

    /// From both halves.
    #[inline(always)]
    #[must_use]
    pub const fn from_halves([high, low]: [u64; 2]) -> Self {
        Self { words: [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32] }
    }

    /// The sixteen bytes, in network order.
    #[must_use]
    pub fn octets(&self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (index, word) in self.words.iter().enumerate() {
            octets[index * 4..index * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    /// Whether this is an IPv4 address in its mapped form.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// `0.0.0.0` or `::`.
    #[inline(always)]
    #[must_use]
    pub const fn is_unspecified(&self) -> bool {
        self.words[0] == 0
            && self.words[1] == 0
            && (self.words[2] == 0 || self.words[2] == MAPPED)
            && self.words[3] == 0
    }

    /// `127.0.0.0/8` (RFC 1122 section 3.2.1.3) or `::1` (RFC 4291 section 2.5.3).
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            return self.words[3].to_ne_bytes()[0] == 127;
        }
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0 && self.words[3] == 1u32.to_be()
    }

    /// `fe80::/10` (RFC 4291 section 2.5.6).
    #[inline(always)]
    #[must_use]
    pub const fn is_link_local(&self) -> bool {
        let bytes = self.words[0].to_ne_bytes();
        bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
    }

    /// Whether `self` sorts before `other`: a total order for canonical flow keys, without meaning beyond that.
    #[inline(always)]
    #[must_use]
    pub fn before(&self, other: &Self) -> bool {
        let mut index = 3;
        loop {
            if self.words[index] != other.words[index] {
                return self.words[index] < other.words[index];
            }
            if index == 0 {
                return false;
            }
            index -= 1;
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    #[test]
    fn an_address_survives_the_round_trip() {
        for text in ["10.0.0.10", "0.0.0.0", "255.255.255.255", "::1", "fd00::10", "::"] {
            let address: IpAddr = text.parse().expect("a literal");
            assert_eq!(IpAddr::from(Address::from(address)), address);
        }
    }

    #[test]
    fn loopback_is_known_in_both_versions() {
        let loopback = |text: &str| Address::from(text.parse::<IpAddr>().expect("a literal")).is_loopback();
        assert!(loopback("127.0.0.1") && loopback("127.255.0.3") && loopback("::1"));
        assert!(!loopback("128.0.0.1") && !loopback("::2") && !loopback("::"));
    }
}
