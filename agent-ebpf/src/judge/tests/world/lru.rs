//! A table of flows in which the one used longest ago gives way.

use crate::abi::{Flow, FlowKey};
use crate::track::FlowCell;

/// Flows in the order of their use, the last one last.
#[derive(Default)]
pub(super) struct Lru(pub(super) Vec<(FlowKey, &'static FlowCell)>);

impl Lru {
    pub(super) fn get(&mut self, key: &FlowKey) -> Option<&'static FlowCell> {
        let place = self.0.iter().position(|(of, _)| of == key)?;
        let entry = self.0.remove(place);
        self.0.push(entry);
        Some(entry.1)
    }

    /// The one that was used longest ago gives way.
    pub(super) fn insert(&mut self, key: &FlowKey, flow: &Flow, room: usize) -> bool {
        if room == 0 || self.get(key).is_some() {
            return false;
        }
        if self.0.len() >= room {
            self.0.remove(0);
        }
        self.0.push((*key, Box::leak(Box::new(FlowCell::new(*flow)))));
        true
    }
}
