//! Living with the API server: what is known stays in force, and is brought up to date as cheaply as can be.

use std::time::{Duration, Instant};

use bulkhead::source::kubernetes::{Access, Pace};
use bulkhead_tests::apiserver::{ApiServer, Asked, End, Fault, NAMESPACE, POD, Verb, What};

use crate::known::{Known, named, pod, quick};

fn remote(name: &str) -> serde_json::Value {
    pod(name, "n2", "10.0.0.1")
}

/// A server with the pods a and b of the namespace x, and what is known of it.
async fn start() -> (ApiServer, Known) {
    let server = ApiServer::start();
    server.put(&POD, remote("x/a"));
    server.put(&POD, remote("x/b"));
    let mut known = Known::start(&server);
    known.until_pods(&["x/a", "x/b"]).await;
    known.until_settled(&server).await;
    (server, known)
}

fn of_pods(asked: &[Asked], verb: Verb) -> Vec<&Asked> {
    asked.iter().filter(|it| it.plural == "pods" && it.verb == verb).collect()
}

#[tokio::test]
async fn lists_are_asked_for_in_pages_and_by_name() {
    let server = ApiServer::start();
    server.put_all(&POD, (0..10).map(|n| remote(&format!("x/p{n}"))));
    let mut known = Known::start(&server);
    known.until("all are told", |known| known.pods.len() == 10).await;
    let asked = server.take_asked();
    let pages = of_pods(&asked, Verb::List);
    assert_eq!(pages.len(), 4, "ten by three");
    assert!(pages.iter().all(|page| page.parameter("limit") == Some("3")));
    assert!(pages.iter().skip(1).all(|page| page.parameter("continue").is_some()));
    assert!(asked.iter().all(|it| it.user_agent == concat!("bulkhead/", env!("CARGO_PKG_VERSION"))), "{asked:?}");
    assert_eq!(known.metric(r#"bulkhead_kubernetes_requests_total{kind="pods",verb="list"}"#) as u64, 4);
    assert!(known.metric(r#"bulkhead_kubernetes_received_bytes_total{kind="pods"}"#) > 1_000.0);
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_from_the_last_bookmark() {
    let server = ApiServer::start();
    server.bookmark_every(Duration::from_millis(30));
    server.put(&POD, remote("x/a"));
    let mut known = Known::start(&server);
    known.until_pods(&["x/a"]).await;
    known.until_settled(&server).await;
    // Other kinds have the version grow; of pods there is no word but bookmarks.
    for n in 0..20 {
        server.put(&NAMESPACE, named(&format!("n{n}")));
    }
    known.during(Duration::from_millis(300)).await;
    server.forget();
    server.take_asked();
    server.end_watches(End::Well);
    server.put(&POD, remote("x/b"));
    known.until_pods(&["x/a", "x/b"]).await;
    let asked = server.take_asked();
    assert_eq!(of_pods(&asked, Verb::List).len(), 0, "a bookmark spares the list: {asked:?}");
    assert_eq!(known.pod_lists, 1);
}

#[tokio::test]
async fn a_connection_cut_within_a_line_loses_nothing_and_costs_no_list() {
    let (server, mut known) = start().await;
    server.end_watches(End::WithinALine);
    server.put(&POD, remote("x/c"));
    server.delete(&POD, "x/a");
    known.until_pods(&["x/b", "x/c"]).await;
    server.fail(Fault::new(What::Cut).on_watch().of("pods").times(3));
    server.end_watches(End::WithinALine);
    server.put(&POD, remote("x/d"));
    known.until_pods(&["x/b", "x/c", "x/d"]).await;
    assert_eq!(known.pod_lists, 1);
    assert!(known.errors("connection") >= 4.0);
}

#[tokio::test]
async fn what_the_server_has_forgotten_is_listed_again() {
    let (server, mut known) = start().await;
    // An event of type ERROR.
    server.end_watches(End::Error(410));
    known.until("there was a second list", |known| known.pod_lists == 2).await;
    // A watch that is refused.
    known.until("it watches again", |_| server.watches() == 5).await;
    server.fail(Fault::new(What::Status { code: 410, retry_after: None }).on_watch().of("pods"));
    server.end_watches(End::Well);
    known.until("there was a third list", |known| known.pod_lists == 3).await;
    // One from a version that is forgotten, with changes that nobody told.
    known.until("it watches again", |_| server.watches() == 5).await;
    server.fail(Fault::new(What::Status { code: 500, retry_after: None }).on_watch().of("pods"));
    server.end_watches(End::Well);
    server.delete(&POD, "x/a");
    server.put(&POD, remote("x/c"));
    server.forget();
    known.until_pods(&["x/b", "x/c"]).await;
    assert_eq!(known.pod_lists, 4);
    assert!(known.errors("gone") >= 3.0);
}

#[tokio::test]
async fn a_list_that_expires_between_two_pages_begins_anew() {
    let server = ApiServer::start();
    server.put_all(&POD, (0..10).map(|n| remote(&format!("x/p{n}"))));
    server.fail(Fault::new(What::Status { code: 410, retry_after: None }).on_further_page().of("pods").times(2));
    let mut known = Known::start(&server);
    known.until("all are told", |known| known.pods.len() == 10).await;
    assert_eq!(known.pod_lists, 1, "half a list is never told");
    assert_eq!(known.errors("gone") as u64, 2);
}

#[tokio::test]
async fn a_list_that_breaks_off_or_is_none_is_never_told() {
    let server = ApiServer::start();
    server.put_all(&POD, (0..5).map(|n| remote(&format!("x/p{n}"))));
    for what in [
        What::Cut,
        What::Body("<html>Service unavailable</html>".into()),
        What::Body("{}".into()),
        What::Body(r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}"#.into()),
        What::Status { code: 500, retry_after: None },
        What::Status { code: 403, retry_after: None },
    ] {
        server.fail(Fault::new(what).on_list().of("pods"));
    }
    let mut known = Known::start(&server);
    known.until("all are told", |known| known.pods.len() == 5).await;
    assert_eq!(known.pod_lists, 1);
    for (reason, times) in [("connection", 1), ("protocol", 3), ("server", 1), ("forbidden", 1)] {
        assert_eq!(known.errors(reason) as u64, times, "{reason}");
    }
}

#[tokio::test]
async fn news_that_make_no_sense_lead_to_a_list() {
    let (server, mut known) = start().await;
    let nonsense = "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":}}\n";
    server.fail(Fault::new(What::Body(nonsense.into())).on_watch().of("pods"));
    server.end_watches(End::Well);
    known.until("there was a second list", |known| known.pod_lists == 2).await;
    assert_eq!(known.errors("protocol") as u64, 1);
}

#[tokio::test]
async fn a_server_that_is_slow_is_heard_and_one_that_is_silent_is_asked_again() {
    let server = ApiServer::start();
    server.put(&POD, remote("x/a"));
    server.fail(Fault::new(What::Slow(Duration::from_millis(5))).of("pods").times(2));
    let pace = Pace { silence: Duration::from_millis(200), answer: Duration::from_millis(400), ..quick() };
    let mut known = Known::start_with(Access::Kubeconfig(server.kubeconfig()), pace);
    known.until_pods(&["x/a"]).await;
    server.put(&POD, remote("x/b"));
    known.until_pods(&["x/a", "x/b"]).await;
    // Nobody is told of a connection that is dead.
    server.fail(Fault::new(What::Silent).on_watch().of("pods"));
    server.end_watches(End::Well);
    server.put(&POD, remote("x/c"));
    known.until_pods(&["x/a", "x/b", "x/c"]).await;
    assert_eq!(known.pod_lists, 1);
}

#[tokio::test]
async fn while_the_server_is_away_what_is_known_stays_and_grows_older() {
    let (server, mut known) = start().await;
    server.stop();
    assert_eq!(known.during(Duration::from_secs(2)).await, 0, "nothing is told");
    assert_eq!(known.pods.len(), 2);
    assert!(known.metric(r#"bulkhead_kubernetes_age_seconds{kind="pods"}"#) >= 2.0);
    server.put(&POD, remote("x/c"));
    server.delete(&POD, "x/a");
    server.start_again();
    known.until_pods(&["x/b", "x/c"]).await;
    assert_eq!(known.pod_lists, 1, "the watch goes on from where it was");
    assert!(known.metric(r#"bulkhead_kubernetes_age_seconds{kind="pods"}"#) < 2.0);
}

#[tokio::test]
async fn a_server_that_has_lost_everything_is_believed() {
    let (server, mut known) = start().await;
    server.stop();
    server.lose_everything();
    server.put(&POD, remote("x/new"));
    server.start_again();
    known.until_pods(&["x/new"]).await;
    assert_eq!(known.pod_lists, 2);
}

#[tokio::test]
async fn a_server_that_throttles_is_left_alone_for_as_long_as_it_asks() {
    let (server, mut known) = start().await;
    server.fail(Fault::new(What::Status { code: 429, retry_after: Some(1) }).on_watch().of("pods").times(2));
    server.take_asked();
    server.end_watches(End::Well);
    known.until("it is throttled", |known| known.errors("throttled") >= 1.0).await;
    server.put(&POD, remote("x/c"));
    known.until_pods(&["x/a", "x/b", "x/c"]).await;
    let asked = server.take_asked();
    let watches = of_pods(&asked, Verb::Watch);
    let pauses: Vec<Duration> = watches.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert_eq!(pauses.len(), 2, "{asked:?}");
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(1)), "{pauses:?}");
    assert_eq!(known.errors("throttled") as u64, 2);
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_less_and_less() {
    let (server, mut known) = start().await;
    server.take_asked();
    server.fail(Fault::new(What::Status { code: 503, retry_after: None }).always());
    server.end_watches(End::Well);
    let began = Instant::now();
    assert_eq!(known.during(Duration::from_secs(3)).await, 0, "nothing is told");
    let asked = server.take_asked().len();
    assert!(asked > 25, "it is asked again: {asked} requests in {:?}", began.elapsed());
    assert!(asked < 5 * (4 + 3_000 / 200), "five kinds, at most each 200 ms: {asked} requests");
    server.mend();
    server.put(&POD, remote("x/c"));
    known.until_pods(&["x/a", "x/b", "x/c"]).await;
    assert_eq!(known.pod_lists, 1);
}
