//! Pages of the manual that are made of the code: red when they are stale.

use std::path::Path;

/// A page, as it is in the repository.
pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_default()
}

/// Fails where a page is another than it should be; with `UPDATE_DOCS` in the environment, writes it.
pub(crate) fn up_to_date(name: &str, text: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(name), text).expect("the manual can be written");
    }
    let is_fresh = read(name) == text;
    assert!(is_fresh, "docs/{name} is stale: run this test with UPDATE_DOCS=1, and look at what changes");
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}
