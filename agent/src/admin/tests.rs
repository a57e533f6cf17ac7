//! The admin API as root sees it, over a real socket, with a controller of straw.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::client::Client;
use crate::exit::Exit;
use crate::flow::SharedNames;
use crate::flow::record::Line;
use crate::flow::record::tests::{event, names};
use crate::view::StatusView;

/// An agent with a socket and flows, whose controller answers everything with little.
struct Agent {
    recorder: Arc<Recorder>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Agent {
    async fn start(path: &Path) -> Self {
        let shared = SharedNames::default();
        shared.publish(names());
        let recorder = Arc::new(Recorder::new(shared));
        let (controller, mut events) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(Event::Query(query)) = events.recv().await {
                match query {
                    Query::Status(answer) => drop(answer.send(straw())),
                    Query::Workloads(answer) => drop(answer.send(Vec::new())),
                    // A question dropped unanswered: the agent is stopping.
                    Query::Groups(answer) => drop(answer),
                    Query::Connections(answer) => drop(answer.send(crate::view::plan::ConnectionsView::default())),
                    Query::Snapshot(answer) => drop(answer.send(crate::snapshot::Snapshot::default())),
                }
            }
        });
        let socket = AdminSocket::bind(path).await.expect("nobody else has the path");
        let (stop, stopped) = oneshot::channel::<()>();
        let state = AdminState { controller, recorder: Arc::clone(&recorder) };
        let serving = tokio::spawn(socket.serve(state, async { drop(stopped.await) }));
        Self { recorder, stop, serving }
    }

    async fn stop(self) {
        drop(self.stop);
        self.serving.await.expect("serving does not panic");
    }
}

fn straw() -> StatusView {
    let status = serde_json::json!({
        "version": "0.1.0", "pid": 4211, "uptime_seconds": 1, "enforcing": true, "generation": 7,
        "policy_loaded_at": 1.0, "reloads": 1, "refusals": 0, "problems": [], "warnings": [], "attachments": [],
        "workloads": {}, "groups": 0, "rules": 0, "maps": [],
    });
    serde_json::from_value(status).expect("a status")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[tokio::test]
async fn the_controller_is_asked_and_its_answer_passed_on() {
    let directory = directory();
    let path = directory.path().join("run/admin.sock");
    let agent = Agent::start(&path).await;
    let client = Client::new(&path);
    let status: StatusView = client.get("/v1/status").await.expect("an answer").parse().expect("a status");
    assert_eq!(status, straw());
    assert_eq!(client.get("/v1/workloads").await.expect("an answer").text(), "[]\n");
    let stopping = client.get("/v1/groups").await.expect_err("the question was dropped");
    assert_eq!(stopping.exit, Exit::Unavailable);
    assert!(stopping.to_string().contains("stopping"), "{stopping}");
    agent.stop().await;
}

#[tokio::test]
async fn only_root_can_reach_the_socket() {
    let directory = directory();
    let path = directory.path().join("run/admin.sock");
    let agent = Agent::start(&path).await;
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("it has a directory")), 0o700);
    assert!(socket::may_ask(0) && !socket::may_ask(65_534));
    agent.stop().await;
    assert!(!path.exists(), "a clean stop leaves no socket");
}

#[tokio::test]
async fn a_second_agent_is_refused_by_the_first_ones_pid() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    let agent = Agent::start(&path).await;
    let refused = AdminSocket::bind(&path).await.expect_err("the socket is held");
    assert_eq!(refused.exit, Exit::TempFail);
    assert!(refused.to_string().contains("pid 4211"), "{refused}");

    fs::remove_file(directory.path().join("admin.sock.lock")).expect("the lock has a file");
    let refused = AdminSocket::bind(&path).await.expect_err("even with the lock's file gone");
    assert!(refused.to_string().contains("pid 4211"), "{refused}");
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_holds_the_lock_but_does_not_answer_is_named_too() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    let held = AdminSocket::bind(&path).await.expect("the path is free");
    fs::remove_file(&path).expect("the socket has a file");
    let refused = AdminSocket::bind(&path).await.expect_err("the lock is held");
    assert!(refused.to_string().contains(&format!("pid {}", std::process::id())), "{refused}");
    drop(held);
}

#[tokio::test]
async fn what_a_killed_agent_left_is_replaced() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("the path is free"));
    assert!(fs::metadata(&path).expect("a stale socket").file_type().is_socket());
    Agent::start(&path).await.stop().await;
}

#[tokio::test]
async fn a_file_in_the_way_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    fs::write(&path, "precious").expect("the path is free");
    let refused = AdminSocket::bind(&path).await.expect_err("something is in the way");
    assert_eq!(refused.exit, Exit::Config);
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "precious");
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_refused_before_anything_is_made() {
    let directory = directory();
    let path = directory.path().join("a".repeat(107));
    assert_eq!(AdminSocket::bind(&path).await.expect_err("too long").exit, Exit::Config);
    assert_eq!(fs::read_dir(directory.path()).expect("it exists").count(), 0);
}

#[tokio::test]
async fn what_must_not_happen_under_a_running_agent_is_refused_until_it_is_gone() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    let agent = Agent::start(&path).await;
    let refused = socket::refuse_if_held(&path).await.expect_err("an agent runs");
    assert!(refused.to_string().contains("systemctl stop"), "{refused}");
    agent.stop().await;
    socket::refuse_if_held(&path).await.expect("no agent any more");
}

#[tokio::test]
async fn flows_come_as_lines_and_go_on_when_followed() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    let agent = Agent::start(&path).await;
    let client = Client::new(&path);
    agent.recorder.record(&event());

    let mut lines =
        client.lines("/v1/flows?verdict=deny&workload=web-1&protocol=6&port=5432").await.expect("an answer");
    let line = lines.next().await.expect("a sound stream").expect("the kept flow");
    assert!(matches!(line.parse::<Line>().expect("a line"), Line::Flow(flow) if flow.destination_port == Some(5432)));
    assert!(lines.next().await.expect("a sound stream").is_none(), "without follow it ends");

    let mut lines = client.lines("/v1/flows?follow=true&limit=0").await.expect("an answer");
    agent.recorder.record(&event());
    assert!(lines.next().await.expect("a sound stream").is_some(), "the new flow arrives");
    agent.stop().await;
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_in_words() {
    let directory = directory();
    let path = directory.path().join("admin.sock");
    let agent = Agent::start(&path).await;
    for (path_and_query, exit, words) in [
        ("/v1/flows?verdict=drop", Exit::Usage, "allow, deny or audit"),
        ("/v1/flows?colour=red", Exit::Usage, "colour"),
        ("/v1/flows?port=99999", Exit::Usage, "port"),
        ("/v2/status", Exit::Unavailable, "/v1/status"),
    ] {
        let refused = Client::new(&path).get(path_and_query).await.expect_err("refused");
        assert_eq!(refused.exit, exit, "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    agent.stop().await;
}
