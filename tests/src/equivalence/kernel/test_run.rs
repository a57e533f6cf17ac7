//! `BPF_PROG_TEST_RUN` with a context, without allocating: it also runs in processes that were just forked.

use std::io;

const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The member `test` of `union bpf_attr` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// Words of `struct __sk_buff` up to its `ifindex`, which is the last of them.
const SK_BUFF_WORDS: usize = 11;

/// Runs a program once over an Ethernet frame, for a packet of `interface` where it is one that works on socket buffers.
/// Returns what the program returned.
pub(super) fn test_run(program: i32, interface: Option<u32>, frame: &[u8]) -> io::Result<u32> {
    let mut context = [0_u32; SK_BUFF_WORDS];
    let mut attributes = Attributes {
        prog_fd: program.cast_unsigned(),
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ..Attributes::default()
    };
    if let Some(interface) = interface {
        context[SK_BUFF_WORDS - 1] = interface;
        attributes.ctx_size_in = size_of_val(&context) as u32;
        attributes.ctx_in = context.as_ptr() as u64;
    }
    // SAFETY: the attributes are the kernel's layout, and what they point at outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attributes, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes.retval) }
}
