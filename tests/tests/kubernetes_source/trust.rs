//! Tokens and certificates that expire and are replaced.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead::source::kubernetes::Access;
use bulkhead_tests::apiserver::{ApiServer, End, POD};

use crate::known::{HERE, Known, pod, quick};

#[tokio::test]
async fn a_service_account_is_enough() {
    let server = ApiServer::start();
    server.put(&POD, pod("x/a", HERE, "10.0.0.1"));
    let access = Access::ServiceAccount { directory: server.service_account(), server: server.url() };
    let mut known = Known::start_with(access, quick());
    known.until_pods(&["x/a"]).await;
}

#[tokio::test]
async fn a_rotated_token_is_read_again_as_soon_as_the_old_one_is_refused() {
    let server = ApiServer::start();
    server.put(&POD, pod("x/a", HERE, "10.0.0.1"));
    let access = Access::ServiceAccount { directory: server.service_account(), server: server.url() };
    let mut known = Known::start_with(access, quick());
    known.until_pods(&["x/a"]).await;

    server.write_token("token-2");
    server.accept_only("token-2");
    let began = Instant::now();
    server.end_watches(End::Well);
    server.put(&POD, pod("x/b", HERE, "10.0.0.2"));
    known.until_pods(&["x/a", "x/b"]).await;
    assert!(began.elapsed() < Duration::from_secs(10), "the client alone would take up to a minute");
    assert!((1.0..=10.0).contains(&known.errors("unauthorized")));
    assert_eq!(known.pod_lists, 1);
}

#[tokio::test]
async fn an_expired_token_costs_nothing_that_is_known() {
    let server = ApiServer::start();
    server.put(&POD, pod("x/a", HERE, "10.0.0.1"));
    let mut known = Known::start(&server);
    known.until_pods(&["x/a"]).await;
    known.until_settled(&server).await;
    server.accept_only("token-2");
    server.end_watches(End::Well);
    server.delete(&POD, "x/a");
    assert_eq!(known.during(Duration::from_secs(1)).await, 0, "nothing is told");
    assert!(known.errors("unauthorized") >= 5.0);
    server.write_token("token-2");
    known.until_pods(&[]).await;
}

#[tokio::test]
async fn a_server_with_a_new_authority_is_trusted_once_the_file_says_so() {
    let server = ApiServer::start();
    server.put(&POD, pod("x/a", HERE, "10.0.0.1"));
    let mut known = Known::start(&server);
    known.until_pods(&["x/a"]).await;
    known.until_settled(&server).await;
    let certificates = server.service_account().join("ca.crt");
    let old = fs::read(&certificates).expect("the server wrote it");
    server.stop();
    server.change_certificate();
    let new = fs::read(&certificates).expect("the server wrote it");
    fs::write(&certificates, old).expect("a file of the test's");
    server.start_again();
    server.put(&POD, pod("x/b", HERE, "10.0.0.2"));
    assert_eq!(known.during(Duration::from_secs(1)).await, 0, "it could be anybody");
    fs::write(&certificates, new).expect("a file of the test's");
    known.until_pods(&["x/a", "x/b"]).await;
}

#[tokio::test]
async fn a_kubeconfig_that_comes_late_is_found() {
    let server = ApiServer::start();
    server.put(&POD, pod("x/a", HERE, "10.0.0.1"));
    let late = server.service_account().join("late");
    let mut known = Known::start_with(Access::Kubeconfig(late.clone()), quick());
    known.until("it is missed", |known| known.errors("access") >= 5.0).await;
    fs::copy(server.kubeconfig(), late).expect("a file of the test's");
    known.until_pods(&["x/a"]).await;
}
