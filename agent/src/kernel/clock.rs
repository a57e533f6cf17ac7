//! How many jiffies make a second on this kernel (CONFIG_HZ): the packet path measures time in jiffies, which are free.

use std::time::Duration;

use aya::Ebpf;
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use nix::time::{ClockId, clock_gettime};

use super::error::{KernelError, Refusal};

/// Every value that an architecture's Kconfig offers (kernel/Kconfig.hz and arch/*/Kconfig).
const CHOICES: [u32; 14] = [24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 500, 1000, 1024, 1200];

/// How far apart the two best choices must be, in milliseconds, for the best to be believed.
const MARGIN: u64 = 10;
/// 300 seconds after boot all clocks show the same for a moment, in which it takes a second look.
const LOOKS: u32 = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Jiffies in a second.
///
/// # Errors
/// [`KernelError::Program`]: the program that reads them can't run, or no choice fits.
pub fn jiffies_per_second(ebpf: &mut Ebpf) -> Result<u32, KernelError> {
    let refused = |source: Refusal| KernelError::Program { what: "reading jiffies".to_owned(), source };
    for _ in 0..LOOKS {
        let jiffies = read(ebpf).map_err(|source| refused(source.into()))?;
        let uptime = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|errno| refused(errno.into()))?;
        if let Some(hz) = fitting(jiffies, uptime.tv_sec() as f64 + uptime.tv_nsec() as f64 / 1e9) {
            return Ok(hz);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Err(refused("no CONFIG_HZ fits the kernel's clock; please report this with the output of `uname -a`".into()))
}

fn read(ebpf: &mut Ebpf) -> Result<u32, ProgramError> {
    let program: &mut Xdp = ebpf.program_mut("clock").ok_or(ProgramError::NotLoaded)?.try_into()?;
    // The shortest frame that the kernel lets an XDP program see (ETH_HLEN in net/bpf/test_run.c).
    let frame = [0; 64];
    Ok(program.test_run(TestRunOptions { data_in: Some(&frame), repeat: 1, ..TestRunOptions::default() })?.return_value)
}

/// The choice whose clock would show `jiffies` after `uptime` seconds: it starts 300 seconds before its lower half wraps
/// (INITIAL_JIFFIES in include/linux/jiffies.h). `None` where more than one fits.
fn fitting(jiffies: u32, uptime: f64) -> Option<u32> {
    let expected = |hz: u32| ((uptime * f64::from(hz)) as u64 as u32).wrapping_sub(300 * hz);
    let milliseconds_off = |hz: u32| {
        let distance = jiffies.wrapping_sub(expected(hz)).cast_signed().unsigned_abs();
        u64::from(distance) * 1_000 / u64::from(hz)
    };
    let mut choices = CHOICES;
    choices.sort_by_key(|hz| milliseconds_off(*hz));
    (milliseconds_off(choices[1]) > milliseconds_off(choices[0]) + MARGIN).then_some(choices[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_is_told_from_its_neighbours_soon_and_late_after_boot() {
        for hz in CHOICES {
            for uptime in [5.0, 298.0, 302.0, 86_400.0, 1e7] {
                let jiffies = ((uptime * f64::from(hz)) as u64 as u32).wrapping_sub(300 * hz);
                assert_eq!(fitting(jiffies.wrapping_add(1), uptime), Some(hz), "{hz} after {uptime} s");
            }
        }
    }

    #[test]
    fn at_the_moment_when_all_clocks_show_the_same_none_is_believed() {
        assert_eq!(fitting(0, 300.0), None);
    }
}
