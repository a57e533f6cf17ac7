//! bpf(2), for the few commands that aya has no function for.

use std::io;

/// Commands (`enum bpf_cmd` in include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Command {
    /// Reads an entry of a map.
    MapLookup = 1,
    /// Pins an object.
    ObjPin = 6,
    /// Opens a pin.
    ObjGet = 7,
    /// Says what an object is.
    ObjGetInfoByFd = 15,
    /// Reads many entries of a map.
    MapLookupBatch = 24,
    /// Writes many.
    MapUpdateBatch = 26,
    /// Deletes many.
    MapDeleteBatch = 27,
    /// Gives a link another program.
    LinkUpdate = 29,
    /// Takes a link off its hook, whoever still holds it.
    LinkDetach = 34,
}

/// A beginning of `union bpf_attr`: what one command takes.
///
/// # Safety
/// The type is `repr(C)`, laid out as the kernel has it for the command that it is used with, and every pointer in it is valid
/// for as long as the call takes.
pub(super) unsafe trait Attr {}

/// Calls bpf(2).
///
/// # Errors
/// As the command.
pub(super) fn bpf<T: Attr>(command: Command, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the trait promises that this is the beginning of `union bpf_attr`, with valid pointers; the kernel takes
    // what is behind the size given as zeros.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as i32, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
