//! Links: aya makes and pins them, but neither asks where a pinned one leads, nor gives it another program, nor takes it off its
//! hook.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::clsact;
use crate::kernel::bpf::{Attr, Command, bpf};
use crate::kernel::error::KernelError;
use crate::kernel::pin::file;

/// `struct { /* BPF_OBJ_* commands */ }` of `union bpf_attr`.
#[repr(C)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

// SAFETY: as in the kernel; the users below keep the name alive over the call.
unsafe impl Attr for Object {}

/// The link pinned at `path`, or `None` where nothing is.
///
/// # Errors
/// As bpf(2) for `BPF_OBJ_GET`.
pub(super) fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object { pathname: name.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    match bpf(Command::ObjGet, &mut attr) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pins a link or a program.
///
/// # Errors
/// As bpf(2) for `BPF_OBJ_PIN`.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object { pathname: name.as_ptr() as u64, bpf_fd: object.as_raw_fd().cast_unsigned(), file_flags: 0 };
    bpf(Command::ObjPin, &mut attr).map(drop)
}

/// The beginning of `struct bpf_link_info`. Kind and ID stand in the same place in `struct bpf_prog_info`.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Info {
    kind: u32,
    /// The object's ID.
    pub(super) id: u32,
    /// The ID of a link's program.
    pub(super) program: u32,
    reserved: u32,
    target: u64,
    attach_type: u32,
    reserved_too: u32,
}

impl Info {
    /// What a link is attached to: the ID of a cgroup or the index of an interface; 0 once it is not any more.
    pub(super) const fn target(&self) -> u64 {
        // `BPF_LINK_TYPE_CGROUP` (include/uapi/linux/bpf.h); an index is half as wide.
        if self.kind == 3 { self.target } else { self.target & 0xffff_ffff }
    }
}

/// What a link, or a program, is.
///
/// # Errors
/// As bpf(2) for `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn info(object: BorrowedFd<'_>) -> io::Result<Info> {
    #[repr(C)]
    struct ObjGetInfo {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    // SAFETY: as in the kernel; `info` below outlives the call and is as long as it says.
    unsafe impl Attr for ObjGetInfo {}
    let mut info = Info::default();
    let mut attr = ObjGetInfo {
        bpf_fd: object.as_raw_fd().cast_unsigned(),
        info_len: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(Command::ObjGetInfoByFd, &mut attr)?;
    Ok(info)
}

/// Gives a link another program, in one step.
///
/// # Errors
/// As bpf(2) for `BPF_LINK_UPDATE`.
pub(super) fn update(link: BorrowedFd<'_>, program: impl AsFd) -> io::Result<()> {
    #[repr(C)]
    struct LinkUpdate {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    // SAFETY: as in the kernel, without pointers.
    unsafe impl Attr for LinkUpdate {}
    let mut attr = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_fd().as_raw_fd().cast_unsigned(),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(Command::LinkUpdate, &mut attr).map(drop)
}

/// Takes the link pinned at `path` off its hook and removes the pin. Removing the pin alone does that too, but only after a
/// while: the kernel frees an inode of a bpffs when nobody can be reading it any more.
///
/// # Errors
/// [`KernelError::File`]; no pin is no error.
pub(in crate::kernel) fn remove(path: &Path) -> Result<(), KernelError> {
    if clsact::is_used() {
        clsact::detach(path);
    }
    if let Err(error) = detach(path) {
        // Not every kind of link can be detached, and its interface may be gone.
        tracing::debug!(%error, "{} goes off its hook a moment after its pin", path.display());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("removing", path, error)),
        _ => Ok(()),
    }
}

/// As bpf(2) for `BPF_LINK_DETACH`.
fn detach(path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct LinkDetach {
        link_fd: u32,
    }
    // SAFETY: as in the kernel, without pointers.
    unsafe impl Attr for LinkDetach {}
    let Some(link) = open(path)? else { return Ok(()) };
    let mut attr = LinkDetach { link_fd: link.as_raw_fd().cast_unsigned() };
    bpf(Command::LinkDetach, &mut attr).map(drop)
}
