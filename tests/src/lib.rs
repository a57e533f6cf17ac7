//! What the tests are made of.
//!
//! - [`model`]: what a policy means, written apart from the implementation

pub mod model;
