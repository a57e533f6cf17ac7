//! What the bench compares with: the least that any stateful filter does, "parse and one hash look-up", at the same hooks.
//!
//! It reads the headers in place, keeps no state and counts nothing. Beside it stand programs that do nothing at all: what the
//! hooks themselves cost; and one that drops everything. It is an object of its own: nothing of it is shipped.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
    use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr, classifier, map, xdp};
    use aya_ebpf::maps::{HashMap, PerCpuArray};
    use aya_ebpf::programs::{SkBuffContext, SockAddrContext, TcContext, XdpContext};

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    /// Protocol, addresses and ports, as wide as the agent's key.
    #[repr(C)]
    struct Key {
        addresses: [u32; 8],
        ports: u32,
        protocol: u32,
    }

    #[map]
    static TUPLES: HashMap<Key, u64> = HashMap::with_max_entries(262_144, 0);

    const IP4: u16 = 0x0800u16.to_be();
    const IP6: u16 = 0x86ddu16.to_be();

    #[cgroup_skb(egress)]
    fn baseline_cgroup(ctx: SkBuffContext) -> i32 {
        // SAFETY: the context pointer is the one the program was called with.
        let (data, end, protocol) =
            unsafe { ((*ctx.skb.skb).data, (*ctx.skb.skb).data_end, (*ctx.skb.skb).protocol as u16) };
        i32::from(look_up(data as usize, end as usize, protocol))
    }

    #[classifier]
    fn baseline_tc(ctx: TcContext) -> i32 {
        if frame(ctx.data(), ctx.data_end()) { 0 } else { 2 }
    }

    #[xdp]
    fn baseline_xdp(ctx: XdpContext) -> u32 {
        if frame(ctx.data(), ctx.data_end()) { XDP_PASS } else { 1 }
    }

    #[cgroup_skb(egress)]
    fn empty_cgroup_egress(_: SkBuffContext) -> i32 {
        1
    }

    #[cgroup_skb(ingress)]
    fn empty_cgroup_ingress(_: SkBuffContext) -> i32 {
        1
    }

    #[cgroup_sock_addr(connect4)]
    fn empty_connect4(_: SockAddrContext) -> i32 {
        1
    }

    #[cgroup_sock_addr(sendmsg4)]
    fn empty_sendmsg4(_: SockAddrContext) -> i32 {
        1
    }

    /// `TCX_NEXT` and `TC_ACT_UNSPEC`, as the agent's programs answer.
    const NEXT: i32 = -1;

    #[classifier]
    fn empty_tc_egress(_: TcContext) -> i32 {
        NEXT
    }

    #[classifier]
    fn empty_tc_ingress(_: TcContext) -> i32 {
        NEXT
    }

    /// Packets that `drop_all` dropped.
    #[map]
    static DROPPED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

    #[xdp]
    fn drop_all(_: XdpContext) -> u32 {
        if let Some(dropped) = DROPPED.get_ptr_mut(0) {
            // SAFETY: the entry is this CPU's own, and the program is not interrupted by itself.
            unsafe { *dropped += 1 };
        }
        XDP_DROP
    }

    #[inline(always)]
    fn frame(data: usize, end: usize) -> bool {
        if data + 14 > end {
            return false;
        }
        // SAFETY: within bounds.
        let protocol = unsafe { ((data + 12) as *const u16).read() };
        look_up(data + 14, end, protocol)
    }

    #[inline(always)]
    fn look_up(at: usize, end: usize, protocol: u16) -> bool {
        let mut key = Key { addresses: [0; 8], ports: 0, protocol: 6 };
        // SAFETY: each read is within the bounds checked before it.
        unsafe {
            if protocol == IP4 {
                if at + 40 > end || (at as *const u8).read() != 0x45 || ((at + 9) as *const u8).read() != 6 {
                    return false;
                }
                key.addresses[3] = ((at + 12) as *const u32).read();
                key.addresses[7] = ((at + 16) as *const u32).read();
                key.ports = ((at + 20) as *const u32).read();
            } else {
                if protocol != IP6 || at + 60 > end || ((at + 6) as *const u8).read() != 6 {
                    return false;
                }
                key.addresses = ((at + 8) as *const [u32; 8]).read();
                key.ports = ((at + 40) as *const u32).read();
            }
            TUPLES.get(&key).is_some()
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these are eBPF programs: build them for bpfel-unknown-none, as the build script of the tests does");
}
