//! A page of the documentation as a test: its commands run one after the other, in one shell, on a host of their own, and print
//! what the page says they do.
//!
//! Every ` ```sh ` block is run. A ` ```text ` block right behind one is what it prints, on either output: line by line, where
//! blanks count as one and `…` stands for anything; a line that is nothing but `…` for any lines. A command that fails ends the
//! page, as `set -e` does.
//!
//! The host has namespaces of its own for mounts, links, processes and cgroups: what it keeps in /etc, /run, /var/lib and
//! /sys/fs/bpf is its own, and everything ends with its shell. Paths are those of the page, and so is every command.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::lab::{Lab, binaries};

/// How long a page may take, in seconds: its reader has ten minutes.
const PATIENCE: &str = "120";

/// What begins the output of each block; its number follows.
const MARK: &str = "@@@ block ";

/// Makes the host, in namespaces that are there already, and becomes its shell.
const HOST: &str = r#"
umount -R -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
mkdir -p /run/page/upper /run/page/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/page/upper,workdir=/run/page/work overlay /etc
mount -t tmpfs tmpfs /var/lib
ip link set lo up
"#;

/// A command block of a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins, from 1.
    pub line: usize,
    /// Its commands.
    pub commands: String,
    /// What it prints; `None` where the page does not say.
    pub prints: Option<String>,
}

/// The command blocks of a page.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut follows = false;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```"));
        let text: String = inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
        match kind {
            "sh" => blocks.push(Block { line: number + 1, commands: text, prints: None }),
            "text" if follows => {
                blocks.last_mut().expect("one came before").prints = Some(text);
            }
            _ => {}
        }
        follows = kind == "sh";
    }
    blocks
}

/// Runs a page of docs/, given by its path from the project's root.
///
/// # Panics
/// A command fails, or prints something else than the page says; or no host can be made.
pub fn holds(path: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let blocks = blocks(&page);
    assert!(blocks.len() > 3, "{path} has commands: {blocks:?}");
    let mut script = "set -e\nexec 2>&1\n".to_owned();
    for (number, block) in blocks.iter().enumerate() {
        writeln!(script, "echo '{MARK}{number}'\n{}", block.commands).expect("a string takes all");
    }
    writeln!(script, "echo '{MARK}{}'", blocks.len()).expect("a string takes all");
    let output = run(&root, &script);
    let printed = String::from_utf8_lossy(&output.stdout);
    let error = || format!("{}, {}", output.status, String::from_utf8_lossy(&output.stderr));
    let mut parts = printed.split(MARK).skip(1).map(|part| part.split_once('\n').map_or("", |(_, text)| text));
    for block in &blocks {
        let place = format!("{path}:{}", block.line);
        let part = parts.next().unwrap_or_else(|| panic!("what is before {place} ends it: {}\n{printed}", error()));
        if let Some(expected) = &block.prints {
            assert!(fits(expected, part), "{place} prints\n{part}\nand the page says\n{expected}\nall:\n{printed}");
        }
    }
    assert!(parts.next().is_some() && output.status.success(), "{path} ends early: {}\n{printed}", error());
}

/// Runs a script on a host of its own.
fn run(root: &Path, script: &str) -> Output {
    // It brings the part of the tree of cgroups that becomes the host's whole, and takes it away again.
    let lab = Lab::new();
    let binaries = binaries::bulkhead().parent().expect("it lies in a directory");
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    let file = lab.site().directory.join("page.sh");
    fs::write(&file, script).expect("the lab's directory is writable");
    let enter = "echo $$ > \"$0/cgroup.procs\"; exec timeout --kill-after 5 \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", enter]).arg(&lab.site().cgroup_root).arg(PATIENCE);
    command.args(["unshare", "--mount", "--net", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["bash", "-c", &format!("set -e\n{HOST}\nexec bash \"$0\"")]).arg(&file);
    // What the agent reads from its surroundings is what the page says.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BULKHEAD_")) {
        command.env_remove(name);
    }
    command.current_dir(root).env("PATH", path).env("COLUMNS", "160").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).output().expect("a shell can be started")
}

/// Whether what was printed is what a page says.
fn fits(expected: &str, printed: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty()).collect()
    };
    lines_fit(&words(expected), &words(printed))
}

fn lines_fit(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=printed.len()).any(|skipped| lines_fit(rest, &printed[skipped..]))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, others)| line_fits(first, line) && lines_fit(rest, others))
        }
    }
}

fn line_fits(expected: &str, printed: &str) -> bool {
    let Some((first, rest)) = expected.split_once('…') else { return expected == printed };
    let Some(mut printed) = printed.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('…').collect();
    let last = pieces.pop().expect("a text has a last piece");
    for piece in pieces {
        let Some(at) = printed.find(piece) else { return false };
        printed = &printed[at + piece.len()..];
    }
    printed.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_text_belongs_to_the_commands_right_before_it() {
        let page = "Do\n\n```sh\nls\n```\n\nand see\n\n```text\na\nb\n```\n```text\nno more\n```\n```yaml\nx: 1\n```\n";
        let expected = Block { line: 3, commands: "ls\n".into(), prints: Some("a\nb\n".into()) };
        assert_eq!(blocks(page), [expected]);
    }

    #[test]
    fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
        for (expected, printed, fit) in [
            ("a  b\n", "a b\n", true),
            ("a\n", "b\n", false),
            ("a\n", "a\nb\n", false),
            ("a\n…\n", "a\nb\nc\n", true),
            ("…\nc\n", "a\nb\nc\n", true),
            ("…\nc\n", "a\nb\n", false),
            ("at … by …!\n", "at noon by me!\n", true),
            ("at … by …!\n", "at noon by me\n", false),
            ("at …\n", "by noon\n", false),
        ] {
            assert_eq!(fits(expected, printed), fit, "{expected:?} and {printed:?}");
        }
    }
}
