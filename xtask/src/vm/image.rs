//! The file system: an initramfs of the workspace, the programs that tests start, and the kernel's modules.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::package::{Package, output, succeed};
use super::script;
use crate::setup;
use crate::toolchain;
use crate::workspace::{self, Executable};

/// What the tests may have the kernel load, and a host has at hand.
const MODULES: [&str; 14] = [
    "veth",
    "bridge",
    "8021q",
    "sch_ingress",
    "cls_bpf",
    "dummy",
    "vxlan",
    "macvlan",
    "ipvlan",
    "tun",
    "ip_gre",
    "ipip",
    "sctp",
    "sch_netem",
];

/// What the machine itself runs on.
const TOOLS: [&str; 2] = ["busybox", "modprobe"];

/// Directories of the workspace that are no part of it.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// Makes the initramfs.
pub fn build(
    package: &Package,
    binaries: &[Executable],
    harnesses: &[Executable],
    filter: Option<&str>,
) -> Result<PathBuf> {
    let tree = Tree::new(package.directory.join("tree"))?;
    for name in TOOLS.into_iter().chain(setup::programs_of_tests()) {
        tree.program(&toolchain::find(name).with_context(|| format!("{name} is not on PATH"))?)?;
    }
    let root = workspace::root();
    tree.copy_all(root, root)?;
    let ours = binaries.iter().filter(|it| it.kinds.iter().any(|kind| kind == "bin")).chain(harnesses);
    for it in ours {
        tree.program_of_ours(&it.path)?;
    }
    for module in MODULES {
        for file in package.module(module)? {
            let inside = file.strip_prefix(package.root()).context("a module outside of its package")?;
            tree.copy(&file, inside)?;
        }
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let inside = Path::new("lib/modules").join(&package.release).join(list);
        tree.copy(&package.root().join(&inside), &inside)?;
    }
    succeed(Command::new("depmod").arg("--basedir").arg(&tree.0).arg(&package.release))?;
    // Where the kernel looks for it.
    symlink("../bin/modprobe", tree.0.join("usr/sbin/modprobe"))?;
    tree.file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644)?;
    tree.file("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644)?;
    tree.file("init", &script::init(harnesses, filter), 0o755)?;
    let image = package.directory.join("initramfs");
    tree.seal(&image)?;
    Ok(image)
}

/// A directory that becomes the file system.
struct Tree(PathBuf);

impl Tree {
    fn new(directory: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(format!("{} can't be removed", directory.display()));
            }
            _ => {}
        }
        let tree = Self(directory);
        for name in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "dev", "proc", "sys", "run", "tmp"] {
            fs::create_dir_all(tree.0.join(name))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), tree.0.join(name))?;
        }
        Ok(tree)
    }

    /// Where something comes to lie that has the path `inside` in the machine.
    fn place(&self, inside: &Path) -> Result<PathBuf> {
        let path = self.0.join(inside.strip_prefix("/").unwrap_or(inside));
        fs::create_dir_all(path.parent().expect("it is below the tree"))?;
        Ok(path)
    }

    fn file(&self, inside: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.place(Path::new(inside))?;
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }

    fn copy(&self, from: &Path, inside: &Path) -> Result<()> {
        let to = self.place(inside)?;
        fs::copy(from, &to).map(drop).with_context(|| format!("{} can't be copied", from.display()))
    }

    /// A program with its libraries, which lie where they do here.
    fn program(&self, path: &Path) -> Result<()> {
        let name = path.file_name().context("a program has a name")?;
        self.copy(path, &Path::new("usr/bin").join(name))?;
        self.libraries(path)
    }

    /// A program of ours: without debugging information, which is four fifths of it.
    fn program_of_ours(&self, path: &Path) -> Result<()> {
        let to = self.place(path)?;
        succeed(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(path))?;
        self.libraries(path)
    }

    fn libraries(&self, program: &Path) -> Result<()> {
        // A static program has none, which ldd takes for an error.
        let Ok(printed) = output(Command::new("ldd").arg(program)) else { return Ok(()) };
        for library in libraries(&printed) {
            if !self.place(library)?.exists() {
                self.copy(library, library)?;
            }
        }
        Ok(())
    }

    /// A directory without what is left out; `inside` is its path in the machine.
    fn copy_all(&self, from: &Path, inside: &Path) -> Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (path, inside) = (entry.path(), inside.join(entry.file_name()));
            if entry.file_type()?.is_file() {
                self.copy(&path, &inside)?;
            } else if entry.file_type()?.is_dir() && LEFT_OUT.iter().all(|name| entry.file_name() != *name) {
                self.copy_all(&path, &inside)?;
            }
        }
        Ok(())
    }

    /// Packs it as the kernel reads it.
    fn seal(&self, image: &Path) -> Result<()> {
        let archive = File::create(image).with_context(|| format!("{} can't be written", image.display()))?;
        let mut command = Command::new("busybox");
        command.args(["cpio", "-o", "-H", "newc"]).current_dir(&self.0);
        let mut child = command.stdin(Stdio::piped()).stdout(archive).stderr(Stdio::piped()).spawn()?;
        let mut names = String::new();
        list(&self.0, Path::new(""), &mut names)?;
        child.stdin.take().expect("it is piped").write_all(names.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("cpio: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(fs::remove_dir_all(&self.0)?)
    }
}

/// The names of everything below a directory, one a line, each directory before what is in it.
fn list(root: &Path, below: &Path, names: &mut String) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        names.push_str(&name.to_string_lossy());
        names.push('\n');
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

/// The paths in what ldd prints: `libc.so.6 => /lib/libc.so.6 (0x...)` or `/lib64/ld.so (0x...)`.
fn libraries(printed: &str) -> impl Iterator<Item = &Path> {
    printed.lines().filter_map(|line| {
        let path = line.split_once(" => ").map_or(line, |(_, path)| path).trim();
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        path.starts_with('/').then(|| Path::new(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_have_a_path_and_the_kernels_own_has_none() {
        let printed = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = libraries(printed).collect();
        assert_eq!(found, [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]);
    }
}
