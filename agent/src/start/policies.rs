//! Where policy comes from: files alone, or files and what the Kubernetes API holds of it.

use std::path::PathBuf;

use crate::config::RunOptions;
use crate::controller::{Loaded, OfObjects};
use crate::exit::{Exit, Failure};
use crate::policy::load::load;
use crate::policy::model::PolicySet;
use crate::policy::problem::Problem;
use crate::source::policy_objects::PolicyObjects;

/// What the policy is loaded from. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) enum Policies {
    /// Files, and the policy that they are at the start.
    Files(PolicySet),
    /// Files and objects.
    Objects(PolicyObjects),
}

impl Policies {
    /// Reads the files.
    ///
    /// # Errors
    /// They are wrong: then nothing begins.
    pub(super) fn read(options: &RunOptions) -> Result<Self, Failure> {
        let paths = &options.policies;
        let read = if options.kubernetes {
            PolicyObjects::new(paths).map(Self::Objects)
        } else {
            load(paths).map(Self::Files)
        };
        read.map_err(|problems| refused(&problems))
    }

    /// What the Kubernetes API holds, where it is asked.
    pub(super) const fn objects(&self) -> Option<&PolicyObjects> {
        match self {
            Self::Files(_) => None,
            Self::Objects(objects) => Some(objects),
        }
    }

    /// The policy to begin with.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn first(&self) -> Result<(PolicySet, OfObjects), Failure> {
        match self {
            Self::Files(policy) => Ok((policy.clone(), OfObjects::default())),
            Self::Objects(objects) => {
                let Loaded { result, objects } = objects.judge();
                result.map(|policy| (policy, objects)).map_err(|problems| refused(&problems))
            }
        }
    }

    /// Reads the files again.
    pub(super) fn load(&self, paths: &[PathBuf]) -> Loaded {
        match self {
            Self::Files(_) => load(paths).into(),
            Self::Objects(objects) => objects.load(paths),
        }
    }
}

fn refused(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::message(
        Exit::Config,
        format!("the policy is refused:\n{}\n{} in all", lines.join("\n"), lines.len()),
        "mend it (`bulkhead check` shows the same) and start again; what was enforced before stays enforced",
    )
}
