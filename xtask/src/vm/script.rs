//! What the machine does once it has booted, and how it tells of it.

use super::SLOWNESS;
use crate::workspace::Executable;

/// What the script's own lines begin with; everything else is what the harnesses print.
const MARK: &str = "@bulkhead-vm ";

/// On the kernel's command line, before the number of the first harness to run.
pub const FROM: &str = "bulkhead.from=";

/// How long one harness may take.
const SECONDS: u32 = 20 * 60;

/// A line of the script's.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// The harness of this number begins.
    Begin(usize),
    /// It has ended with this code.
    End(i32),
    /// All have ended.
    Done,
}

impl Mark {
    /// What a line says, if it is the script's.
    pub fn of(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix(MARK)?.split(' ');
        match (words.next()?, words.next()) {
            ("begin", Some(number)) => Some(Self::Begin(number.parse().ok()?)),
            ("end", Some(code)) => Some(Self::End(code.parse().ok()?)),
            ("done", None) => Some(Self::Done),
            _ => None,
        }
    }
}

/// `/init`: mounts what a host has mounted, runs the harnesses one by one, and powers off.
pub fn init(harnesses: &[Executable], filter: Option<&str>) -> String {
    let mut script = format!(
        r#"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin HOME=/ BULKHEAD_TEST_SLOWNESS={SLOWNESS}
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox mount -t bpf bpf /sys/fs/bpf
busybox chown 0:0 / /tmp
ip link set lo up
exec </dev/null >/dev/ttyS1 2>&1
from=$(busybox sed -n 's/.*{FROM}\([0-9]*\).*/\1/p' /proc/cmdline)
harness() {{
    [ "$1" -ge "${{from:-0}}" ] || return
    cd "$2"
    export CARGO_MANIFEST_DIR="$2"
    echo "{MARK}begin $1"
    shift 2
    busybox timeout -s KILL {SECONDS} "$@"
    code=$?
    # What it printed last may lack its end of line.
    echo
    echo "{MARK}end $code"
}}
"#
    );
    for (number, harness) in harnesses.iter().enumerate() {
        let words = [number.to_string(), harness.package.display().to_string(), harness.path.display().to_string()];
        let words = words.into_iter().chain(filter.map(str::to_owned)).map(|word| quoted(&word));
        script.push_str(&format!("harness {}\n", words.collect::<Vec<_>>().join(" ")));
    }
    script.push_str(&format!("echo \"{MARK}done\"\nbusybox poweroff -f\n"));
    script
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_lines_are_told_from_what_tests_print() {
        assert_eq!(Mark::of("@bulkhead-vm begin 3"), Some(Mark::Begin(3)));
        assert_eq!(Mark::of("@bulkhead-vm end 101"), Some(Mark::End(101)));
        assert_eq!(Mark::of("@bulkhead-vm done"), Some(Mark::Done));
        assert_eq!(Mark::of("test done ... ok"), None);
    }

    #[test]
    fn each_harness_runs_in_its_package_with_the_filter_as_it_was_given() {
        let harness = Executable {
            name: "load".into(),
            kinds: vec!["test".into()],
            test: true,
            path: "/tree/target/debug/deps/load-1".into(),
            package: "/tree/tests".into(),
        };
        let script = init(&[harness], Some("it's"));
        assert!(script.contains("harness '0' '/tree/tests' '/tree/target/debug/deps/load-1' 'it'\\''s'\n"), "{script}");
        assert!(script.ends_with("echo \"@bulkhead-vm done\"\nbusybox poweroff -f\n"), "{script}");
    }
}
