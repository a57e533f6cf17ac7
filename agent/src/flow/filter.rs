//! Which flows somebody asks for: the query of `GET /v1/flows`, and how it reads a flow.

use std::net::IpAddr;

use bulkhead_ebpf::abi::{Hook, Reason};
use clap::Args;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::length_of_time;
use crate::view::FlowView;

const PROTOCOLS: [(u8, &str); 5] = [(1, "icmp"), (6, "tcp"), (17, "udp"), (58, "icmpv6"), (132, "sctp")];

/// The query of `GET /v1/flows`. Everything that is given must hold.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowQuery {
    /// Go on with new ones as they happen
    #[arg(long, short)]
    #[serde(skip_serializing_if = "is_false")]
    pub follow: bool,
    /// How many past ones to show at most [default: 100, with --follow 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only since then: 10m (ago), or 2026-11-30T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<f64>,
    /// Only until then, likewise
    #[arg(long, value_name = "TIME", value_parser = moment)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<f64>,
    /// Only this verdict
    #[arg(long, value_parser = ["allow", "deny", "audit"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Only this reason, as no_rule or guardrail
    #[arg(long, value_name = "REASON")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only from this hook in the kernel, as connect or tc_ingress
    #[arg(long, value_name = "HOOK")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Only where these rules of the workload were consulted
    #[arg(long, value_parser = ["ingress", "egress"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Only flows of this workload, at either end
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Only where this workload was judged
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only where this workload is at the other end
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Only where a workload at either end has this label
    #[arg(long, value_name = "KEY=VALUE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Only where a workload at either end is in this group
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only what this rule or deny entry decided, as GROUP, GROUP/ingress or GROUP/ingress/0
    #[arg(long, value_name = "RULE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmpv6, sctp or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol_name)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Only this address, or one of this CIDR, at either end
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Only from this address or CIDR
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only to this address or CIDR
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only this destination port
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only this source port
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Only this ICMP or ICMPv6 type, or type and code as 8/0
    #[arg(long, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<String>,
    /// Only seen on this interface
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Only with these TCP flags, as SYN or ACK, among those of the first packet
    #[arg(long, value_name = "FLAG")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flag: Option<String>,
    /// Only of this process, by its ID or its name
    #[arg(long, value_name = "PROCESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Only judged under this generation
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Only the ends of flows, by how they ended: closed, reset, idle or evicted, or any
    #[arg(long, value_name = "HOW", value_parser = ["closed", "reset", "idle", "evicted", "any"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl FlowQuery {
    /// As the query of a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        let fields = serde_json::to_value(self).expect("a query is plain data");
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in fields.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            query.append_pair(key, &text);
        }
        query.finish()
    }

    /// Checks the values and puts the protocol the way flows carry it.
    ///
    /// # Errors
    /// A value that no flow can have.
    pub fn normalise(mut self) -> Result<Self, String> {
        fn known(wanted: Option<&String>, what: &str, all: &[&str]) -> Result<(), String> {
            match wanted {
                Some(wanted) if !all.contains(&wanted.as_str()) => {
                    let (last, others) = all.split_last().expect("there are some");
                    Err(format!("there is no {what} `{wanted}`; ask for {} or {last}", others.join(", ")))
                }
                _ => Ok(()),
            }
        }
        let names = |all: &[&'static str]| all.to_vec();
        known(self.verdict.as_ref(), "verdict", &names(&["allow", "deny", "audit"]))?;
        known(self.direction.as_ref(), "direction", &names(&["ingress", "egress"]))?;
        let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        known(self.reason.as_ref(), "reason", &reasons)?;
        let hooks: Vec<&str> = Hook::ALL.iter().map(|hook| hook.as_str()).collect();
        known(self.hook.as_ref(), "hook", &hooks)?;
        for text in [&self.address, &self.source, &self.destination].into_iter().flatten() {
            net(text)?;
        }
        if let Some(label) = &self.label
            && !label.contains('=')
        {
            return Err(format!("`{label}` is no label; write KEY=VALUE"));
        }
        self.protocol = self.protocol.as_deref().map(protocol_name).transpose()?;
        Ok(self)
    }

    /// Whether `flow` was asked for.
    #[must_use]
    pub fn matches(&self, flow: &FlowView) -> bool {
        fn absent_or<T>(wanted: Option<T>, seen: impl FnOnce(T) -> bool) -> bool {
            wanted.is_none_or(seen)
        }
        let is = |wanted: &Option<String>, seen: &str| wanted.as_ref().is_none_or(|wanted| wanted == seen);
        let is_named = |wanted: &Option<String>, seen: &Option<String>| wanted.is_none() || wanted == seen;
        let within = |wanted: &Option<String>, seen: &[IpAddr]| {
            absent_or(wanted.as_ref().and_then(|text| net(text).ok()), |net| {
                seen.iter().any(|address| net.contains(address))
            })
        };
        is(&self.verdict, &flow.verdict)
            && is(&self.reason, &flow.reason)
            && is(&self.hook, &flow.hook)
            && is(&self.direction, &flow.direction)
            && is(&self.protocol, &flow.protocol)
            && is_named(&self.subject, &flow.workload)
            && is_named(&self.peer, &flow.peer)
            && is_named(&self.interface, &flow.interface)
            && (is_named(&self.workload, &flow.workload) || is_named(&self.workload, &flow.peer))
            && within(&self.address, &[flow.source, flow.destination])
            && within(&self.source, &[flow.source])
            && within(&self.destination, &[flow.destination])
            && absent_or(self.since, |since| flow.time >= since)
            && absent_or(self.until, |until| flow.time <= until)
            && absent_or(self.port, |port| flow.destination_port == Some(port))
            && absent_or(self.source_port, |port| flow.source_port == Some(port))
            && absent_or(self.generation, |generation| flow.generation == generation)
            && absent_or(self.group.as_ref(), |group| flow.groups.contains(group) || flow.peer_groups.contains(group))
            && absent_or(self.label.as_deref().and_then(|label| label.split_once('=')), |(key, value)| {
                [&flow.labels, &flow.peer_labels].iter().any(|labels| labels.get(key).is_some_and(|own| own == value))
            })
            && absent_or(self.rule.as_ref(), |wanted| {
                flow.rule.as_ref().is_some_and(|rule| {
                    let name = format!("{}/{}/{}", rule.group, rule.direction, rule.index);
                    name == *wanted || name.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('/'))
                })
            })
            && absent_or(self.icmp.as_ref(), |wanted| {
                flow.icmp.is_some_and(|icmp| {
                    icmp.kind.to_string() == *wanted || format!("{}/{}", icmp.kind, icmp.code) == *wanted
                })
            })
            && absent_or(self.tcp_flag.as_ref(), |wanted| {
                flow.tcp_flags
                    .as_ref()
                    .is_some_and(|flags| flags.split('|').any(|flag| flag.eq_ignore_ascii_case(wanted)))
            })
            && absent_or(self.process.as_ref(), |wanted| {
                flow.process_name.as_ref() == Some(wanted)
                    || flow.process.is_some_and(|process| process.to_string() == *wanted)
            })
            && absent_or(self.end.as_ref(), |wanted| {
                flow.end.as_ref().is_some_and(|end| wanted == "any" || end.how == *wanted)
            })
    }
}

/// A CIDR, or an address as the CIDR of itself.
fn net(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| format!("`{text}` is neither an address nor a CIDR"))
}

/// A time in seconds since the Unix epoch: so long ago, or as RFC 3339 has it.
fn moment(text: &str) -> Result<f64, String> {
    if let Ok(ago) = length_of_time(text) {
        return Ok(crate::tally::keeper::now() - ago.as_secs_f64());
    }
    let time: Timestamp =
        text.parse().map_err(|_| "write how long ago, as 10m or 2h, or a time as 2026-11-30T12:00:00Z".to_owned())?;
    Ok(time.as_duration().as_secs_f64())
}

/// The name by which flows carry a protocol, from its name or number.
///
/// # Errors
/// Neither a name that Bulkhead knows nor a number below 256.
pub fn protocol_name(text: &str) -> Result<String, String> {
    if let Some((_, name)) = PROTOCOLS.iter().find(|(_, name)| *name == text) {
        return Ok((*name).to_owned());
    }
    match text.parse() {
        Ok(number) => Ok(name_of(number)),
        Err(_) => {
            Err(format!("there is no protocol `{text}`; name tcp, udp, icmp, icmpv6, sctp or a number up to 255"))
        }
    }
}

/// The name of a protocol number; the number itself where Bulkhead has no name for it.
#[must_use]
pub fn name_of(number: u8) -> String {
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::denied;
    use super::*;

    #[test]
    fn everything_that_is_asked_for_must_hold() {
        let flow = denied();
        let ask = |change: fn(&mut FlowQuery)| {
            let mut query = FlowQuery::default();
            change(&mut query);
            query.normalise().expect("a valid query").matches(&flow)
        };
        assert!(ask(|_| {}));
        assert!(ask(|query| query.verdict = Some("deny".into())));
        assert!(!ask(|query| query.verdict = Some("allow".into())));
        assert!(ask(|query| query.workload = Some("web-1".into())), "the workload that was judged");
        assert!(ask(|query| query.workload = Some("db-1".into())), "its peer");
        assert!(!ask(|query| query.workload = Some("web".into())), "no part of a name");
        assert!(ask(|query| query.protocol = Some("6".into())), "a protocol by number");
        assert!(!ask(|query| query.protocol = Some("udp".into())));
        assert!(ask(|query| query.port = Some(5432)));
        assert!(!ask(|query| query.port = Some(40_000)), "the source port is not meant");
        assert!(ask(|query| query.source_port = Some(40_000)));
        assert!(ask(|query| query.subject = Some("web-1".into())) && !ask(|query| query.subject = Some("db-1".into())));
        assert!(ask(|query| query.peer = Some("db-1".into())) && !ask(|query| query.peer = Some("web-1".into())));
        assert!(ask(|query| query.label = Some("app=db".into())) && !ask(|query| query.label = Some("app=api".into())));
        assert!(ask(|query| query.group = Some("db".into())) && !ask(|query| query.group = Some("api".into())));
        assert!(ask(|query| query.source = Some("10.0.0.0/24".into())));
        assert!(!ask(|query| query.destination = Some("10.0.0.1".into())));
        assert!(
            ask(|query| query.address = Some("10.0.0.3".into()))
                && !ask(|query| query.address = Some("10.9.0.0/16".into()))
        );
        assert!(ask(|query| query.reason = Some("no_rule".into())) && !ask(|query| query.reason = Some("rule".into())));
        assert!(
            ask(|query| query.hook = Some("cgroup_egress".into())) && !ask(|query| query.hook = Some("xdp".into()))
        );
        assert!(
            ask(|query| query.direction = Some("egress".into()))
                && !ask(|query| query.direction = Some("ingress".into()))
        );
        assert!(ask(|query| query.tcp_flag = Some("syn".into())) && !ask(|query| query.tcp_flag = Some("ACK".into())));
        assert!(ask(|query| query.generation = Some(7)) && !ask(|query| query.generation = Some(8)));
        assert!(ask(|query| query.since = Some(1_700_000_645.0)) && !ask(|query| query.until = Some(1_700_000_645.0)));
        assert!(!ask(|query| query.end = Some("any".into())) && !ask(|query| query.rule = Some("web".into())));
        assert!(!ask(|query| query.process = Some("1".into())) && !ask(|query| query.interface = Some("eth0".into())));
        assert!(!ask(|query| query.icmp = Some("8".into())));
    }

    #[test]
    fn a_verdict_or_protocol_that_does_not_exist_is_refused() {
        let query = FlowQuery { verdict: Some("drop".into()), ..FlowQuery::default() };
        assert!(query.normalise().expect_err("no such verdict").contains("allow, deny or audit"));
        assert!(protocol_name("256").is_err() && protocol_name("tpc").is_err());
        assert_eq!(protocol_name("47").as_deref(), Ok("47"));
    }

    #[test]
    fn a_name_with_odd_characters_survives_the_url() {
        let query = FlowQuery { workload: Some("cgroup:a b&c=d/é".into()), ..FlowQuery::default() };
        assert_eq!(query.encode(), "workload=cgroup%3Aa+b%26c%3Dd%2F%C3%A9");
    }
}
