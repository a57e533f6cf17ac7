//! What the kernel can refuse, with what to do about it.

use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;

/// Why a program could not be loaded or attached: aya has an error type for each step.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// An operation that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel has no type information of its own.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux is missing); run a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf,
    /// Too old a kernel.
    #[error("this kernel is {0}, and Bulkhead needs Linux 6.1 or newer; upgrade the kernel (Debian 12 has one)")]
    TooOld(String),
    /// What a newer agent attached.
    #[error(
        "a newer Bulkhead enforces on this host (its layout is v{0}), and what it enforces stays in force; run that version, or take \
         everything out of the kernel with `bulkhead detach` first"
    )]
    Newer(u32),
    /// No bpffs, and none could be mounted.
    #[error("{path} is no bpffs and mounting one failed: {source}; run as root, or `mount -t bpf bpf {path}`")]
    Bpffs {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file operation.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The object, its maps or its type information.
    #[error("loading the eBPF object: {0}; run as root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Object(#[from] EbpfError),
    /// A program was refused, or could not be attached.
    #[error("{what}: {source}")]
    Program {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Refusal,
    },
    /// A pin.
    #[error("pinning {path}: {source}; remove what is there with `bulkhead detach`")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: PinError,
    },
    /// A map.
    #[error("map {map}: {operation}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: MapError,
    },
    /// A map that has no room for what is new.
    #[error(
        "the map {0} is full: what it has no room for is denied, or is who it is without it (\"When a table is full\" in the \
         documentation); this host has to know fewer"
    )]
    Full(&'static str),
    /// An interface that does not exist.
    #[error(
        "there is no interface {0} in this network namespace; `ip link` lists them, and --uplink names one or `none`"
    )]
    NoInterface(String),
    /// An object of another build.
    #[error("the eBPF object has no {0}; rebuild the agent with `cargo xtask build`")]
    Missing(&'static str),
}
