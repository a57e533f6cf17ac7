//! What the tests are made of.
//!
//! - [`model`]: what a policy means, written apart from the implementation
//! - [`world`]: random worlds and what happens in them
//! - [`equivalence`]: model, user-space decision and the programs in the kernel, held against each other

pub mod equivalence;
pub mod model;
pub mod world;
