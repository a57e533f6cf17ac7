//! `bulkhead trail`: what happened, and whether the record of it is whole.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::config::state::StateOptions;
use crate::exit::{Exit, Failure};
use crate::print::{self, Look};
use crate::trail::chain::Entry;
use crate::trail::verify::{files, verify};
use crate::trail::{self};

/// Options of `bulkhead trail`.
#[derive(Args, Clone, Debug)]
pub struct TrailOptions {
    /// What to do with it
    #[command(subcommand)]
    command: TrailCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TrailCommand {
    /// Say whether the trail is whole; exit code 1, and each place, where it was cut, edited or reordered
    Verify(VerifyOptions),
    /// Show what happened
    Show(ShowOptions),
    /// Print the newest hash, to be kept where nobody on this host can change it
    Head(PlaceOptions),
}

#[derive(Args, Clone, Debug)]
struct PlaceOptions {
    #[command(flatten)]
    state: StateOptions,
    /// The trail, in place of that of the state directory
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct VerifyOptions {
    #[command(flatten)]
    place: PlaceOptions,
    /// A hash that `bulkhead trail head` printed: it has to be in the trail
    #[arg(long, value_name = "HASH")]
    expect: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct ShowOptions {
    #[command(flatten)]
    place: PlaceOptions,
    /// Only entries of this kind
    #[arg(long, value_parser = ["agent", "policy", "membership", "kernel", "trail"])]
    kind: Option<String>,
    /// How many at most, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl PlaceOptions {
    fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| trail::path(&self.state.state))
    }
}

/// Does it.
pub(super) fn trail(options: &TrailOptions) -> Result<(), Failure> {
    match &options.command {
        TrailCommand::Verify(options) => verified(options),
        TrailCommand::Show(options) => show(options),
        TrailCommand::Head(options) => head(options),
    }
}

fn verified(options: &VerifyOptions) -> Result<(), Failure> {
    let path = options.place.path();
    let found = verify(&path, options.expect.as_deref()).map_err(|error| unread(&path, error))?;
    let text = match &found.head {
        _ if options.place.json => super::json(&found),
        _ if !found.faults.is_empty() => found.faults.iter().map(|fault| format!("{fault}\n")).collect(),
        Some(head) => format!("whole: {} entries, the newest {} of {}\n", found.entries, head.hash, head.time),
        None => "empty: nothing was written yet\n".to_owned(),
    };
    super::put(&text)?;
    if found.faults.is_empty() {
        return Ok(());
    }
    Err(Failure::message(
        Exit::Failed,
        format!("the trail is not whole: {} places", found.faults.len()),
        "keep it as it is, and look for who could write there; a copy or a hash kept elsewhere tells how far it can be trusted",
    ))
}

fn show(options: &ShowOptions) -> Result<(), Failure> {
    let path = options.place.path();
    let mut entries: Vec<Entry> = Vec::new();
    for file in files(&path).map_err(|error| unread(&path, error))? {
        let text = fs::read_to_string(&file).map_err(|error| unread(&file, error))?;
        let wanted = |entry: &Entry| options.kind.as_ref().is_none_or(|kind| *kind == entry.kind);
        entries.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(wanted));
        entries.drain(..entries.len().saturating_sub(options.limit));
    }
    if options.place.json {
        return super::put(&super::json(&entries));
    }
    super::put(&print::trail(&entries, Look::of_stdout()))
}

fn head(options: &PlaceOptions) -> Result<(), Failure> {
    let path = options.path();
    let found = verify(&path, None).map_err(|error| unread(&path, error))?;
    let Some(head) = found.head else {
        return Err(Failure::message(
            Exit::Failed,
            "the trail is empty",
            "start an agent, or name another one with --file",
        ));
    };
    super::put(&if options.json { super::json(&head) } else { format!("{}\n", head.hash) })
}

fn unread(path: &Path, error: std::io::Error) -> Failure {
    let error = anyhow::Error::from(error).context(format!("cannot read the trail {}", path.display()));
    Failure::new(Exit::IoErr, error, "name it with --file, or the agent's --state; only root may read it")
}
