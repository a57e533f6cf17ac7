//! The admin socket's file: who may hold it, and who may use it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::{UnixListener, UnixStream};

use super::{AdminState, refuse, router};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::http::{self, Manner};
use crate::view::StatusView;

const MANNER: Manner = Manner { connections: 64, refuse };
/// What unix(7) takes (107 bytes), less the suffix that the path has while it is being made.
const MAX_PATH: usize = 107 - ".new".len();

/// The admin socket, bound and held. Dropped, the socket's file goes; the lock's file stays, empty of meaning.
#[derive(Debug)]
pub struct AdminSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl AdminSocket {
    /// Takes the socket at `path`, replacing what a killed agent left there.
    ///
    /// # Errors
    /// Another agent holds it, `path` is something else, or the directory cannot be written.
    pub async fn bind(path: &Path) -> Result<Self, Failure> {
        let cannot = |error: anyhow::Error| {
            let denied = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            let (exit, cure) = if denied {
                (Exit::NoPerm, "run the agent as root, or give --admin a path that it may write")
            } else {
                (Exit::OsErr, "give --admin a path below a directory that exists and can be written")
            };
            Failure::new(exit, error.context(format!("cannot make the admin socket {}", path.display())), cure)
        };
        if path.as_os_str().len() > MAX_PATH {
            return Err(Failure::message(
                Exit::Config,
                format!("the path of the admin socket is too long for a Unix socket: {}", path.display()),
                format!("give --admin a path of at most {MAX_PATH} bytes"),
            ));
        }
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.with_context(|| format!("cannot make the directory {}", directory.display())).map_err(cannot)?;
        }
        let lock = lock(path).await.map_err(|error| error.downcast().unwrap_or_else(cannot))?;
        refuse_if_held(path).await?;
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(Failure::message(
                Exit::Config,
                format!("{} exists and is no socket", path.display()),
                "give --admin another path, or remove it if it is of no use",
            ));
        }
        let listener = listen(path).map_err(cannot)?;
        Ok(Self { listener: Some(listener), path: path.to_owned(), _lock: lock })
    }

    /// Answers root, and nobody else, until `stop` is over.
    pub async fn serve(mut self, state: AdminState, stop: impl Future<Output = ()>) {
        let (answers, refusal) = (router(state), refusal());
        let listener = self.listener.take().expect("bind sets it and serve consumes the socket");
        let route = |stream: &UnixStream| if is_trusted(stream) { answers.clone() } else { refusal.clone() };
        http::serve(listener, MANNER, route, stop).await;
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A file that somebody removed already is no loss.
        let _ = fs::remove_file(&self.path);
    }
}

/// Refuses while an agent answers at `path`: what must not happen under a running agent.
///
/// # Errors
/// An agent is running.
pub async fn refuse_if_held(path: &Path) -> Result<(), Failure> {
    agent_at(path).await.map_or(Ok(()), |agent| Err(held(path, &agent)))
}

/// The lock beside the socket. It holds the agent's process ID, and the kernel lets go of it when the agent dies.
async fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = beside(path, "lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file);
    let open = open.with_context(|| format!("cannot open {}", file.display()))?;
    match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err((mut open, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // Another agent that has just started may not have written its number yet.
            open.read_to_string(&mut pid)?;
            let agent = agent_at(path).await.unwrap_or_else(|_| match pid.trim() {
                "" => "an agent".to_owned(),
                pid => format!("an agent (pid {pid})"),
            });
            Err(held(path, &agent).into())
        }
        Err((_, error)) => Err(io::Error::from(error)).with_context(|| format!("cannot lock {}", file.display())),
    }
}

/// The agent that answers at `path`, in words.
async fn agent_at(path: &Path) -> Result<String, Failure> {
    if !path.exists() {
        return Err(Failure::message(Exit::Unavailable, "no socket", ""));
    }
    let status: StatusView = Client::new(path).get("/v1/status").await?.parse()?;
    Ok(format!("an agent (pid {}, version {})", status.pid, status.version))
}

fn held(path: &Path, agent: &str) -> Failure {
    Failure::message(
        Exit::TempFail,
        format!("{agent} runs on this host and holds the admin socket {}", path.display()),
        "stop it first (`systemctl stop bulkhead`); what it enforces stays enforced while it is gone",
    )
}

/// Binds under another name and renames: nobody ever sees a socket with looser permissions, or none in between.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let fresh = beside(path, "new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The socket's permissions say it already; this holds even where somebody loosened them.
fn is_trusted(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| may_ask(peer.uid()))
}

pub(super) fn may_ask(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

fn refusal() -> Router {
    Router::new()
        .fallback(async || refuse(StatusCode::FORBIDDEN, "only root may ask the agent, or its own user; use sudo"))
}
