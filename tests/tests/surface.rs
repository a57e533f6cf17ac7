//! Both listeners of the agent, and peers that are slow, wrong, many or not allowed.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_tests::check::slowed;
use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::METRICS;
use bulkhead_tests::lab::{Agent, Lab, binaries};

const NOBODY: u32 = 65_534;
/// How long a request's head may take, as the manual says.
const HEAD: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Admin,
    Metrics,
}

const BOTH: [(Listener, &str); 2] = [(Listener::Admin, "/v1/status"), (Listener::Metrics, "/metrics")];

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

struct Scene {
    agent: Agent,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        lab.policy("groups.yaml", &group("web", 100, "web", &["ingress: []"]));
        Self { agent: lab.agent(), lab }
    }

    fn connect(&self, listener: Listener) -> Box<dyn Stream> {
        let patience = Some(slowed(Duration::from_secs(60)));
        match listener {
            Listener::Admin => {
                let stream = UnixStream::connect(self.lab.site().admin()).expect("it listens");
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).expect("an option");
                Box::new(stream)
            }
            Listener::Metrics => {
                let stream = self.lab.site().host.enter(|| Ok(TcpStream::connect(METRICS)?)).expect("it listens");
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).expect("an option");
                Box::new(stream)
            }
        }
    }

    /// What is answered to these bytes, all of it; nothing where the connection is just closed.
    fn answer(&self, listener: Listener, request: &[u8]) -> String {
        let mut stream = self.connect(listener);
        // It may be closed before it has taken everything.
        let _ = stream.write_all(request);
        rest(&mut *stream)
    }

    fn status(&self, listener: Listener, request: &str) -> Option<u16> {
        self.answer(listener, request.as_bytes()).split(' ').nth(1)?.parse().ok()
    }

    /// Both still answer, soon.
    fn others_are_answered(&self, when: &str) {
        for (listener, path) in BOTH {
            let asked = Instant::now();
            assert_eq!(self.status(listener, &get(path)), Some(200), "{listener:?} {when}\n{}", self.agent.dump());
            assert!(asked.elapsed() < slowed(Duration::from_secs(5)), "{listener:?} {when}: {:?}", asked.elapsed());
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")
}

/// What comes until the connection is closed.
fn rest(stream: &mut dyn Stream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the connection stays open"),
        // A reset is an end too.
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[test]
fn a_head_that_comes_too_slowly_is_cut_in_the_documented_time() {
    let scene = Scene::new();
    thread::scope(|scope| {
        for (listener, path) in BOTH {
            for bytes in [get(path), String::new()] {
                let mut stream = scene.connect(listener);
                scope.spawn(move || {
                    let began = Instant::now();
                    // A byte a second; or none.
                    let slow = bytes.bytes().take_while(|byte| {
                        thread::sleep(Duration::from_secs(1));
                        began.elapsed() < HEAD + slowed(Duration::from_secs(3)) && stream.write_all(&[*byte]).is_ok()
                    });
                    let sent = slow.count();
                    let answer = rest(&mut *stream);
                    let took = began.elapsed();
                    assert!(!answer.contains("200 OK"), "{listener:?}: {sent} bytes were enough: {answer}");
                    let times = HEAD - Duration::from_secs(1)..HEAD + slowed(Duration::from_secs(4));
                    assert!(times.contains(&took), "{listener:?}: closed after {took:?}");
                });
            }
        }
        thread::sleep(Duration::from_secs(1));
        scene.others_are_answered("beside slow ones");
    });
}

#[test]
fn what_is_no_request_for_it_is_refused_and_harms_nobody() {
    let scene = Scene::new();
    let memory = scene.agent.metric("process_resident_memory_bytes", &[]);
    for (listener, path) in BOTH {
        let with = |headers: &str| format!("GET {path} HTTP/1.1\r\nHost: lab\r\n{headers}\r\n");
        let header = |number: usize| format!("X-{number}: {}\r\n", "x".repeat(20));
        for (expected, request) in [
            (200, with("")),
            (200, with(&(0..50).map(header).collect::<String>())),
            (431, with(&(0..500).map(header).collect::<String>())),
            (431, with(&format!("X: {}\r\n", "x".repeat(1 << 20)))),
            (431, format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20))),
            (413, with("Content-Length: 1\r\n")),
            (413, with("Content-Length: 99999999999\r\n") + &"x".repeat(1 << 16)),
            (413, with("Transfer-Encoding: chunked\r\n") + "ffffffff\r\n"),
            (400, "\0\x01\x02\r\n\r\n".to_owned()),
            (400, "GET\r\n\r\n".to_owned()),
            (400, with("no colon\r\n")),
            (400, with("Content-Length: -1\r\n")),
            (400, with("Content-Length: 1\r\nContent-Length: 2\r\n")),
            (405, get(path).replace("GET", "POST")),
            (405, get(path).replace("GET", "DELETE")),
            (404, get("/")),
            (404, get(&format!("{path}/../../etc/passwd"))),
        ] {
            let answer = scene.answer(listener, request.as_bytes());
            let status = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            let begin: String = request.chars().take(120).collect();
            // What it has not read when it closes may cost the answer that it gave.
            let is_cut = status.is_none() && request.len() > 16 << 10;
            assert!(status == Some(expected) || is_cut, "{listener:?} {begin:?}: {expected} is not in: {answer}");
        }
        assert_eq!(
            scene.answer(listener, get(path).replace("GET", "HEAD").as_bytes()).split("\r\n\r\n").nth(1),
            Some("")
        );

        // As much as it takes, which must not be much.
        let mut stream = scene.connect(listener);
        let _ = stream.write_all(with("Content-Length: 99999999999\r\n").as_bytes());
        let chunk = vec![b'x'; 1 << 20];
        let taken = (0..256).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        assert!(taken < 64, "{listener:?} takes {taken} MiB");
    }
    scene.others_are_answered("after what is no request");
    let grown = scene.agent.metric("process_resident_memory_bytes", &[]) - memory;
    assert!(grown < 16e6, "it has grown by {grown} bytes");
}

#[test]
fn many_connections_at_once_keep_nobody_out() {
    let scene = Scene::new();
    for (listener, _) in BOTH {
        let silent: Vec<_> = (0..300).map(|_| scene.connect(listener)).collect();
        scene.others_are_answered("beside 300 that are silent");
        let mut half: Vec<_> = (0..300).map(|_| scene.connect(listener)).collect();
        for stream in &mut half {
            // The oldest have given way already.
            let _ = stream.write_all(b"GET /");
        }
        scene.others_are_answered("beside 300 that have begun to ask");
        drop((silent, half));
        scene.others_are_answered("after they have gone");
    }
}

#[test]
fn followers_leave_room_for_others_and_their_place_when_they_go() {
    let scene = Scene::new();
    let follow = || {
        let mut stream = scene.connect(Listener::Admin);
        stream.write_all(get("/v1/flows?follow=true").as_bytes()).expect("it listens");
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("an answer");
        (String::from_utf8_lossy(&begin).into_owned(), stream)
    };
    let followers: Vec<_> = (0..32).map(|_| follow()).collect();
    assert!(followers.iter().all(|(begin, _)| begin == "HTTP/1.1 200"), "{}", scene.agent.dump());
    let (begin, mut refused) = follow();
    assert_eq!(begin, "HTTP/1.1 503");
    assert!(rest(&mut *refused).contains("32 follow flows already"));
    scene.others_are_answered("beside 32 that follow");
    drop(followers);
    scene.agent.eventually("there is room again", || (follow().0 == "HTTP/1.1 200").then_some(()));
}

#[test]
fn only_root_is_answered_at_the_admin_socket_whoever_may_open_it() {
    let scene = Scene::new();
    let admin = scene.lab.site().admin();
    // A copy, because the workspace may lie where nobody else may look.
    let binary = scene.lab.site().directory.join("bulkhead");
    fs::copy(binaries::bulkhead(), &binary).expect("room for a copy");
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).expect("it is ours");
    let ask = |uid: u32| {
        let mut command = Command::new(&binary);
        command.args(["status", "--admin"]).arg(&admin).uid(uid).gid(uid);
        let output = command.output().expect("it can be started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(fs::metadata(&admin).expect("it is there").permissions().mode() & 0o777, 0o600);
    for mode in [0o600, 0o666] {
        fs::set_permissions(&admin, Permissions::from_mode(mode)).expect("it is ours");
        let (code, said) = ask(NOBODY);
        assert_eq!(code, Some(77), "{said}");
        assert!(said.contains("only root may ask the agent") && said.contains("use sudo"), "{said}");
        assert!(mode == 0o600 || said.contains("403"), "the agent refuses, not the file: {said}");
        assert_eq!(ask(0), (Some(0), String::new()), "root is answered");
    }
}
