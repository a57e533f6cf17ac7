//! `ipBlock`: a prefix but for some, as the prefixes that are left.

use ipnet::IpNet;

use super::super::cidr::parse_cidr;
use crate::policy::document::network_policy::IpBlock;
use crate::policy::document::{Field, shorten};
use crate::policy::problem::Reporter;
use crate::policy::yaml::Mark;

/// The prefixes; `None` where something is wrong.
pub(super) fn nets(mark: Mark, block: &IpBlock, report: Reporter<'_>) -> Option<Vec<IpNet>> {
    if block.cidr.is_absent() {
        report.add(mark, "this `ipBlock` has no `cidr`", "add `cidr: 10.0.0.0/8` with its prefix");
    }
    let (at, text) = block.cidr.marked()?;
    let all = net(at, text, report);
    let mut excepted = Vec::new();
    let mut is_right = all.is_some() && !matches!(block.except, Field::Refused(_));
    for entry in block.except.get().into_iter().flatten() {
        let Some((at, text)) = entry.marked() else {
            is_right = false;
            continue;
        };
        let Some(except) = net(at, text, report) else {
            is_right = false;
            continue;
        };
        if all.is_some_and(|all| !all.contains(&except) || all == except) {
            let cure = "write prefixes within `cidr`, and smaller than it";
            report.add(at, format!("`{}` is no part of `{}`", shorten(text), block.cidr.get()?), cure);
            is_right = false;
        }
        excepted.push(except);
    }
    let mut left = Vec::new();
    without(all?, &excepted, &mut left);
    is_right.then_some(left)
}

/// As Kubernetes reads a prefix: bits beyond its length don't count.
fn net(mark: Mark, text: &str, report: Reporter<'_>) -> Option<IpNet> {
    let text = text.parse::<IpNet>().map_or_else(|_| text.to_owned(), |net| net.trunc().to_string());
    parse_cidr(&text).map_err(|(message, cure)| report.add(mark, message, cure)).ok()
}

/// What is left of `net`: all of it, nothing, or what is left of its halves. Each prefix in `except` adds at most one per bit.
fn without(net: IpNet, except: &[IpNet], left: &mut Vec<IpNet>) {
    let inside: Vec<IpNet> = except.iter().filter(|except| net.contains(*except)).copied().collect();
    if except.iter().any(|except| except.contains(&net)) {
        return;
    }
    if inside.is_empty() {
        return left.push(net);
    }
    let halves = net.subnets(net.prefix_len() + 1).expect("a prefix with another one inside is no single address");
    for half in halves {
        without(half, &inside, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excepted_is_cut_out_and_nothing_else() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a prefix")).collect::<Vec<IpNet>>();
        for (net, except, expected) in [
            ("10.0.0.0/8", vec![], vec!["10.0.0.0/8"]),
            ("10.0.0.0/24", vec!["10.0.0.128/25"], vec!["10.0.0.0/25"]),
            ("10.0.0.0/30", vec!["10.0.0.1/32", "10.0.0.2/32"], vec!["10.0.0.0/32", "10.0.0.3/32"]),
            ("10.0.0.0/24", vec!["10.0.0.0/25", "10.0.0.0/26"], vec!["10.0.0.128/25"]),
            ("fd00::/126", vec!["fd00::3/128"], vec!["fd00::/127", "fd00::2/128"]),
            ("10.0.0.0/24", vec!["10.0.0.0/25", "10.0.0.128/25"], vec![]),
        ] {
            let mut left = Vec::new();
            without(net.parse().expect("a prefix"), &nets(&except), &mut left);
            assert_eq!(left, nets(&expected), "{net} without {except:?}");
        }
    }
}
