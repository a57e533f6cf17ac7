//! What the bench measures, and how a figure is told.
//!
//! - [`programs`]: the packet path alone, by `BPF_PROG_TEST_RUN`
//! - [`harness`]: the programs loaded apart from any agent, their maps filled, in a network namespace of their own

pub mod harness;
pub mod programs;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The median.
    pub value: f64,
    /// `ratio`, `ns`, `MiB` or another unit.
    pub unit: &'static str,
    /// What is to be reached, in the same unit; `None` for a figure that is told for its own sake.
    pub target: Option<f64>,
    /// Whether it is.
    pub met: bool,
}

impl Figure {
    /// A figure that must not be above `target`.
    #[must_use]
    pub fn at_most(name: impl Into<String>, value: f64, unit: &'static str, target: f64) -> Self {
        Self { name: name.into(), value, unit, target: Some(target), met: value <= target }
    }

    /// A figure that must not be below `target`.
    #[must_use]
    pub fn at_least(name: impl Into<String>, value: f64, unit: &'static str, target: f64) -> Self {
        Self { name: name.into(), value, unit, target: Some(target), met: value >= target }
    }

    /// A figure without a target.
    #[must_use]
    pub fn told(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, target: None, met: true }
    }
}

/// The middle of an odd number of values.
///
/// # Panics
/// Where there are none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
