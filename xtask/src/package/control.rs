//! What dpkg is told of the package.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::stdout;

/// The control file.
pub fn control(version: &str, architecture: &str, depends: &str, installed_kib: u64) -> String {
    format!(
        "Package: bulkhead\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The Bulkhead authors <bulkhead@localhost>\n\
         Installed-Size: {installed_kib}\n\
         Depends: {depends}\n\
         Section: net\n\
         Priority: optional\n\
         Description: security groups between labelled workloads, enforced with eBPF\n \
         An agent that keeps the policy of this host in its kernel: ingress and egress\n \
         rules between security groups, and guardrails above them, for units of systemd,\n \
         containers and virtual machines. It needs Linux 6.1 or newer with BTF, and\n \
         cgroup v2.\n"
    )
}

/// The packages of the libraries that a binary is linked with, each with the version whose symbols it uses.
pub fn depends(binary: &Path) -> Result<String> {
    let binary = binary.canonicalize().with_context(|| format!("there is no {}", binary.display()))?;
    // dpkg-shlibdeps wants to be in a source package.
    let scratch = std::env::temp_dir().join(format!("bulkhead-package-{}", std::process::id()));
    fs::create_dir_all(scratch.join("debian"))?;
    fs::write(scratch.join("debian/control"), "Source: bulkhead\n\nPackage: bulkhead\nArchitecture: any\n")?;
    let found = stdout(Command::new("dpkg-shlibdeps").arg("-O").arg(binary).current_dir(&scratch));
    fs::remove_dir_all(&scratch)?;
    parse(&found?)
}

/// Reads `shlibs:Depends=libc6 (>= 2.34), ...`.
fn parse(substitution: &str) -> Result<String> {
    let depends = substitution.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    let depends = depends.with_context(|| format!("dpkg-shlibdeps finds no library: {substitution}"))?;
    Ok(depends.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dependencies_are_those_that_dpkg_names() {
        let depends = "libc6 (>= 2.34), libgcc-s1 (>= 4.2)";
        assert_eq!(parse(&format!("shlibs:Depends={depends}\n")).expect("they are there"), depends);
        assert!(parse("shlibs:Suggests=libc6\n").is_err());
    }

    #[test]
    fn every_line_of_the_control_file_is_a_field_or_goes_on_with_one() {
        let control = control("1.2.3", "amd64", "libc6 (>= 2.34)", 12);
        assert!(
            control.contains("\nVersion: 1.2.3\n") && control.contains("\nDepends: libc6 (>= 2.34)\n"),
            "{control}"
        );
        for line in control.lines() {
            assert!(
                line.starts_with(' ') || line.split_once(": ").is_some_and(|(_, value)| !value.is_empty()),
                "{line}"
            );
        }
    }
}
