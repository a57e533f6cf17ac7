//! Takes away what labs of processes that were killed left behind.

use std::fs;
use std::path::Path;
use std::sync::Once;

use super::{cgroup, site};

/// Sweeps, the first time that a process asks.
pub(super) fn once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
}

/// Sweeps. Two that do so at once do no harm.
pub fn sweep() {
    let Ok(tree) = cgroup::mount_point() else { return };
    let temporary = std::env::temp_dir();
    let mut names: Vec<String> = [&temporary, &tree]
        .into_iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()))
        .collect();
    names.sort();
    names.dedup();
    for name in names {
        site::clear(&temporary.join(&name), &tree.join(&name));
    }
}

/// The process that a lab's name names.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(site::PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_labs_own_names_are_swept() {
        assert_eq!(owner("bulkhead-lab-123-4"), Some(123));
        assert_eq!(owner("bulkhead-lab-mine"), None);
        assert_eq!(owner("bulkhead-123-4"), None);
    }
}
