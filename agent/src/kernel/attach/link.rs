//! Links to cgroups: aya makes and pins them, but neither asks where a pinned one leads nor gives it another program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands of bpf(2) (`enum bpf_cmd` in include/uapi/linux/bpf.h).
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_UPDATE: libc::c_int = 29;

/// The link pinned at `path`, or `None` where nothing is.
///
/// # Errors
/// As bpf(2) for `BPF_OBJ_GET`.
pub(super) fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Attr {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr { pathname: name.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    match bpf(OBJ_GET, &mut attr) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The ID of the cgroup that a link is attached to; 0 once that cgroup is gone.
///
/// # Errors
/// As bpf(2) for `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn cgroup_of(link: BorrowedFd<'_>) -> io::Result<u64> {
    /// The beginning of `struct bpf_link_info`, as it is for a cgroup.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        reserved: u32,
        cgroup: u64,
        attach_type: u32,
        reserved_too: u32,
    }
    #[repr(C)]
    struct Attr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let mut attr = Attr {
        bpf_fd: link.as_raw_fd().cast_unsigned(),
        info_len: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.cgroup)
}

/// Gives a link another program, in one step.
///
/// # Errors
/// As bpf(2) for `BPF_LINK_UPDATE`.
pub(super) fn update(link: BorrowedFd<'_>, program: impl AsFd) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    let mut attr = Attr {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_fd().as_raw_fd().cast_unsigned(),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is the beginning of `union bpf_attr` for this command, of the size given, and what it points to lives
    // in the caller's frame.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
