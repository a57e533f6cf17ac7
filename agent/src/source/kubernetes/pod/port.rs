//! The ports that containers of a pod name.

use serde::Deserialize;

use crate::source::kubernetes::object::protocol;
use crate::workload::Labels;
use crate::workload::port::{PortName, is_port};

/// As many named ports of a pod are read: each is a label of it.
const MAX_NAMED: usize = 256;

/// A container, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    ports: Option<Vec<Port>>,
    restart_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    container_port: Option<i64>,
    protocol: Option<String>,
}

/// A pod's own labels with those of its named ports, which alone say what its ports are: those of the containers, and of the init
/// containers that stay (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>), in Kubernetes' order. Of two
/// with one name and protocol, it takes the first.
pub(super) fn with_ports(
    mut labels: Labels,
    (containers, init_containers): (Option<Vec<Container>>, Option<Vec<Container>>),
    doubts: &mut Vec<String>,
) -> Labels {
    labels.retain(|key, _| !is_port(key));
    let stays = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = init_containers.into_iter().flatten().filter(stays);
    let ports = containers.into_iter().flatten().chain(sidecars).flat_map(|container| container.ports).flatten();
    let mut named = 0;
    for port in ports {
        let Some(name) = port.name.filter(|name| !name.is_empty()) else { continue };
        if named == MAX_NAMED {
            doubts.push(format!("it names more than {MAX_NAMED} ports, and the others count for nothing"));
            break;
        }
        let Some(protocol) = protocol(port.protocol.as_deref(), doubts) else { continue };
        match port.container_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0) {
            Some(number) => {
                named += 1;
                labels.entry(PortName { protocol, name }.key()).or_insert_with(|| number.to_string());
            }
            None => doubts.push(format!("its port {name:?} has no number from 1 to 65535")),
        }
    }
    labels
}
