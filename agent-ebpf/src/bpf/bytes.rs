//! Reading packets: through the kernel's copying helpers, which check bounds and reach bytes outside the linear area.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use bulkhead_ebpf::packet::{self, Bytes, ETHERNET, Frame, Headers, Network, Packet};

/// A socket buffer, at cgroup and tc hooks.
pub(super) struct SkbBytes(pub(super) *mut __sk_buff);

/// A frame, at XDP.
pub(super) struct XdpBytes(pub(super) *mut xdp_md);

/// What of a packet can be read in place, without a helper's call. Packets whose headers lie elsewhere (in the pages of a
/// fragmented buffer) end here early, and are read through [`SkbBytes`] or [`XdpBytes`].
pub(super) struct Linear {
    start: usize,
    end: usize,
    /// Bytes in all; [`Self::TO_THE_END`] where nothing is known to lie elsewhere.
    length: u32,
}

impl Linear {
    const TO_THE_END: u32 = 0;

    #[inline(always)]
    pub(super) fn of_skb(skb: *mut __sk_buff) -> Self {
        // SAFETY: the context pointer is the one the program was called with.
        unsafe { Self { start: (*skb).data as usize, end: (*skb).data_end as usize, length: (*skb).len } }
    }

    /// A packet in several buffers is longer than what can be read here, and so not plain.
    #[inline(always)]
    pub(super) fn of_xdp(frame: *mut xdp_md) -> Self {
        // SAFETY: the context pointer is the one the program was called with.
        let (start, end) = unsafe { ((*frame).data as usize, (*frame).data_end as usize) };
        Self { start, end, length: Self::TO_THE_END }
    }

    /// A plain packet of one IP version in an Ethernet frame without tags.
    #[inline(always)]
    pub(super) fn plain_frame_of(&self, network: Network) -> Option<Packet> {
        match packet::network_untagged(self)? {
            Frame::Ip(version, _) if version == network => packet::plain(self, ETHERNET, network),
            _ => None,
        }
    }

    /// The same of either version.
    #[inline(always)]
    pub(super) fn plain_frame(&self) -> Option<Packet> {
        match packet::network_untagged(self)? {
            Frame::Ip(Network::Ip4, _) => packet::plain(self, ETHERNET, Network::Ip4),
            Frame::Ip(Network::Ip6, _) => packet::plain(self, ETHERNET, Network::Ip6),
            _ => None,
        }
    }
}

impl Bytes for Linear {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let at = self.start + at as usize;
        if at + N * 4 > self.end {
            return None;
        }
        // SAFETY: within bounds, as just checked. The kernel places the IP header on a multiple of four where the machine
        // needs that.
        Some(unsafe { (at as *const [u32; N]).read() })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn reaches(&self, end: u32) -> bool {
        // The verifier has no difference of a packet's two ends.
        if self.length == Self::TO_THE_END { self.start + end as usize <= self.end } else { end <= self.length }
    }
}

/// A whole packet into `packet`; 0 where it is malformed.
#[inline(always)]
fn parse_into<B: Bytes>(bytes: &B, at: u32, is_v4: u32, packet: *mut Packet) -> u32 {
    let network = if is_v4 != 0 { Network::Ip4 } else { Network::Ip6 };
    // SAFETY: the caller's packet, or null as far as the verifier knows.
    let Some(packet) = (unsafe { packet.as_mut() }) else { return 0 };
    let Ok(parsed) = packet::parse(bytes, at, network) else { return 0 };
    *packet = parsed;
    1
}

/// A plain packet into `packet`; 0 where it is another one.
#[inline(always)]
fn read_into(plain: Option<Packet>, packet: *mut Packet) -> u32 {
    // SAFETY: as in `parse_into`.
    let (Some(plain), Some(packet)) = (plain, unsafe { packet.as_mut() }) else { return 0 };
    *packet = plain;
    1
}

impl SkbBytes {
    /// Reads a plain packet into `packet`, whose IP header is the first there is. False where it is another one.
    #[inline(always)]
    pub(super) fn plain(&self, network: Network, packet: &mut Packet) -> bool {
        skb_plain(self.0, u32::from(network == Network::Ip4), packet) != 0
    }

    /// The same of an Ethernet frame.
    #[inline(always)]
    pub(super) fn plain_frame(&self, packet: &mut Packet) -> bool {
        skb_plain_frame(self.0, packet) != 0
    }

    /// Parses the whole packet into `packet`. False where it is malformed.
    #[inline(always)]
    pub(super) fn parse(&self, at: u32, network: Network, packet: &mut Packet) -> bool {
        skb_parse(self.0, at, u32::from(network == Network::Ip4), packet) != 0
    }
}

impl XdpBytes {
    /// Reads a plain packet in an Ethernet frame into `packet`. False where it is another one.
    #[inline(always)]
    pub(super) fn plain_frame(&self, packet: &mut Packet) -> bool {
        xdp_plain_frame(self.0, packet) != 0
    }

    /// Parses the whole packet into `packet`. False where it is malformed.
    #[inline(always)]
    pub(super) fn parse(&self, at: u32, network: Network, packet: &mut Packet) -> bool {
        xdp_parse(self.0, at, u32::from(network == Network::Ip4), packet) != 0
    }
}

impl Bytes for SkbBytes {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let mut words = MaybeUninit::<[u32; N]>::uninit();
        // SAFETY: the context pointer is the one the program was called with; the helper writes all N words or fails.
        unsafe {
            let result = bpf_skb_load_bytes(self.0.cast(), at, words.as_mut_ptr().cast(), N as u32 * 4);
            (result == 0).then(|| words.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context pointer is the one the program was called with.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn options_are_harmless(&self, at: u32, header: u32) -> bool {
        skb_options(self.0, at, header) != 0
    }

    #[inline(always)]
    fn extensions(&self, at: u32, protocol: u8) -> Option<Headers> {
        Headers::unpack(skb_extensions(self.0, at, u32::from(protocol)))
    }
}

/// A function of its own: the verifier goes through it once, whoever calls.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skb_parse(ctx: *mut __sk_buff, at: u32, is_v4: u32, packet: *mut Packet) -> u32 {
    parse_into(&SkbBytes(ctx), at, is_v4, packet)
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skb_plain(ctx: *mut __sk_buff, is_v4: u32, packet: *mut Packet) -> u32 {
    let network = if is_v4 != 0 { Network::Ip4 } else { Network::Ip6 };
    read_into(packet::plain(&Linear::of_skb(ctx), 0, network), packet)
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skb_plain_frame(ctx: *mut __sk_buff, packet: *mut Packet) -> u32 {
    read_into(Linear::of_skb(ctx).plain_frame(), packet)
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skb_options(ctx: *mut __sk_buff, at: u32, header: u32) -> u32 {
    u32::from(packet::options_are_harmless(&SkbBytes(ctx), at, header))
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skb_extensions(ctx: *mut __sk_buff, at: u32, protocol: u32) -> u64 {
    packet::extensions(&SkbBytes(ctx), at, protocol as u8).map_or(0, Headers::pack)
}

impl Bytes for XdpBytes {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let mut words = MaybeUninit::<[u32; N]>::uninit();
        // SAFETY: the context pointer is the one the program was called with; the helper writes all N words or fails.
        unsafe {
            let result = bpf_xdp_load_bytes(self.0, at, words.as_mut_ptr().cast(), N as u32 * 4);
            (result == 0).then(|| words.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context pointer is the one the program was called with.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }

    #[inline(always)]
    fn options_are_harmless(&self, at: u32, header: u32) -> bool {
        xdp_options(self.0, at, header) != 0
    }

    #[inline(always)]
    fn extensions(&self, at: u32, protocol: u8) -> Option<Headers> {
        Headers::unpack(xdp_extensions(self.0, at, u32::from(protocol)))
    }
}

/// A function of its own: the verifier goes through it once, whoever calls.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_parse(ctx: *mut xdp_md, at: u32, is_v4: u32, packet: *mut Packet) -> u32 {
    parse_into(&XdpBytes(ctx), at, is_v4, packet)
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_plain_frame(ctx: *mut xdp_md, packet: *mut Packet) -> u32 {
    read_into(Linear::of_xdp(ctx).plain_frame(), packet)
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_options(ctx: *mut xdp_md, at: u32, header: u32) -> u32 {
    u32::from(packet::options_are_harmless(&XdpBytes(ctx), at, header))
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xdp_extensions(ctx: *mut xdp_md, at: u32, protocol: u32) -> u64 {
    packet::extensions(&XdpBytes(ctx), at, protocol as u8).map_or(0, Headers::pack)
}
