//! nftables, as a user would write the same policy: stateful, what is allowed in a map.

use std::fmt::Display;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::namespace::Namespace;

/// The table that the bench makes.
pub const TABLE: &str = "ip bench";
/// The counter of what is denied.
const DENIED: &str = "denied";

/// Begins every ruleset: the table as it was goes in the same transaction in which the new one comes.
fn replacing(content: &str) -> String {
    format!("table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\ncounter {DENIED} {{}}\n{content}}}\n")
}

/// The map `allowed` from source, destination, protocol and port to a verdict.
fn map(elements: &[String]) -> String {
    format!(
        "map allowed {{\n\
         type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict\n\
         elements = {{ {} }}\n\
         }}\n",
        elements.join(", ")
    )
}

/// An element of the map.
pub fn element(from: impl Display, to: impl Display, protocol: &str, port: u16) -> String {
    format!("{from} . {to} . {protocol} . {port} : accept")
}

/// The look-up in the map.
const LOOK_UP: &str = "ip saddr . ip daddr . meta l4proto . th dport vmap @allowed";

/// Stateful, where packets are forwarded: what the map does not allow is denied.
pub fn forward(elements: &[String]) -> String {
    replacing(&format!(
        "{}\
         chain forward {{\n\
         type filter hook forward priority filter; policy accept;\n\
         ct state established,related accept\n\
         {LOOK_UP}\n\
         counter name {DENIED} drop\n\
         }}\n",
        map(elements)
    ))
}

/// Stateless, as early as nftables can: before connections are tracked, and only for what comes by `link`.
pub fn early(link: &str, elements: &[String]) -> String {
    replacing(&format!(
        "{}\
         chain early {{\n\
         type filter hook prerouting priority raw; policy accept;\n\
         iifname != \"{link}\" accept\n\
         {LOOK_UP}\n\
         counter name {DENIED} drop\n\
         }}\n",
        map(elements)
    ))
}

/// Stateful, a rule for every pair of `pairs`, one after the other.
pub fn linear(rules: &[String]) -> String {
    replacing(&format!(
        "chain forward {{\n\
         type filter hook forward priority filter; policy accept;\n\
         ct state established,related accept\n\
         {}\n\
         counter name {DENIED} drop\n\
         }}\n",
        rules.join("\n")
    ))
}

/// Has `nft` take a ruleset as one transaction.
///
/// # Errors
/// It is missing, or refuses.
pub fn load(host: &Namespace, ruleset: &str) -> Result<()> {
    nft(host, &["-f", "-"], ruleset).map(drop)
}

/// Packets that the ruleset denied.
///
/// # Errors
/// There is no such ruleset.
pub fn denied(host: &Namespace) -> Result<f64> {
    let [family, table] = TABLE.split(' ').collect::<Vec<_>>()[..] else { unreachable!("a family and a name") };
    let output = nft(host, &["--json", "list", "counter", family, table, DENIED], "")?;
    let answer: Value = serde_json::from_slice(&output.stdout).context("nft speaks JSON")?;
    let counters = answer["nftables"].as_array().into_iter().flatten();
    counters
        .filter_map(|entry| entry["counter"]["packets"].as_u64())
        .next()
        .map(|packets| packets as f64)
        .context("nft does not tell what it counted")
}

fn nft(host: &Namespace, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    host.place(&mut command);
    let mut child = command.spawn().context("cannot start `nft`; install nftables (`cargo xtask setup`)")?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).context("cannot write to `nft`")?;
    let output = child.wait_with_output().context("cannot wait for `nft`")?;
    if !output.status.success() {
        bail!("`nft` refuses: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}
