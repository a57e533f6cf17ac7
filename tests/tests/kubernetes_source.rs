//! The Kubernetes source against a server that speaks the real protocol, well and badly.

#[path = "kubernetes_source/cluster.rs"]
mod cluster;
#[path = "kubernetes_source/known.rs"]
mod known;
#[path = "kubernetes_source/outage.rs"]
mod outage;
#[path = "kubernetes_source/pods.rs"]
mod pods;
#[path = "kubernetes_source/policies.rs"]
mod policies;
#[path = "kubernetes_source/scale.rs"]
mod scale;
#[path = "kubernetes_source/trust.rs"]
mod trust;
