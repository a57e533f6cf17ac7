//! How the API server is reached: as a pod's service account says, or as a kubeconfig does.
//!
//! The client reads a file with a token again every minute. Where the server refuses a token, or can't be reached as it was,
//! everything is read anew: the files may have been replaced, or the server has another certificate.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::Mutex;

/// Where the kubelet puts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Until a connection is there.
const CONNECT: Duration = Duration::from_secs(10);

/// How to reach the API server.
#[derive(Clone, Debug)]
pub enum Access {
    /// As the file says.
    Kubeconfig(PathBuf),
    /// As a pod does.
    ServiceAccount {
        /// Holds `token` and `ca.crt`.
        directory: PathBuf,
        /// Such as `https://10.96.0.1:443`.
        server: String,
    },
}

impl Access {
    /// As the file says where there is one, else as the pod that this is.
    ///
    /// # Errors
    /// There is no file, and this is no pod.
    pub fn new(kubeconfig: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = kubeconfig {
            return Ok(Self::Kubeconfig(path));
        }
        let set = |name| {
            env::var(name).with_context(|| {
                format!("{name} is not set, so this is no pod of a cluster: name a kubeconfig with --kubeconfig")
            })
        };
        let (host, port) = (set("KUBERNETES_SERVICE_HOST")?, set("KUBERNETES_SERVICE_PORT")?);
        let server =
            if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") };
        Ok(Self::ServiceAccount { directory: SERVICE_ACCOUNT.into(), server })
    }

    /// A client that goes this way.
    ///
    /// # Errors
    /// A file that can't be read or makes no sense.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let (kubeconfig, certificates) = match self {
            Self::Kubeconfig(path) => {
                // Perhaps it comes later: who joins a cluster gets one.
                let wrong = "see whether --kubeconfig names the right file";
                (Kubeconfig::read_from(path).context(wrong)?, None)
            }
            Self::ServiceAccount { directory, server } => {
                let certificates = directory.join("ca.crt");
                let kubeconfig = serde_json::from_value(json!({
                    "clusters": [{"name": "pod", "cluster": {"server": server, "certificate-authority": certificates}}],
                    "users": [{"name": "pod", "user": {"tokenFile": directory.join("token")}}],
                    "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
                    "current-context": "pod",
                }))?;
                (kubeconfig, Some(certificates))
            }
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.root_cert_file = certificates;
        config.connect_timeout = Some(CONNECT);
        // Who asks knows better when to ask again.
        config.default_retry = false;
        let agent = HeaderValue::from_static(concat!("bulkhead/", env!("CARGO_PKG_VERSION")));
        config.headers.push((USER_AGENT, agent));
        Ok(config)
    }
}

/// One client for all kinds.
#[derive(Debug)]
pub(super) struct Connection {
    access: Access,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// Counts the clients that there were.
    number: u64,
    client: Option<Client>,
}

impl Connection {
    pub(super) fn new(access: Access) -> Self {
        Self { access, current: Mutex::default() }
    }

    /// The client, with its number.
    ///
    /// # Errors
    /// A file that can't be read or makes no sense.
    pub(super) async fn client(&self) -> anyhow::Result<(u64, Client)> {
        let mut current = self.current.lock().await;
        let client = match &current.client {
            Some(client) => client.clone(),
            None => {
                let client = self.access.client().await?;
                current.number += 1;
                current.client.insert(client).clone()
            }
        };
        Ok((current.number, client))
    }

    /// Has everything read anew, unless that was done since the client of this number failed.
    pub(super) async fn distrust(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.number == number {
            current.client = None;
        }
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Current").field("number", &self.number).finish_non_exhaustive()
    }
}
