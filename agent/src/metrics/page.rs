//! The tables of docs/metrics.md, made of what the registry serves; the prose around them is written by hand.
//!
//! A table stands between `<!-- metrics: PREFIX ... -->` and `<!-- /metrics -->`, and has the metrics whose names begin so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use prometheus::proto::{MetricFamily, MetricType};

use super::tests::metrics;
use crate::manual;

const BEGIN: &str = "<!-- metrics: ";
const END: &str = "<!-- /metrics -->";

/// Labels whose values are the policy's, or the host's.
const OPEN: [&str; 5] = ["group", "direction", "rule", "map", "version"];

/// The page with every table made anew.
fn page(old: &str, families: &[MetricFamily]) -> String {
    let (mut new, mut told, mut within) = (String::new(), BTreeSet::new(), false);
    for line in old.lines() {
        within &= line != END;
        if within {
            continue;
        }
        new.push_str(line);
        new.push('\n');
        if let Some(prefixes) = line.strip_prefix(BEGIN).and_then(|line| line.strip_suffix(" -->")) {
            within = true;
            let of = |prefix: &str| families.iter().filter(|family| family.name().starts_with(prefix)).collect();
            let chosen: Vec<&MetricFamily> = prefixes.split(' ').flat_map(|prefix| -> Vec<_> { of(prefix) }).collect();
            for family in &chosen {
                assert!(told.insert(family.name()), "{} is in the manual twice", family.name());
            }
            new.push_str(&table(&chosen));
        }
    }
    assert!(!within, "docs/metrics.md: a table is not closed by `{END}`");
    let missing: Vec<&str> = families.iter().map(MetricFamily::name).filter(|name| !told.contains(name)).collect();
    assert!(missing.is_empty(), "no table of docs/metrics.md begins as {missing:?} do: name them behind `{BEGIN}`");
    new
}

/// Metrics, then their labels.
fn table(families: &[&MetricFamily]) -> String {
    let mut text = "\n| metric | type | meaning |\n| --- | --- | --- |\n".to_owned();
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for family in families {
        let mut names: Vec<&str> = Vec::new();
        for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
            if !names.contains(&pair.name()) {
                names.push(pair.name());
            }
            values.entry(pair.name()).or_default().insert(pair.value());
        }
        let labels = if names.is_empty() { String::new() } else { format!("{{{}}}", names.join(",")) };
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            other => panic!("{}: {other:?} has no name here", family.name()),
        };
        let help = family.help().replace('|', "\\|");
        writeln!(text, "| `{}{labels}` | {kind} | {help} |", family.name()).expect("a string takes all");
    }
    values.retain(|name, _| !OPEN.contains(name));
    if !values.is_empty() {
        text.push_str("\n| label | values |\n| --- | --- |\n");
    }
    for (name, values) in values {
        let values: Vec<String> = values.into_iter().map(|value| format!("`{value}`")).collect();
        writeln!(text, "| {name} | {} |", values.join(", ")).expect("a string takes all");
    }
    text.push('\n');
    text
}

#[test]
fn the_manual_has_every_metric() {
    manual::up_to_date("metrics.md", &page(&manual::read("metrics.md"), &metrics().registry.gather()));
}

#[test]
#[should_panic(expected = "bulkhead_build_info")]
fn a_metric_in_no_table_is_named() {
    let old = format!("{BEGIN}bulkhead_groups -->\n{END}\n");
    page(&old, &metrics().registry.gather());
}

#[test]
fn a_table_is_made_anew_and_what_is_around_it_stays() {
    let all = metrics().registry.gather();
    let families: Vec<MetricFamily> =
        all.into_iter().filter(|family| family.name() == "bulkhead_policy_reloads_total").collect();
    let old = format!("before\n{BEGIN}bulkhead_policy -->\nold\n{END}\nafter\n");
    let new = page(&old, &families);
    let expected = "| `bulkhead_policy_reloads_total{result}` | counter | Policy files read, by whether they took force. |\n\n\
                    | label | values |\n| --- | --- |\n| result | `applied`, `refused` |\n";
    assert!(new.contains(expected) && !new.contains("old\n"), "{new}");
    assert!(new.starts_with("before\n") && new.ends_with(&format!("{END}\nafter\n")), "{new}");
    assert_eq!(page(&new, &families), new);
}
