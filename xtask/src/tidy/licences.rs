//! Licences of everything that is linked in: each has to go with `MIT OR Apache-2.0`.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace;

/// Licences that ask for no more than to be named. MPL-2.0 and the like are not here: they ask for sources.
const ACCEPTED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// Packages of Cargo.lock whose licence is not accepted.
pub fn problems() -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        license: Option<String>,
    }
    let output = workspace::cargo().args(["metadata", "--format-version=1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo's metadata can't be read")?;
    let refused = metadata.packages.into_iter().filter_map(|Package { name, version, license }| {
        let licence = license.unwrap_or_else(|| "none".into());
        (!is_accepted(&licence))
            .then(|| format!("Cargo.lock: {name} {version} has the licence {licence}: choose another crate"))
    });
    Ok(refused.collect())
}

/// Whether an SPDX expression can be met: one of its alternatives has accepted parts only. Where it has brackets, which
/// are rare, every licence that it names has to be accepted.
fn is_accepted(expression: &str) -> bool {
    let accepted = |licence: &str| ACCEPTED.contains(&licence.trim());
    // A slash is how older crates write `OR`.
    let alternatives = expression.replace('/', " OR ");
    if alternatives.contains('(') {
        let flat = alternatives.replace(['(', ')'], "").replace(" AND ", " OR ");
        return flat.split(" OR ").all(accepted);
    }
    alternatives.split(" OR ").any(|alternative| alternative.split(" AND ").all(accepted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_accepted_alternative_is_enough_and_every_part_of_it_is_needed() {
        for (expression, expected) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("Unlicense OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0-only", true),
            ("MIT AND BSD-3-Clause", true),
            ("MIT AND GPL-2.0-only", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-2.0-only", false),
            ("GPL-3.0-only", false),
            ("none", false),
        ] {
            assert_eq!(is_accepted(expression), expected, "{expression}");
        }
    }
}
