//! From one build to another whose maps are laid out otherwise, killed at any moment on the way; and no way back but by hand.
//!
//! The older build enforces; the newer one is started and killed until it is let finish. Then the older one is started again: it
//! says that a newer one enforces, ends, and has changed nothing.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_ebpf::abi::LAYOUT;

use super::Effort;
use super::scene::{Scene, Traffic, kill, log, start};
use crate::bench::Figure;
use crate::check::eventually;
use crate::lab::{agent, binaries};
use crate::world::Random;

/// The newer build is killed so many times at most before it is let finish.
const MOST_KILLS: usize = 5;
/// And at most so long after it was started: it is done earlier.
const LONGEST: Duration = Duration::from_millis(1_200);

/// Upgrades, tries to go back, and looks.
///
/// # Panics
/// Something passed, broke or was left over.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("upgrades: seed {seed}");
    let mut random = Random::new(seed);
    let deadline = effort.deadline();
    let (mut upgrades, mut kills, mut passed, mut denied) = (0, 0, 0, 0);
    while upgrades == 0 || Instant::now() < deadline {
        let scene = Scene::new();
        let traffic = scene.traffic();
        let newer = || agent::command_of(binaries::successor(), scene.lab.site(), &[]);
        for _ in 0..random.below(MOST_KILLS + 1) {
            let mut agent = start(&scene.lab, newer());
            // What is left to chance is the moment: there is no condition to wait for.
            thread::sleep(crate::check::slowed(LONGEST).mul_f64(random.below(1_000) as f64 / 1_000.0));
            kill(&mut agent);
            kills += 1;
        }
        let successor = scene.lab.successor();
        successor.eventually("it has nothing to complain of", || successor.status().enforcing.then_some(()));
        look(&scene, &traffic, "upgraded", &mut passed, &mut denied);
        let layouts = fs::read_dir(scene.lab.site().bpffs().join("bulkhead")).expect("it is pinned there");
        let names: Vec<_> = layouts.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(
            names,
            [format!("v{}", LAYOUT + 1).as_str()],
            "nothing of the older build is left\n{}",
            successor.dump()
        );
        successor.kill();

        let output = agent::command(scene.lab.site(), &[]).output().expect("the binary is there");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{message}");
        assert!(message.contains("a newer Bulkhead enforces on this host"), "{message}");
        look(&scene, &traffic, "after the older build was started again", &mut passed, &mut denied);
        upgrades += 1;
    }
    vec![
        Figure::told("upgrades to another layout", upgrades as f64, "upgrades"),
        Figure::told("kills on the way", kills as f64, "kills"),
        Figure::told("denied attempts meanwhile, none of which passed", denied as f64, "attempts"),
        Figure::told("allowed attempts meanwhile, none of which was refused", passed as f64, "attempts"),
    ]
}

/// Looks until something was allowed and something denied.
fn look(scene: &Scene, traffic: &Traffic, when: &str, passed: &mut u64, denied: &mut u64) {
    let (mut more, mut fewer) = (0, 0);
    eventually(
        when,
        || log(&scene.lab),
        || {
            let seen = scene.look(traffic, when);
            more += seen.0;
            fewer += seen.1;
            (more > 0 && fewer > 0).then_some(())
        },
    );
    *passed += more;
    *denied += fewer;
}
