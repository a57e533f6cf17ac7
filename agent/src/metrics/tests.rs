//! What a scrape shows.

use std::io::Write;
use std::process::{Command, Stdio};

use bulkhead_ebpf::abi::{Count, Hook, Reason, Verdict};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::flow_log::FlowLogMetrics;
use super::health::Health;
use super::listener::{MetricsListener, Shown};
use super::trail::TrailMetrics;
use super::*;
use crate::exit::Exit;
use crate::flow::record::tests::names;
use crate::view::MapView;

struct Straw;

impl Readings for Straw {
    fn counts(&self) -> Vec<(Hook, Verdict, Reason, Count)> {
        vec![
            (Hook::CgroupEgress, Verdict::Deny, Reason::NoRule, Count { packets: 3, bytes: 180 }),
            (Hook::Connect, Verdict::Deny, Reason::NoRule, Count { packets: 2, bytes: 0 }),
        ]
    }

    fn rule_hits(&self) -> Vec<(u32, u64)> {
        vec![(9, 12), (77, 1)]
    }

    fn maps(&self) -> Vec<MapView> {
        vec![MapView { map: "flows".into(), entries: 5, capacity: 262_144 }]
    }

    fn events_lost(&self) -> u64 {
        4
    }
}

/// All that an agent serves.
pub(super) fn metrics() -> Metrics {
    let shared = SharedNames::default();
    shared.publish(names());
    let metrics = Metrics::new(Arc::new(Straw), shared, KubernetesMetrics::default());
    metrics.add_flow_log(&FlowLogMetrics::default());
    metrics.add_trail(&TrailMetrics::default());
    metrics
}

/// The value of one series.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text().expect("the text format");
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn the_kernels_counters_are_read_at_every_scrape() {
    let metrics = metrics();
    for (series, expected) in [
        (r#"bulkhead_packets_total{hook="cgroup_egress",verdict="deny",reason="no_rule"}"#, 3.0),
        (r#"bulkhead_bytes_total{hook="cgroup_egress",verdict="deny",reason="no_rule"}"#, 180.0),
        (r#"bulkhead_packets_total{hook="connect",verdict="deny",reason="no_rule"}"#, 2.0),
        (r#"bulkhead_rule_hits_total{group="api",direction="ingress",rule="0"}"#, 12.0),
        (r#"bulkhead_map_entries{map="flows"}"#, 5.0),
        (r#"bulkhead_map_capacity{map="flows"}"#, 262_144.0),
        ("bulkhead_events_lost_total", 4.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn what_will_happen_sooner_or_later_is_zero_before_it_does() {
    let metrics = metrics();
    for series in [
        r#"bulkhead_packets_total{hook="xdp",verdict="deny",reason="malformed"}"#,
        r#"bulkhead_policy_reloads_total{result="refused"}"#,
        r#"bulkhead_workloads{source="netlink"}"#,
        r#"bulkhead_source_resyncs_total{source="cgroup"}"#,
        r#"bulkhead_kernel_errors_total{operation="write"}"#,
        "bulkhead_workload_apply_seconds_count",
    ] {
        assert_eq!(value(&metrics, series), Some(0.0), "{series}");
    }
    let system_calls = r#"bulkhead_bytes_total{hook="connect",verdict="deny",reason="no_rule"}"#;
    assert_eq!(value(&metrics, system_calls), None, "system calls have no bytes");
}

#[test]
fn the_controllers_news_show() {
    let metrics = metrics();
    metrics.policy_refused(2);
    assert_eq!(value(&metrics, "bulkhead_policy_problems"), Some(2.0));
    metrics.policy_applied(7, 0.003);
    metrics.workload_applied(0.000_2);
    metrics.set_workloads(&[(SourceKind::Cgroup, 8)].into());
    metrics.set_groups(3);
    metrics.resynced(SourceKind::Netlink);
    metrics.kernel_error("write");
    for (series, expected) in [
        ("bulkhead_policy_problems", 0.0),
        ("bulkhead_policy_generation", 7.0),
        (r#"bulkhead_policy_reloads_total{result="applied"}"#, 1.0),
        (r#"bulkhead_policy_reloads_total{result="refused"}"#, 1.0),
        (r#"bulkhead_policy_apply_seconds_bucket{le="0.0025"}"#, 0.0),
        (r#"bulkhead_policy_apply_seconds_bucket{le="0.005"}"#, 1.0),
        (r#"bulkhead_workload_apply_seconds_bucket{le="0.00025"}"#, 1.0),
        (r#"bulkhead_workloads{source="cgroup"}"#, 8.0),
        (r#"bulkhead_workloads{source="file"}"#, 0.0),
        ("bulkhead_groups", 3.0),
        (r#"bulkhead_source_resyncs_total{source="netlink"}"#, 1.0),
        (r#"bulkhead_kernel_errors_total{operation="write"}"#, 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
    assert!(value(&metrics, "bulkhead_policy_last_success_timestamp_seconds").is_some_and(|time| time > 1.7e9));
}

#[test]
fn the_process_shows_its_memory_and_files() {
    let metrics = metrics();
    for series in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(value(&metrics, series).is_some_and(|value| value > 0.0), "{series}");
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there; `cargo xtask setup` installs it");
    let text = metrics().text().expect("the text format");
    promtool.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// Status and body of one request.
async fn ask(address: std::net::SocketAddr, method: &str, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.expect("the listener listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "test");
    let request = request.body(Empty::<axum::body::Bytes>::new()).expect("a valid request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn the_listener_shows_metrics_and_health_and_nothing_else() {
    let listener = MetricsListener::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let address = listener.address();
    let health = Arc::new(Health::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let shown = Shown { metrics: metrics(), health: Arc::clone(&health) };
    let serving = tokio::spawn(listener.serve(shown, async { drop(stopped.await) }));

    let (status, text) = ask(address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("bulkhead_build_info{version="), "{text}");
    assert_eq!(ask(address, "GET", "/healthz").await, (200, "ok\n".into()));
    assert_eq!(ask(address, "GET", "/readyz").await, (503, "the agent is starting\n".into()));
    health.set_ready();
    assert_eq!(ask(address, "GET", "/readyz").await, (200, "ok\n".into()));
    assert_eq!(ask(address, "POST", "/metrics").await.0, 405);
    assert_eq!(ask(address, "GET", "/").await.0, 404);

    let taken = MetricsListener::bind(address).await.expect_err("the port is in use");
    assert_eq!(taken.exit, Exit::TempFail);
    assert!(taken.to_string().contains("--metrics"), "{taken}");
    drop(stop);
    serving.await.expect("serving does not panic");
}
