//! A server of the Kubernetes API for tests: the real protocol over TLS, any kind of object, and every way of failing.
//!
//! It lists in pages from a snapshot, watches from a version, sends bookmarks, knows label and field selectors, and forgets
//! as etcd does. Tests put objects and break things; what clients see is what a real server shows them.
//!
//! ```no_run
//! use bulkhead_tests::apiserver::{ApiServer, Fault, POD, What};
//! use serde_json::json;
//!
//! let server = ApiServer::start();
//! server.put(&POD, json!({"metadata": {"namespace": "shop", "name": "web-1"}, "spec": {"nodeName": "n1"}}));
//! let kubeconfig = server.kubeconfig();
//! server.fail(Fault::new(What::Status { code: 429, retry_after: Some(1) }).on_list().of("pods").times(2));
//! server.stop();
//! server.start_again();
//! ```
//!
//! It runs on a thread of its own: tests with and without a runtime use it alike. All that a test calls returns at once.

mod body;
mod fault;
mod files;
mod resource;
mod selector;
mod serve;
mod store;
mod stream;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use fault::{Fault, Verb, What};
pub use resource::{CRD, ENDPOINT_SLICE, NAMESPACE, NETWORK_POLICY, NODE, POD, Resource, SERVICE};

use files::Files;
use store::Store;

/// A request that was answered, or refused.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it came.
    pub at: Instant,
    /// What it wanted.
    pub verb: Verb,
    /// Of which objects, in the plural.
    pub plural: String,
    /// Parameters of the query, decoded.
    pub query: Vec<(String, String)>,
    /// Who asked.
    pub user_agent: String,
    /// The status of the answer.
    pub status: u16,
}

impl Asked {
    /// The value of a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How all watches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As when their time is over.
    Well,
    /// In the middle of a line, by the connection being cut.
    WithinALine,
    /// With an event of type ERROR and this code.
    Error(u16),
}

/// The server. It stops when dropped.
pub struct ApiServer {
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Mutex<TlsAcceptor>,
    files: Files,
}

/// What requests and tests work on.
#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// The version of the store, for those that wait for the next.
    version: watch::Sender<u64>,
    faults: Mutex<Vec<Fault>>,
    tokens: Mutex<Vec<String>>,
    asked: Mutex<Vec<Asked>>,
    bookmarks: Mutex<Duration>,
    sent: AtomicU64,
    /// Streams that are open.
    watches: AtomicU64,
    /// Counts how often all watches were ended, with how.
    end: watch::Sender<(u64, End)>,
    /// True while the server runs.
    up: watch::Sender<bool>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiServer {
    /// A server on a free port of loopback, without objects.
    ///
    /// # Panics
    /// Without a free port or a place for temporary files.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// As [`Self::start`], at another address.
    ///
    /// # Panics
    /// As above, or the address is none of this network namespace's.
    #[must_use]
    pub fn start_at(address: IpAddr) -> Self {
        let files = Files::new(address);
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Shared {
            store: Mutex::new(Store::new(1_000)),
            version: watch::channel(0).0,
            faults: Mutex::default(),
            tokens: Mutex::new(vec![files::FIRST_TOKEN.to_owned()]),
            asked: Mutex::default(),
            bookmarks: Mutex::new(Duration::from_secs(60)),
            sent: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            end: watch::channel((0, End::Well)).0,
            up: watch::channel(false).0,
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("apiserver").enable_all().build();
        let server = Self {
            runtime: Some(runtime.expect("a runtime")),
            shared: Arc::new(shared),
            address,
            acceptor: Mutex::new(files.acceptor()),
            files,
        };
        server.files.write_token(files::FIRST_TOKEN);
        server.files.write_kubeconfig(address);
        server.serve(listener);
        server
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A kubeconfig file for it, which names the files of [`service_account`](Self::service_account).
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.files.directory().join("kubeconfig")
    }

    /// A directory with `token`, `ca.crt` and `namespace`, as a pod has it.
    #[must_use]
    pub fn service_account(&self) -> PathBuf {
        self.files.directory().to_owned()
    }

    /// Puts an object, new or changed, and returns its version. Name and namespace are in its metadata; `apiVersion`, `kind`, UID,
    /// version and generation are filled in. Nothing checks that it makes sense: a server that lies is a matter of tests.
    ///
    /// # Panics
    /// It has no name.
    pub fn put(&self, resource: &Resource, object: Value) -> u64 {
        let version = self.shared.store().put(resource, object);
        self.shared.version.send_replace(version);
        version
    }

    /// Puts many at once.
    pub fn put_all(&self, resource: &Resource, objects: impl IntoIterator<Item = Value>) {
        let mut store = self.shared.store();
        let version = objects.into_iter().map(|object| store.put(resource, object)).last();
        drop(store);
        version.map(|version| self.shared.version.send_replace(version));
    }

    /// Deletes an object by `NAMESPACE/NAME`, or `NAME` for what is in no namespace; false where there was none.
    pub fn delete(&self, resource: &Resource, name: &str) -> bool {
        let version = self.shared.store().delete(resource, name);
        version.map(|version| self.shared.version.send_replace(version)).is_some()
    }

    /// The object by that name, as clients would read it.
    #[must_use]
    pub fn get(&self, resource: &Resource, name: &str) -> Option<Value> {
        self.shared.store().get(resource, name).map(|object| object.value())
    }

    /// Forgets what was before: watches from older versions, and pages of older lists, are answered with 410 Gone.
    pub fn forget(&self) {
        self.shared.store().forget();
    }

    /// Loses every object, and starts counting versions from the beginning, as a cluster that is built anew.
    pub fn lose_everything(&self) {
        *self.shared.store() = Store::new(1);
        self.shared.version.send_replace(0);
    }

    /// Requests to come fail so.
    pub fn fail(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// No request fails any more.
    pub fn mend(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Ends every watch that is open.
    pub fn end_watches(&self, how: End) {
        self.shared.end.send_modify(|(count, end)| {
            *count += 1;
            *end = how;
        });
    }

    /// How many watches are open.
    #[must_use]
    pub fn watches(&self) -> u64 {
        self.shared.watches.load(Ordering::SeqCst)
    }

    /// Sends bookmarks so often, in watches that begin from now on; a real server does each minute, as this one at first.
    pub fn bookmark_every(&self, interval: Duration) {
        *lock(&self.shared.bookmarks) = interval;
    }

    /// Accepts this token from now on, and no other.
    pub fn accept_only(&self, token: &str) {
        *lock(&self.shared.tokens) = vec![token.to_owned()];
    }

    /// Writes a token into the files, as the kubelet does.
    pub fn write_token(&self, token: &str) {
        self.files.write_token(token);
    }

    /// Has the server, once it has been stopped and started again, another certificate of another authority; rewrites `ca.crt`.
    pub fn change_certificate(&self) {
        *lock(&self.acceptor) = self.files.renew();
    }

    /// Every request since the start, or since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.shared.asked))
    }

    /// Bytes of all answers, without headers and encryption.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Cuts every connection and listens no more; objects are kept.
    ///
    /// # Panics
    /// The port stays open for ten seconds.
    pub fn stop(&self) {
        self.shared.up.send_replace(false);
        let began = Instant::now();
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "the server still listens");
            sleep(Duration::from_millis(2));
        }
    }

    /// Listens again on the same port.
    ///
    /// # Panics
    /// Somebody else took it.
    pub fn start_again(&self) {
        self.serve(TcpListener::bind(self.address).expect("the port is still free"));
    }

    fn serve(&self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("a socket that tokio can have");
        self.shared.up.send_replace(true);
        let acceptor = lock(&self.acceptor).clone();
        let runtime = self.runtime.as_ref().expect("it is taken only by drop");
        runtime.spawn(serve::listen(listener, acceptor, Arc::clone(&self.shared)));
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.up.send_replace(false);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
