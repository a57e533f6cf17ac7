//! Which flows somebody asks for: the query of `GET /v1/flows`, and how it reads a flow.

use bulkhead_ebpf::abi::Verdict;
use serde::Deserialize;

use crate::view::FlowView;

const PROTOCOLS: [(u8, &str); 5] = [(1, "icmp"), (6, "tcp"), (17, "udp"), (58, "icmpv6"), (132, "sctp")];

/// The query of `GET /v1/flows`. Everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// Go on with new flows.
    #[serde(default)]
    pub follow: bool,
    /// How many past flows at most.
    pub limit: Option<usize>,
    /// `allow`, `deny` or `audit`.
    pub verdict: Option<String>,
    /// A workload's name, at either end.
    pub workload: Option<String>,
    /// A protocol, by name or number.
    pub protocol: Option<String>,
    /// A destination port.
    pub port: Option<u16>,
}

impl FlowQuery {
    /// As the query of a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if self.follow {
            query.append_pair("follow", "true");
        }
        let number = |value: Option<usize>| value.map(|value| value.to_string());
        for (key, value) in [
            ("limit", number(self.limit)),
            ("verdict", self.verdict.clone()),
            ("workload", self.workload.clone()),
            ("protocol", self.protocol.clone()),
            ("port", number(self.port.map(usize::from))),
        ] {
            if let Some(value) = value {
                query.append_pair(key, &value);
            }
        }
        query.finish()
    }

    /// Checks the values and puts the protocol the way flows carry it.
    ///
    /// # Errors
    /// A verdict or protocol that does not exist.
    pub fn normalise(mut self) -> Result<Self, String> {
        if let Some(verdict) = &self.verdict
            && !Verdict::ALL.iter().any(|known| known.as_str() == verdict)
        {
            return Err(format!("there is no verdict `{verdict}`; ask for allow, deny or audit"));
        }
        self.protocol = self.protocol.as_deref().map(protocol_name).transpose()?;
        Ok(self)
    }

    /// Whether `flow` was asked for.
    #[must_use]
    pub fn matches(&self, flow: &FlowView) -> bool {
        fn absent_or<T: PartialEq>(wanted: Option<T>, seen: impl FnOnce(T) -> bool) -> bool {
            wanted.is_none_or(seen)
        }
        absent_or(self.verdict.as_ref(), |verdict| *verdict == flow.verdict)
            && absent_or(self.protocol.as_ref(), |protocol| *protocol == flow.protocol)
            && absent_or(self.port, |port| flow.destination_port == Some(port))
            && absent_or(self.workload.as_ref(), |name| {
                flow.workload.as_ref() == Some(name) || flow.peer.as_ref() == Some(name)
            })
    }
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
