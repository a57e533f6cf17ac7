//! `bulkhead man`: a manual page for each subcommand, made of its help.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{Cli, examples};
use crate::exit::{Exit, Failure};

/// Of commands for administrators (man-pages(7)).
const SECTION: &str = "8";

/// Options of `bulkhead man`.
#[derive(Args, Clone, Debug)]
pub struct ManOptions {
    /// The page of this subcommand, as flows or trail-verify, rather than the first
    #[arg(value_name = "SUBCOMMAND", conflicts_with = "output")]
    page: Option<String>,
    /// Write every page into this directory instead
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Prints a page, or writes all of them.
pub(super) fn man(options: &ManOptions) -> Result<(), Failure> {
    let pages = pages();
    if let Some(directory) = &options.output {
        let failed = |path: &Path, error: io::Error| {
            let error = anyhow::Error::from(error).context(format!("cannot write {}", path.display()));
            Failure::new(Exit::IoErr, error, "name a directory that you may write to")
        };
        fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        return pages.iter().try_for_each(|(name, text)| {
            let path = directory.join(format!("{name}.{SECTION}"));
            fs::write(&path, text).map_err(|error| failed(&path, error))
        });
    }
    let name = options.page.as_ref().map_or_else(|| "bulkhead".to_owned(), |page| format!("bulkhead-{page}"));
    match pages.iter().find(|(of, _)| *of == name) {
        Some((_, text)) => super::put(text),
        None => Err(Failure::message(
            Exit::Usage,
            format!("there is no page {name}"),
            "name a subcommand of `bulkhead --help`; those within another as trail-verify",
        )),
    }
}

/// Each page's name, and its text.
fn pages() -> Vec<(String, String)> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    add(&command, "", &mut pages);
    pages
}

fn add(command: &Command, prefix: &str, pages: &mut Vec<(String, String)>) {
    let name = format!("{prefix}{}", command.get_name());
    pages.push((name.clone(), page(command.clone(), &name)));
    command.get_subcommands().for_each(|sub| add(sub, &format!("{name}-"), pages));
}

fn page(command: Command, name: &str) -> String {
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command)
        .title(name)
        .section(SECTION)
        .source(concat!("Bulkhead ", env!("CARGO_PKG_VERSION")))
        .manual("Bulkhead");
    let mut text = Vec::new();
    let made = (|| {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if has_subcommands {
            man.render_subcommands_section(&mut text)?;
        }
        examples_section(name).to_writer(&mut text)
    })();
    made.expect("a buffer takes all");
    String::from_utf8_lossy(&text).into_owned()
}

fn examples_section(name: &str) -> Roff {
    let mut section = Roff::new();
    let examples = examples::of(name.strip_prefix("bulkhead-").unwrap_or_default());
    if !examples.is_empty() {
        section.control("SH", ["EXAMPLES"]);
    }
    for (line, what) in examples {
        section.control("TP", []).text([roman(*line)]).text([roman(*what)]);
    }
    section
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Process, Stdio};

    use super::*;

    #[test]
    fn there_is_a_page_for_every_subcommand_with_its_options_and_examples() {
        let pages = pages();
        let text = |name: &str| &pages.iter().find(|(of, _)| of == name).unwrap_or_else(|| panic!("{name}")).1;
        for (name, has) in [
            ("bulkhead", ["Security groups", "bulkhead\\-flows(8)"]),
            ("bulkhead-flows", ["\\-\\-follow", "SH EXAMPLES"]),
            ("bulkhead-trail-verify", ["\\-\\-expect", "trail verify"]),
        ] {
            for part in has {
                assert!(text(name).contains(part), "{name}: {part}: {}", text(name));
            }
        }
        assert!(!pages.iter().any(|(name, _)| name == "bulkhead-nonsense"));
    }

    #[test]
    fn groff_finds_nothing_to_complain_of() {
        for (name, text) in pages() {
            let groff = Process::new("groff")
                // That a long default can't be broken into lines is no fault.
                .args(["-man", "-Tutf8", "-ww", "-Wbreak"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            // Only where there is one: it is no part of what has to be installed.
            let Ok(mut groff) = groff else { return eprintln!("no groff here, nobody has read the pages") };
            io::Write::write_all(&mut groff.stdin.take().expect("it is piped"), text.as_bytes()).expect("groff reads");
            let output = groff.wait_with_output().expect("it is our child");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        }
    }
}
