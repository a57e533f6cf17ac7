//! Lab.

pub mod bench;
pub mod packet;
