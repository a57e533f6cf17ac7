//! How a cluster is asked, and where its pods are on this host.

use anyhow::Context;

use crate::config::{ManagedScope, RunOptions};
use crate::exit::{Exit, Failure};
use crate::source::kubernetes::{Access, Options, Pace};
use crate::source::policy_objects::PolicyObjects;

/// Where the kubelet has pods, by the names that its drivers for cgroups give it.
const KUBEPODS: [&str; 2] = ["kubepods.slice", "kubepods"];

/// How the Kubernetes API is asked, and that `policies` are told of what it holds of them.
pub(super) fn source(options: &RunOptions, policies: PolicyObjects) -> Result<Options, Failure> {
    let access = Access::new(options.kubeconfig.clone())
        .map_err(|error| Failure::new(Exit::Config, error, "or leave --kubernetes out"))?;
    let node_name = match &options.node_name {
        Some(name) => name.clone(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("this host's name can't be read")
            .map_err(|error| Failure::new(Exit::OsErr, error, "give --node-name"))?
            .trim_end()
            .to_owned(),
    };
    tracing::info!(node = node_name, "pods of this node are local");
    let namespace = options.namespace.clone();
    Ok(Options { access, node_name, pace: Pace::default(), policies: Some(policies), namespace })
}

/// The managed scopes: those that were asked for, and where pods are one that allows, unless something was said of it.
pub(super) fn scopes(options: &RunOptions) -> Vec<ManagedScope> {
    let mut scopes = options.managed_scope.clone();
    if options.kubernetes {
        let is_in = |path: &str, scope: &ManagedScope| {
            path.strip_prefix(scope.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let silent = KUBEPODS.into_iter().filter(|path| !options.managed_scope.iter().any(|scope| is_in(path, scope)));
        scopes.extend(silent.map(|path| ManagedScope { path: path.to_owned(), denies: false }));
    }
    scopes
}
