//! Flows that are open, so that the line of their end has the names of their beginning.
//!
//! Only with a flow log. There is room for [`OPEN`] of them; the end of one that found none has addresses and no names.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Address, Count, End, FlowKey, Verdict};

use super::filter::name_of;
use crate::kernel::counts::Ended;
use crate::view::{FlowEnd, FlowView};

/// Flows that are remembered.
const OPEN: usize = 65_536;

/// Open flows, by their key.
#[derive(Debug, Default)]
pub(super) struct OpenFlows(HashMap<FlowKey, Arc<FlowView>>);

impl OpenFlows {
    /// Remembers a flow that passed. Of its two sides the sender's is preferred, which may know the process.
    pub(super) fn note(&mut self, protocol: u8, flow: &Arc<FlowView>) {
        if flow.verdict == Verdict::Deny.as_str() {
            return;
        }
        let address = |address: IpAddr| Address::from(address);
        let port = |port: Option<u16>| port.unwrap_or(0).to_be();
        let (source, destination) = (address(flow.source), address(flow.destination));
        let (key, _) =
            FlowKey::new(protocol, (&source, port(flow.source_port)), (&destination, port(flow.destination_port)));
        if flow.direction == "egress" || !self.0.contains_key(&key) {
            if self.0.len() >= OPEN && !self.0.contains_key(&key) {
                return;
            }
            self.0.insert(key, flow.clone());
        }
    }

    /// The line of a flow's end; `now` in seconds since the Unix epoch.
    pub(super) fn end(&mut self, ended: &Ended, now: f64) -> FlowView {
        let began = self.0.remove(&ended.key);
        let source = match (&began, ended.initiator) {
            (Some(flow), _) => {
                let is_low = IpAddr::from(*ended.key.address(End::Low)) == flow.source
                    && Some(u16::from_be(ended.key.port(End::Low))).filter(|port| *port != 0) == flow.source_port;
                if is_low { End::Low } else { End::High }
            }
            (None, Some(initiator)) => initiator,
            (None, None) => End::Low,
        };
        let flow = began.map_or_else(|| unnamed(&ended.key, source), |flow| (*flow).clone());
        let of = |end: End| -> Count { ended.sent[end as usize] };
        let (sent, received) = (of(source), of(source.other()));
        FlowView {
            time: now,
            end: Some(FlowEnd {
                how: ended.how.as_str().to_owned(),
                packets_sent: sent.packets,
                bytes_sent: sent.bytes,
                packets_received: received.packets,
                bytes_received: received.bytes,
            }),
            ..flow
        }
    }
}

/// A flow whose beginning nobody remembers.
fn unnamed(key: &FlowKey, source: End) -> FlowView {
    let protocol = key.protocol();
    let port = |end: End| matches!(protocol, 6 | 17 | 132).then(|| u16::from_be(key.port(end)));
    FlowView {
        verdict: Verdict::Allow.as_str().to_owned(),
        reason: "established".to_owned(),
        protocol: name_of(protocol),
        source: (*key.address(source)).into(),
        source_port: port(source),
        destination: (*key.address(source.other())).into(),
        destination_port: port(source.other()),
        ..FlowView::nothing()
    }
}
