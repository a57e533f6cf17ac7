//! The ring buffer: records of judgements, read as they come and handed on.

use aya::maps::{MapData, RingBuf};
use bulkhead_ebpf::abi::Event;
use tokio::io::unix::AsyncFd;

use super::error::KernelError;
use super::pin::Pins;
use super::tables::open;

/// Opens the ring buffer.
///
/// # Errors
/// [`KernelError::Map`].
pub fn open_ring(pins: &Pins) -> Result<RingBuf<MapData>, KernelError> {
    open(pins, "EVENTS")
}

/// Reads records for as long as the agent runs. A record of another layout is left out: an older program may still be
/// finishing while a new one takes over.
///
/// # Errors
/// The error of waiting for the ring buffer.
pub async fn read(ring: RingBuf<MapData>, mut handle: impl FnMut(&Event)) -> std::io::Result<()> {
    // SAFETY: the map owns the descriptor that it reports, and keeps it open for as long as it lives.
    let mut ring = unsafe { AsyncFd::register(ring) }?;
    loop {
        let mut guard = ring.readable_mut().await?;
        let ring = guard.get_inner_mut();
        while let Some(record) = ring.next() {
            if let Some(event) = Event::parse(&record) {
                handle(&event);
            }
        }
        guard.clear_ready();
    }
}
