//! The netlink source: the links of the agent's network namespace, their names, aliases and addresses, and what is routed
//! to each. (The kernel sends no notice of an alias that is given to a link that is down; the one of its coming up has it.)
//!
//! One socket receives the kernel's notices, another reads tables. Notices of links and addresses carry the new state; those
//! of routes do not tell all (a route that goes with its link has none), so they lead to reading that link's routes.
//! While the controller is busy the socket is not read: what does not fit in it is lost, the kernel says so, and
//! everything is read again.

mod links;
pub(super) mod notices;
pub(super) mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::controller::Event;
use crate::source::restart::{Closed, keep_running, tell};
use crate::source::{Change, LinkFact};

use links::{Doubtful, Links};
use notices::{Batch, Notices};
use reader::Reader;

/// How often everything is compared with what was told, in case a notice was lost or never sent.
const SAFETY_NET: Duration = Duration::from_secs(60);
/// Room for notices that are not read yet, in bytes: some 10,000 of them.
const RECEIVE_BUFFER: usize = 16 << 20;
/// With more links than that in doubt one look at all routes is cheaper than one for each link.
const FEW_LINKS: usize = 8;

/// Tells of the links of this thread's network namespace until `stop` turns true or nobody listens any more.
pub async fn watch(events: mpsc::Sender<Event>, stop: watch::Receiver<bool>) {
    keep_running("netlink", &events, stop, || run(RECEIVE_BUFFER, &events)).await;
}

async fn run(receive_buffer: usize, events: &mpsc::Sender<Event>) -> anyhow::Result<Closed> {
    // Subscribed first and read second: what changes in between has a notice.
    let mut notices = Notices::subscribe(receive_buffer)?;
    let mut reader = Reader::open()?;
    let mut links = Links::read(&mut reader).await?;
    let mut told = links.facts();
    if tell(events, Instant::now(), resync(&told)).await.is_err() {
        return Ok(Closed);
    }
    let mut safety_net = interval(SAFETY_NET);
    safety_net.set_missed_tick_behavior(MissedTickBehavior::Delay);
    safety_net.reset();
    loop {
        let batch = tokio::select! {
            batch = notices.next() => Some(batch?),
            _ = safety_net.tick() => None,
        };
        let seen = Instant::now();
        let changes = match batch {
            Some(Batch::Messages(messages)) => {
                let mut doubtful = Doubtful::default();
                for message in messages {
                    links.absorb(message, &mut doubtful);
                }
                look_again(&mut links, &mut doubtful, &mut reader).await?;
                differences(&mut told, &links, &doubtful.links)
            }
            Some(Batch::Overflow) => {
                tracing::warn!("links change faster than they can be followed: all are read again");
                links = Links::read(&mut reader).await?;
                told = links.facts();
                vec![resync(&told)]
            }
            None => {
                links = Links::read(&mut reader).await?;
                let now = links.facts();
                if now == told {
                    continue;
                }
                tracing::info!("links changed without a notice of the kernel's: all are told anew");
                told = now;
                vec![resync(&told)]
            }
        };
        for change in changes {
            if tell(events, seen, change).await.is_err() {
                return Ok(Closed);
            }
        }
    }
}

/// Reads the routes of the links whose notices do not tell them.
async fn look_again(links: &mut Links, doubtful: &mut Doubtful, reader: &mut Reader) -> anyhow::Result<()> {
    if doubtful.all_routes || doubtful.routes.len() > FEW_LINKS {
        links.set_routes(None, &reader.routes(None).await?);
        doubtful.links.extend(links.indices());
    } else {
        for index in &doubtful.routes {
            links.set_routes(Some(*index), &reader.routes(Some(*index)).await?);
        }
    }
    Ok(())
}

/// What is to be told of these links, so that what was told is true again.
fn differences(told: &mut BTreeMap<u32, LinkFact>, links: &Links, changed: &BTreeSet<u32>) -> Vec<Change> {
    let mut changes = Vec::new();
    for index in changed {
        match links.fact(*index) {
            Some(fact) if told.get(index) != Some(&fact) => {
                told.insert(*index, fact.clone());
                changes.push(Change::LinkChanged(fact));
            }
            Some(_same) => {}
            None => changes.extend(told.remove(index).map(|fact| Change::LinkGone(fact.index))),
        }
    }
    // A name or an address that moves from one link to another leaves the first before it arrives at the second.
    changes.sort_by_key(|change| !matches!(change, Change::LinkGone(_)));
    changes
}

fn resync(told: &BTreeMap<u32, LinkFact>) -> Change {
    Change::LinkResync(told.values().cloned().collect())
}

#[cfg(test)]
mod tests;
