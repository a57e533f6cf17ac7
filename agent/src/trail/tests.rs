//! A trail tells of everything that is done to it, and where.

use super::super::verify::{Verified, verify};
use super::*;

fn said(cause: &str) -> Said {
    Said { kind: "policy", what: "in_force", cause: cause.to_owned(), ..Said::default() }
}

/// A trail of so many entries.
fn trail(entries: usize) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = super::super::path(directory.path());
    for number in 1..=entries {
        append(&path, said(&format!("edit {number}"))).expect("it is writable");
    }
    (directory, path)
}

fn checked(path: &Path) -> Verified {
    verify(path, None).expect("it can be read")
}

/// Where something is wrong, and what.
fn faults(path: &Path) -> Vec<(usize, String)> {
    checked(path).faults.into_iter().map(|fault| (fault.line, fault.what)).collect()
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = fs::read_to_string(path).expect("it is there").lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("it is writable");
}

#[test]
fn a_trail_that_nobody_touched_is_whole_and_a_hash_kept_elsewhere_is_found_in_it() {
    let (_directory, path) = trail(5);
    let found = checked(&path);
    assert_eq!((found.entries, found.faults.as_slice()), (5, [].as_slice()));
    let head = found.head.expect("a newest entry");
    assert_eq!(head.sequence, 5);
    append(&path, said("later")).expect("it is writable");
    assert_eq!(verify(&path, Some(&head.hash)).expect("it can be read").faults, []);
    assert_eq!(verify(&path, Some(NOTHING)).expect("it can be read").faults.len(), 1);
}

#[test]
fn an_edit_is_found_at_its_line_and_so_is_one_that_mends_its_own_hash() {
    let (_directory, path) = trail(5);
    edit(&path, |lines| lines[2] = lines[2].replace("edit 3", "edit x"));
    assert_eq!(faults(&path), [(3, "entry 3 was edited: its hash is not that of its text".to_owned())]);
    let (_directory, path) = trail(5);
    edit(&path, |lines| {
        let mut entry: Entry = serde_json::from_str(&lines[2]).expect("an entry");
        entry.cause = "edit x".to_owned();
        lines[2] = entry.sealed().text();
    });
    let found = faults(&path);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == 4 && found[0].1.contains("does not follow"), "{found:?}");
    let (_directory, path) = trail(3);
    edit(&path, |lines| lines[1] = lines[1].replacen(':', ": ", 1));
    assert_eq!(faults(&path)[0].0, 2, "not even a blank may be added");
}

#[test]
fn a_cut_is_found_in_front_in_the_middle_and_at_the_end() {
    let (_directory, path) = trail(5);
    edit(&path, |lines| drop(lines.drain(..2)));
    assert_eq!(faults(&path), [(1, "the trail begins with entry 3: what was before is cut off".to_owned())]);
    let (_directory, path) = trail(5);
    edit(&path, |lines| drop(lines.drain(1..3)));
    assert_eq!(faults(&path), [(2, "entries 2 to 3 are missing".to_owned())]);
    let (_directory, path) = trail(5);
    edit(&path, |lines| lines.truncate(3));
    assert_eq!(faults(&path), [(0, "entries 4 to 5 are cut off at the end".to_owned())]);
    // Going on does not cover it up.
    append(&path, said("later")).expect("it is writable");
    let found = faults(&path);
    assert!(found.iter().any(|(line, what)| *line == 4 && what.contains("are missing")), "{found:?}");
    assert!(found.iter().any(|(line, what)| *line == 4 && what.contains("the agent found the trail cut")), "{found:?}");
    fs::remove_file(&path).expect("it is there");
    assert!(!faults(&path_with_nothing(&path)).is_empty(), "the head remembers a trail that is gone");
}

fn path_with_nothing(path: &Path) -> PathBuf {
    fs::write(path, "").expect("it is writable");
    path.to_owned()
}

#[test]
fn another_order_and_an_entry_twice_are_found() {
    let (_directory, path) = trail(4);
    edit(&path, |lines| lines.swap(1, 2));
    assert_eq!(faults(&path)[0], (2, "entries 2 to 2 are missing".to_owned()));
    assert!(faults(&path)[1].1.contains("the order was changed"), "{:?}", faults(&path));
    let (_directory, path) = trail(3);
    edit(&path, |lines| lines.insert(2, lines[1].clone()));
    assert!(faults(&path)[0].1.contains("it is there twice"), "{:?}", faults(&path));
}

#[test]
fn a_trail_that_was_written_anew_is_found_by_its_head_and_a_missing_head_is_told() {
    let (_directory, path) = trail(3);
    let (_other, forged) = trail(3);
    fs::copy(&forged, &path).expect("it can be copied");
    assert!(faults(&path)[0].1.contains("the trail was replaced"), "{:?}", faults(&path));
    fs::remove_file(head_path(&path)).expect("it is there");
    assert!(faults(&path)[0].1.contains("can't be told"), "{:?}", faults(&path));
}

#[test]
fn a_line_that_a_crash_cut_off_is_taken_away_and_told() {
    let (_directory, path) = trail(2);
    let mut file = OpenOptions::new().append(true).open(&path).expect("it is there");
    file.write_all(b"{\"sequence\":3,\"ti").expect("it is writable");
    assert!(!faults(&path).is_empty());
    append(&path, said("after the crash")).expect("it is writable");
    let found = checked(&path);
    assert_eq!((found.entries, found.faults.as_slice()), (4, [].as_slice()));
    let text = fs::read_to_string(&path).expect("it is there");
    assert!(text.lines().nth(2).is_some_and(|line| line.contains("as a crash leaves it")), "{text}");
}

#[test]
fn a_trail_goes_on_in_another_file_and_is_verified_as_one() {
    let (_directory, path) = trail(2);
    let mut writer = Writer::open(&path, TrailMetrics::default()).expect("nobody holds it");
    writer.size = ROTATE;
    writer.write(said("in another file")).expect("it is writable");
    assert!(
        append(&path, said("no")).is_err_and(|error| error.to_string().contains("another process")),
        "one writes it"
    );
    drop(writer);
    assert_eq!(checked(&path).entries, 3);
    assert_eq!(faults(&path), []);
    fs::remove_file(path.with_extension("jsonl.1")).expect("it was rotated");
    assert!(faults(&path)[0].1.contains("what was before is cut off"), "{:?}", faults(&path));
}

#[test]
fn changes_of_membership_within_a_second_are_one_entry_and_one_that_comes_back_is_none() {
    let groups = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let change = |name: &str, before, after| Members {
        changes: [(name.into(), super::super::Membership { before, after, source: "file" })].into(),
        cause: "workloads",
        generation: 7,
    };
    let mut members = None;
    gather(&mut members, change("web-1", None, groups(&["web"])));
    gather(&mut members, change("web-1", groups(&["web"]), groups(&["web", "shop"])));
    gather(&mut members, change("db-1", groups(&["db"]), groups(&[])));
    gather(&mut members, change("db-1", groups(&[]), groups(&["db"])));
    let (_, Members { changes, .. }) = members.clone().expect("there are some");
    assert_eq!(changes.len(), 1);
    let (_directory, path) = trail(0);
    let mut writer = Writer::open(&path, TrailMetrics::default()).expect("nobody holds it");
    writer.put_members(members);
    let text = fs::read_to_string(&path).expect("it is there");
    assert!(text.contains("workloads: web-1 (file): - to [web, shop]") && text.contains("\"generation\":7"), "{text}");
}
