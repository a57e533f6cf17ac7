//! The ends of flows, for the flow log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::flow::record::Recorder;
use crate::kernel::counts::LogMaps;
use crate::kernel::readings::KernelReadings;

/// How often flows are looked through for those that ended.
const LOOK: Duration = Duration::from_secs(2);

/// Tells the ends of flows for as long as the agent runs.
pub(super) async fn tell_ends(maps: Arc<LogMaps>, readings: Arc<KernelReadings>, recorder: Arc<Recorder>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complains = true;
    loop {
        tick.tick().await;
        let (maps, readings, recorder) = (maps.clone(), readings.clone(), recorder.clone());
        // Walking over the tables takes a while where they are full.
        let told = tokio::task::spawn_blocking(move || maps.ended(&readings).map(|ended| recorder.end(&ended))).await;
        if let Ok(Err(error)) = told
            && std::mem::replace(&mut complains, false)
        {
            tracing::warn!(%error, "the ends of flows can't be read: the flow log has none of them");
        }
    }
}
