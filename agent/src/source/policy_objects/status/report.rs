//! Says what is in force on this node: now and then, and when it changes.
//!
//! All agents see a change at about the same time. What they write of it is spread over as long as they are many, so that all of
//! them together write a hundred times a second at most.

use tokio::time::{Instant, sleep, sleep_until};

use super::{Writer, lease};
use crate::source::kubernetes::{Pace, once_or_twice, up_to};

pub(super) async fn report(writer: &Writer<'_>) {
    let mut in_force = writer.objects.0.in_force.subscribe();
    if in_force.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let pace = writer.server.pace;
    let mut is_out_of_order = false;
    loop {
        let nodes = writer.nodes.borrow().len();
        let known = in_force.borrow_and_update().clone().unwrap_or_default();
        let renewal = Instant::now() + pace.renew + up_to(pace.renew / 4);
        match writer.renew(&lease::text(&known)).await {
            Ok(()) => is_out_of_order = false,
            Err(trouble) => {
                if !std::mem::replace(&mut is_out_of_order, true) {
                    tracing::warn!(
                        "what is in force on this node can't be told the cluster, and is tried again: {trouble}"
                    );
                }
                sleep(once_or_twice(pace.between_reports(nodes))).await;
                continue;
            }
        }
        sleep(pace.between_reports(nodes)).await;
        tokio::select! {
            () = sleep_until(renewal) => {}
            _changed = in_force.changed() => sleep(up_to(Pace::spread(nodes))).await,
        }
    }
}
