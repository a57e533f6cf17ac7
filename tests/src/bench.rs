//! What the bench measures, and how a figure is told.
//!
//! - [`programs`]: the packet path alone, by `BPF_PROG_TEST_RUN`
//! - [`harness`]: the programs loaded apart from any agent, their maps filled, in a network namespace of their own
//! - [`sockets`]: real sockets between workloads, enforced and not
//! - [`denied`]: a flood of denied packets from outside
//! - [`side`]: the labs that those two compare, one a way of enforcement
//! - [`load`]: what makes the load and counts it
//! - [`agent`]: the agent's memory and start
//! - [`cluster`]: the agent on a node of a large cluster
//! - [`scale`]: large policies and many addresses

pub mod agent;
pub mod cluster;
pub mod denied;
pub mod harness;
pub mod load;
mod nftables;
pub mod programs;
pub mod scale;
pub mod side;
pub mod sockets;

use serde::Serialize;

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds that a figure of the lab is the median of.
    pub rounds: usize,
}

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
        Self { met: value <= target, target: Some(target), ..Self::told(name, value, unit) }
    }

    /// A figure that must not be below `target`.
    #[must_use]
    pub fn at_least(name: impl Into<String>, value: f64, unit: &'static str, target: f64) -> Self {
        Self { met: value >= target, target: Some(target), ..Self::told(name, value, unit) }
    }

    /// A figure without a target.
    #[must_use]
    pub fn told(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, target: None, met: true }
    }
}

/// As many digits as a figure deserves, which are few: noise is a hundredth of it or more.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return value;
    }
    let places = 3 - value.abs().log10().floor() as i32;
    if places <= 0 { value.round() } else { (value * 10f64.powi(places)).round() / 10f64.powi(places) }
}

/// The middle of an odd number of values.
///
/// # Panics
/// Where there are none.
#[must_use]
pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which `share` of all values lie, the median being that of 0.5.
///
/// # Panics
/// Where there are none.
#[must_use]
pub fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("something was measured");
    values[((values.len() as f64 * share) as usize).min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_value_is_the_median_and_the_last_the_highest_quantile() {
        let values: Vec<f64> = [5, 1, 4, 2, 3].map(f64::from).to_vec();
        assert_eq!(median(values.clone()), 3.0);
        assert_eq!(quantile(values.clone(), 0.99), 5.0);
        assert_eq!(quantile(values, 0.0), 1.0);
    }

    #[test]
    fn figures_keep_four_digits_and_all_of_a_whole_number() {
        assert_eq!(rounded(9.805_649_67), 9.806);
        assert_eq!(rounded(0.005_612_3), 0.005_612);
        assert_eq!(rounded(90_283.37), 90_283.0);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn a_figure_on_its_target_meets_it() {
        assert!(Figure::at_most("start", 300.0, "ms", 300.0).met);
        assert!(!Figure::at_most("start", 300.1, "ms", 300.0).met);
        assert!(Figure::at_least("throughput", 0.97, "ratio", 0.97).met);
        assert!(!Figure::at_least("throughput", 0.96, "ratio", 0.97).met);
    }
}
