//! What is trusted, and beside it what is not.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use super::super::load;
use super::*;

const GROUP_DOCUMENT: &str =
    "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: web}\nspec: {selector: {}}\n";
const SOMEBODY: u32 = 4_242;

struct Scene {
    _above: tempfile::TempDir,
    above: PathBuf,
    directory: PathBuf,
    file: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let at = tempfile::tempdir().expect("a temporary directory");
        let above = at.path().join("above");
        let directory = above.join("policies");
        fs::create_dir_all(&directory).expect("directories");
        let file = directory.join("web.yaml");
        fs::write(&file, GROUP_DOCUMENT).expect("a file");
        for (path, bits) in [(&above, 0o755), (&directory, 0o755), (&file, 0o644)] {
            mode(path, bits);
        }
        Self { _above: at, above, directory, file }
    }

    /// Both by its own name and by that of its directory.
    fn problem(&self) -> Option<String> {
        let both = [&self.directory, &self.file].map(|path| {
            let problems = load(std::slice::from_ref(path)).err().unwrap_or_default();
            assert!(problems.len() < 2, "{problems:?}");
            problems.first().map(ToString::to_string)
        });
        assert_eq!(both[0], both[1]);
        both.into_iter().next().flatten()
    }

    fn is_trusted(&self) {
        assert_eq!(self.problem(), None);
    }

    fn is_refused(&self, says: &[&str]) {
        let problem = self.problem().expect("others can change it");
        for part in says {
            assert!(problem.contains(part), "`{part}` is not in: {problem}");
        }
    }
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).expect("it is ours");
}

#[test]
fn a_file_that_others_can_write_is_refused_until_they_can_not() {
    let scene = Scene::new();
    scene.is_trusted();
    let path = scene.file.display().to_string();
    for (bits, who) in [(0o666, "everybody"), (0o646, "everybody"), (0o664, "group 0")] {
        mode(&scene.file, bits);
        scene.is_refused(&["the file", &path, who, &format!("`chmod go-w {path}`")]);
    }
    for bits in [0o644, 0o600, 0o444, 0o755] {
        mode(&scene.file, bits);
        scene.is_trusted();
    }
}

#[test]
fn a_file_of_somebody_elses_is_refused_until_it_is_roots() {
    let scene = Scene::new();
    mode(&scene.file, 0o400);
    chown(&scene.file, Some(SOMEBODY), None).expect("tests run as root");
    scene.is_refused(&["user 4242", &format!("`chown root {}`", scene.file.display())]);
    chown(&scene.file, Some(0), Some(SOMEBODY)).expect("tests run as root");
    scene.is_trusted();
}

#[test]
fn each_directory_on_the_way_counts() {
    let scene = Scene::new();
    for directory in [&scene.directory, &scene.above] {
        let path = directory.display().to_string();
        mode(directory, 0o775);
        scene.is_refused(&["the directory", &format!("`chmod go-w {path}`")]);
        mode(directory, 0o755);
        scene.is_trusted();
        chown(directory, Some(SOMEBODY), None).expect("tests run as root");
        scene.is_refused(&["the directory", "user 4242"]);
        // Not even sticky, for its owner may do anything there.
        mode(directory, 0o1777);
        scene.is_refused(&["the directory", "user 4242"]);
        chown(directory, Some(0), None).expect("tests run as root");
        scene.is_trusted();
        mode(directory, 0o755);
    }
}

#[test]
fn a_mounted_config_map_is_trusted_and_what_others_put_there_is_not() {
    let scene = Scene::new();
    let mount = scene.above.join("mount");
    let version = mount.join("..2026_01_01");
    fs::create_dir_all(&version).expect("directories");
    fs::rename(&scene.file, version.join("web.yaml")).expect("the same file system");
    symlink("..2026_01_01", mount.join("..data")).expect("a link");
    symlink("..data/web.yaml", mount.join("web.yaml")).expect("a link");
    // drwxrwxrwt, as Kubernetes mounts it.
    mode(&mount, 0o1777);
    let look = || load(std::slice::from_ref(&mount));
    assert!(look().is_ok(), "{:?}", look());
    let refused = |says: &str| {
        let problems = look().expect_err("others can change it");
        assert!(problems.len() == 1 && problems[0].to_string().contains(says), "`{says}` is not in: {problems:?}");
    };

    mode(&mount, 0o777);
    refused("the directory");
    mode(&mount, 0o1777);
    // Somebody's link, to a file that is root's.
    fs::write(version.join("db.txt"), GROUP_DOCUMENT.replace("web", "db")).expect("a file");
    symlink("..data/db.txt", mount.join("more.yaml")).expect("a link");
    assert!(look().is_ok(), "{:?}", look());
    lchown(mount.join("more.yaml"), Some(SOMEBODY), None).expect("tests run as root");
    refused("chown -h root");
    fs::remove_file(mount.join("more.yaml")).expect("it is there");
    mode(&version.join("web.yaml"), 0o666);
    refused("the file");
    mode(&version.join("web.yaml"), 0o644);
    mode(&version, 0o777);
    refused("..2026_01_01");
    mode(&version, 0o755);
    assert!(look().is_ok(), "{:?}", look());
}

#[test]
fn what_is_no_policy_is_nobodys_business() {
    let scene = Scene::new();
    let notes = scene.directory.join("notes.txt");
    fs::write(&notes, "").expect("a file");
    mode(&notes, 0o666);
    scene.is_trusted();
}
