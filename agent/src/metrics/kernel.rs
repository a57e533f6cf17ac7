//! What the kernel counted: read out of its maps at every scrape.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bulkhead_ebpf::abi::{Count, Hook, Reason, Verdict};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::flow::SharedNames;
use crate::kernel::Readings;

const PACKETS: (&str, &str) =
    ("bulkhead_packets_total", "Packets judged; at the hooks connect and sendmsg, system calls.");
const BYTES: (&str, &str) =
    ("bulkhead_bytes_total", "Bytes of the packets judged, from the IP header on; absent for connect and sendmsg.");
const RULE_HITS: (&str, &str) = (
    "bulkhead_rule_hits_total",
    "Flows that a rule of the policy in force decided; rule is its index within the group and direction, from 0.",
);
const ENTRIES: (&str, &str) = ("bulkhead_map_entries", "Entries in use of a map in the kernel.");
const CAPACITY: (&str, &str) = ("bulkhead_map_capacity", "Entries that a map in the kernel can hold.");
const LOST: (&str, &str) = (
    "bulkhead_events_lost_total",
    "Flow events that the kernel could not hand over, too many at once: flows and the flow log miss them, counters do not.",
);

/// Asks the kernel when Prometheus asks us.
pub(super) struct KernelCollector {
    readings: Arc<dyn Readings>,
    names: SharedNames,
    descriptions: Vec<Desc>,
}

impl KernelCollector {
    pub(super) fn new(readings: Arc<dyn Readings>, names: SharedNames) -> Self {
        let judged = ["hook", "verdict", "reason"];
        let described: [(_, &[&str]); 6] = [
            (PACKETS, &judged),
            (BYTES, &judged),
            (RULE_HITS, &["group", "direction", "rule"]),
            (ENTRIES, &["map"]),
            (CAPACITY, &["map"]),
            (LOST, &[]),
        ];
        let describe = |((name, help), labels): ((&str, &str), &[&str])| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
                .expect("literals that Prometheus accepts")
        };
        Self { readings, names, descriptions: described.into_iter().map(describe).collect() }
    }

    fn judged(&self) -> [MetricFamily; 2] {
        let mut counts: HashMap<(Hook, Verdict, Reason), Count> =
            expected().map(|(hook, verdict, reason)| ((hook, verdict, reason), Count::default())).collect();
        counts.extend(
            self.readings.counts().into_iter().map(|(hook, verdict, reason, count)| ((hook, verdict, reason), count)),
        );
        let (mut packets, mut bytes) = (Vec::new(), Vec::new());
        for ((hook, verdict, reason), count) in counts {
            let labels = || [("hook", hook.as_str()), ("verdict", verdict.as_str()), ("reason", reason.as_str())];
            packets.push(counter(&labels(), count.packets));
            if !is_system_call(hook) {
                bytes.push(counter(&labels(), count.bytes));
            }
        }
        [family(PACKETS, MetricType::COUNTER, packets), family(BYTES, MetricType::COUNTER, bytes)]
    }

    fn rule_hits(&self) -> MetricFamily {
        let hits: HashMap<u32, u64> = self.readings.rule_hits().into_iter().collect();
        let names = self.names.read();
        // Summed, because a scrape that shows a series twice is refused whole.
        let mut sums: BTreeMap<(&str, &str, usize), u64> = BTreeMap::new();
        for (number, rule) in &names.rules {
            *sums.entry((&rule.group, &rule.direction, rule.index)).or_default() +=
                hits.get(number).copied().unwrap_or_default();
        }
        let series = sums.into_iter().map(|((group, direction, index), hits)| {
            counter(&[("group", group), ("direction", direction), ("rule", &index.to_string())], hits)
        });
        family(RULE_HITS, MetricType::COUNTER, series.collect())
    }

    fn maps(&self) -> [MetricFamily; 2] {
        let maps = self.readings.maps();
        let series = |value: fn(&crate::view::MapView) -> u64| {
            maps.iter().map(|map| gauge(&[("map", &map.map)], value(map))).collect()
        };
        [
            family(ENTRIES, MetricType::GAUGE, series(|map| map.entries)),
            family(CAPACITY, MetricType::GAUGE, series(|map| map.capacity)),
        ]
    }
}

impl Collector for KernelCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![self.rule_hits()];
        families.extend(self.judged());
        families.extend(self.maps());
        families.push(family(LOST, MetricType::COUNTER, vec![counter(&[], self.readings.events_lost())]));
        // The encoder takes a family without series for an error; before the first policy there are no rules.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

/// Judgements that every host comes by sooner or later, so that their counters exist before the first.
fn expected() -> impl Iterator<Item = (Hook, Verdict, Reason)> {
    let usual = |reason| match reason {
        Reason::NoRule => [Some(Verdict::Deny), Some(Verdict::Audit)],
        Reason::Unidentified => [Some(Verdict::Allow), Some(Verdict::Deny)],
        Reason::Malformed
        | Reason::FragmentUnseen
        | Reason::Spoofed
        | Reason::NotIp
        | Reason::TableFull
        | Reason::Midstream
        | Reason::Guardrail => [Some(Verdict::Deny), None],
        _ => [Some(Verdict::Allow), None],
    };
    let verdicts = move |reason: &Reason| {
        usual(*reason).into_iter().flatten().map(|verdict| (verdict, *reason)).collect::<Vec<_>>()
    };
    Hook::ALL
        .iter()
        .flat_map(move |hook| Reason::ALL.iter().flat_map(verdicts).map(|(verdict, reason)| (*hook, verdict, reason)))
}

fn is_system_call(hook: Hook) -> bool {
    matches!(hook, Hook::Connect | Hook::Sendmsg)
}

pub(super) fn family((name, help): (&str, &str), kind: MetricType, series: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(series);
    family
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
pub(super) fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_label(pairs(labels));
    metric.set_counter(counter);
    metric
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
pub(super) fn gauge(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_label(pairs(labels));
    metric.set_gauge(gauge);
    metric
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    labels
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect()
}
