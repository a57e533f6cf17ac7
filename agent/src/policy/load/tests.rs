//! Which files are read, and what is said of those that can't be.

use std::os::unix::fs::symlink;

use super::*;

const GROUP: &str =
    "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: NAME}\nspec: {selector: {}}\n";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn write(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(&path, text).expect("a file");
    path
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    let policy = load(paths).unwrap_or_else(|problems| panic!("{problems:?}"));
    policy.groups.into_iter().map(|group| group.name).collect()
}

fn only_problem(paths: &[PathBuf]) -> Problem {
    let mut problems = load(paths).expect_err("a problem");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn a_directory_is_its_yaml_files_and_nothing_else() {
    let at = directory();
    for name in ["b.yaml", "a.yml", ".hidden.yaml", "note.txt", "c.yaml~", "deep/d.yaml", "e.yaml/f.yaml"] {
        let stem = name.split(['.', '/']).find(|part| !part.is_empty()).expect("a name");
        write(&at, name, &GROUP.replace("NAME", stem));
    }
    assert_eq!(names(&[at.path().to_owned()]), ["a", "b"]);
    // A file is read whatever its name is, and a file that is named twice is read once.
    let file = write(&at, "g.policy", &GROUP.replace("NAME", "g"));
    assert_eq!(names(&[at.path().to_owned(), file.clone(), file]), ["a", "b", "g"]);
}

#[test]
fn a_mounted_config_map_is_read_once_through_its_links() {
    let at = directory();
    write(&at, "..2026_01_01/shop.yaml", &GROUP.replace("NAME", "shop"));
    symlink("..2026_01_01", at.path().join("..data")).expect("a link");
    symlink("..data/shop.yaml", at.path().join("shop.yaml")).expect("a link");
    assert_eq!(names(&[at.path().to_owned()]), ["shop"]);
}

#[test]
fn a_directory_that_loses_files_while_it_is_read_is_read_again() {
    let at = directory();
    let [_, second] = ["b", "c"].map(|name| write(&at, &format!("{name}.yaml"), &GROUP.replace("NAME", name)));
    let renamed = at.path().join("a.yaml");
    // Before the directory's second file is opened, it has another name, under which the first listing did not have it.
    let (files, problems) = read_those(&[at.path().to_owned()], |_, _| {
        let _ = fs::rename(&second, &renamed);
        None
    });
    assert_eq!(problems, []);
    assert_eq!(
        files.iter().map(|file| file.path.file_name()).collect::<Vec<_>>(),
        [renamed.file_name(), Some("b.yaml".as_ref())]
    );

    // A link that leads nowhere is there all the same.
    symlink("nowhere", at.path().join("d.yaml")).expect("a link");
    assert!(only_problem(&[at.path().to_owned()]).message.contains("d.yaml"));
}

#[test]
fn what_can_not_be_read_is_told_with_what_to_do() {
    let at = directory();
    let problem = only_problem(&[at.path().to_owned()]);
    assert!(problem.message.contains("no policy files in") && problem.cure.contains("*.yaml"), "{problem}");

    let problem = only_problem(&[at.path().join("missing.yaml")]);
    assert!(problem.message.contains("missing.yaml") && problem.cure.contains("path"), "{problem}");

    symlink("nowhere", at.path().join("dangling.yaml")).expect("a link");
    let problem = only_problem(&[at.path().to_owned()]);
    assert!(problem.message.contains("dangling.yaml"), "{problem}");

    let problem = only_problem(&["/dev/zero".into()]);
    assert!(problem.message.contains("regular file"), "{problem}");

    assert!(only_problem(&[]).message.contains("no policy files"));
}

#[test]
fn a_file_that_is_huge_or_no_text_is_refused() {
    let at = directory();
    let huge = at.path().join("huge.yaml");
    File::create(&huge).and_then(|file| file.set_len(MAX_FILE + 1)).expect("a sparse file");
    assert!(only_problem(&[huge]).message.contains("larger than 4 MiB"));

    let latin = at.path().join("latin.yaml");
    fs::write(&latin, b"# fine\n# caf\xe9\n").expect("a file");
    let problem = only_problem(&[latin]);
    let origin = problem.origin.expect("in the file");
    assert_eq!((origin.line, origin.column), (2, 6));
}

#[test]
fn an_empty_file_is_fine_beside_others_and_no_policy_alone() {
    let at = directory();
    write(&at, "a.yaml", "# nothing yet\n---\n");
    let problem = only_problem(&[at.path().to_owned()]);
    assert!(problem.message.contains("no documents") && problem.cure.contains("bulkhead detach"), "{problem}");
    write(&at, "b.yaml", &GROUP.replace("NAME", "b"));
    assert_eq!(names(&[at.path().to_owned()]), ["b"]);
}

#[test]
fn one_bad_file_among_good_ones_refuses_all_and_only_its_own_problems_are_told() {
    let at = directory();
    write(&at, "a.yaml", &(GROUP.replace("NAME", "a").replace("{}}", "{}, ingress: [{from: [{group: b}]}]}")));
    fs::write(at.path().join("b.yaml"), b"\xff").expect("a file");
    assert!(only_problem(&[at.path().to_owned()]).message.contains("UTF-8"));
}
