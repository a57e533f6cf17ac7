//! bpf-linker, which has to be built with the LLVM of the compiler whose output it links.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use super::scratch::Scratch;
use crate::toolchain::{self, Arrangement};

/// The version that the eBPF object is known to link with.
pub const VERSION: &str = "0.13.0";

/// LLVM's versions that this bpf-linker can be built with.
pub const LLVMS: [u32; 3] = [21, 22, 23];

/// Whether the installed bpf-linker does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It links what the compiler leaves, or there is no compiler yet to try it with.
    Fits,
    /// There is none.
    Absent,
    /// It does not, and why.
    Unfit(String),
}

/// A few lines in which a compiler uses what its LLVM has that an older one does not read.
const PROBE: &str = "
    #![no_std]
    pub fn probe(bytes: &mut [u8], at: usize, word: &u64) -> Option<u64> {
        let (head, tail) = bytes.split_at_mut_checked(at)?;
        head.first_mut()?.clone_from(tail.first()?);
        word.checked_add(tail.len() as u64)
    }
";

/// Tries the bpf-linker that is found first.
pub fn fit(arrangement: Option<&Arrangement>) -> Fit {
    let Some(linker) = toolchain::find("bpf-linker") else { return Fit::Absent };
    let Some(arrangement) = arrangement else { return Fit::Fits };
    match try_link(&linker, arrangement) {
        Ok(None) => Fit::Fits,
        Ok(Some(why)) => Fit::Unfit(format!("{} can't link what it compiles: {why}", linker.display())),
        Err(problem) => Fit::Unfit(format!("{} can't be tried: {problem:#}", linker.display())),
    }
}

/// Links a probe as the eBPF object is linked; a complaint is an answer, not an error. What is linked is bitcode for the
/// host, because only bitcode's version matters and a nightly has no `core` for BPF at hand.
fn try_link(linker: &Path, arrangement: &Arrangement) -> Result<Option<String>> {
    let directory = Scratch::new("linker")?;
    let bitcode = directory.0.join("probe.bc");
    let mut compile = arrangement.rustc();
    compile.args(["--edition", "2024", "--crate-type", "lib", "--emit", "llvm-bc", "-Copt-level=2", "-Cdebuginfo=2"]);
    let compiled = output(compile.arg("-o").arg(&bitcode).arg("-"), PROBE)?;
    if !compiled.status.success() {
        bail!("{} does not compile a probe: {}", arrangement.describe(), complaint(&compiled));
    }
    let mut link = Command::new(linker);
    link.args(["--target", "bpfel", "--btf", "--disable-expand-memcpy-in-order", "--emit", "llvm-bc"]);
    let linked = output(link.arg("-o").arg(directory.0.join("linked.bc")).arg(&bitcode), "")?;
    Ok((!linked.status.success()).then(|| complaint(&linked)))
}

/// The major version of the arrangement's LLVM.
pub fn llvm(arrangement: &Arrangement) -> Result<u32> {
    let answer = output(arrangement.rustc().arg("-vV"), "")?;
    let answer = String::from_utf8_lossy(&answer.stdout);
    major(&answer).with_context(|| format!("{} does not tell its LLVM's version", arrangement.describe()))
}

fn major(answer: &str) -> Option<u32> {
    let version = answer.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn output(command: &mut Command, input: &str) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} does not start"))?;
    // A program that ends without reading has said why on standard error.
    let _ = child.stdin.take().expect("standard input is piped").write_all(input.as_bytes());
    Ok(child.wait_with_output()?)
}

/// The first line with which a program says what is wrong.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it ended without a word").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_own_words_name_its_llvm() {
        assert_eq!(major("rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(major("rustc 1.96.0"), None);
    }

    #[test]
    fn a_linker_that_refuses_is_quoted() {
        let output =
            output(Command::new("sh").args(["-c", "echo; echo 'error: no' >&2; exit 1"]), "").expect("sh starts");
        assert_eq!(complaint(&output), "error: no");
    }
}
