//! What a client needs to find: a kubeconfig, a token, the certificate of the authority.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The token that is accepted at first.
pub(super) const FIRST_TOKEN: &str = "token-1";

/// A directory as a service account has it, and a kubeconfig in it.
#[derive(Debug)]
pub(super) struct Files {
    directory: TempDir,
    /// The server's.
    address: IpAddr,
}

impl Files {
    pub(super) fn new(address: IpAddr) -> Self {
        let files = Self { directory: tempfile::tempdir().expect("a place for temporary files"), address };
        files.write("namespace", "bulkhead");
        files
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn write_token(&self, token: &str) {
        self.write("token", token);
    }

    pub(super) fn write_kubeconfig(&self, server: SocketAddr) {
        let file = |name: &str| self.directory().join(name);
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{server}"), "certificate-authority": file("ca.crt")}}],
            "users": [{"name": "agent", "user": {"tokenFile": file("token")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "agent"}}],
            "current-context": "test",
        });
        self.write("kubeconfig", &kubeconfig.to_string());
    }

    /// The first authority and certificate.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.renew()
    }

    /// A new authority and a certificate of it.
    pub(super) fn renew(&self) -> TlsAcceptor {
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        self.write("ca.crt", &authority.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(authority, key);
        let names = [self.address.to_string(), "localhost".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions that ring has")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key is the certificate's");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Replaces a file at once, as the kubelet does.
    fn write(&self, name: &str, contents: &str) {
        let new = self.directory().join(format!(".{name}.new"));
        fs::write(&new, contents).expect("the directory can be written");
        fs::rename(new, self.directory().join(name)).expect("the directory can be written");
    }
}
