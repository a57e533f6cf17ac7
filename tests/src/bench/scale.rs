//! Large policies and many addresses.
//!
//! - `rules`: an edit of a policy of 10,000 rules, beside nftables
//! - `addresses`: as many addresses as the table takes, up to a million: all at once, and one workload's change among them
//! - `hot`: the packet path with few and with very many of both

mod addresses;
mod hot;
mod rules;

use anyhow::Result;

use super::{Effort, Figure};

/// Measures.
///
/// # Errors
/// The lab can't be set up.
///
/// # Panics
/// As the lab does.
pub fn measure(effort: Effort) -> Result<Vec<Figure>> {
    // Addresses first: their peak of memory is that of the process, which should not have done much before.
    let mut figures = addresses::measure()?;
    figures.extend(rules::measure(effort)?);
    figures.extend(hot::measure()?);
    Ok(figures)
}
