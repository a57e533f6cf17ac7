//! On a node of a cluster: the agent and a Kubernetes API, cgroups as the kubelet names them, real sockets.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bulkhead_tests::apiserver::{
    ApiServer, ENDPOINT_SLICE, NAMESPACE, NETWORK_POLICY, NODE as NODES, POD, Resource, SERVICE,
};
use bulkhead_tests::case::Way::{Tcp, Udp};
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::document::selecting;
use bulkhead_tests::lab::probe::join_cgroup;
use bulkhead_tests::lab::protocol::Request;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload, agent, binaries, cgroup};
use bulkhead_tests::pod::{self, Driver, NODE};
use serde_json::{Value, json};

/// A node, and the API of its cluster.
struct Cluster {
    server: ApiServer,
    lab: Lab,
}

impl Cluster {
    /// With the namespaces `shop` of team red and `ops` of team blue.
    fn new() -> Self {
        let lab = Lab::new();
        let server = lab.site().host.enter(|| Ok(ApiServer::start())).expect("a server in the host's namespace");
        for (name, team) in [("shop", "red"), ("ops", "blue")] {
            server.put(&NAMESPACE, json!({"metadata": {"name": name, "labels": {"team": team}}}));
        }
        Self { server, lab }
    }

    /// A process in a pod of this node, of which the API has yet to tell.
    fn pod(&mut self, driver: Driver, name: &str) -> Workload {
        let pod = self.lab.container_in(&pod::cgroup(driver, &pod::uid(name)), name, "");
        pod.serve(&[80, 81]);
        pod
    }

    /// Has the API tell of it.
    fn tell(&self, namespace: &str, pod: &Workload, labels: Value) {
        let (uid, addresses) = (pod::uid(&pod.name), pod::addresses(pod));
        self.server.put(&POD, pod::object(namespace, &pod.name, &uid, NODE, labels, &addresses));
    }

    /// A pod of another node.
    fn remote(&mut self, namespace: &str, name: &str, labels: Value) -> Workload {
        let remote = self.lab.outsider(name, "");
        remote.serve(&[80, 81]);
        let object = pod::object(namespace, name, &pod::uid(name), "node-2", labels, &pod::addresses(&remote));
        self.server.put(&POD, object);
        remote
    }

    fn agent(&self) -> Agent {
        self.lab.agent_by(self.command_of(binaries::bulkhead()))
    }

    /// The agent in the pod of this name, of which the API says nothing.
    fn agent_in(&self, pod: &str) -> Agent {
        self.build_in(binaries::bulkhead(), pod)
    }

    /// The same of another build.
    fn build_in(&self, binary: &Path, pod: &str) -> Agent {
        let cgroup = self.lab.site().cgroup_root.join(pod::cgroup(Driver::Systemd, &pod::uid(pod)));
        cgroup::make(&cgroup).expect("a cgroup");
        let mut command = self.command_of(binary);
        join_cgroup(&mut command, &cgroup).expect("it can be joined");
        self.lab.agent_by(command)
    }

    fn command_of(&self, binary: &Path) -> Command {
        let kubeconfig = self.server.kubeconfig();
        let kubeconfig = kubeconfig.to_str().expect("a plain path");
        let scopes = "kubepods.slice,kubepods";
        let arguments = ["--kubernetes", "--kubeconfig", kubeconfig, "--node-name", NODE, "--managed-scope", scopes];
        agent::command_of(binary, self.lab.site(), &arguments)
    }
}

/// `db` of the namespace `shop` lets in whoever is a `web` in a namespace of team red, at its port 80.
fn shop() -> String {
    let web = "{matchLabels: {app: web, namespace.team: red}}";
    let to_db = "ingress: [{from: [{group: web}], ports: [{protocol: tcp, port: 80}]}]";
    selecting("web", 1, web, &["ingress: []"])
        + &selecting("db", 2, "{matchLabels: {app: db, namespace: shop}}", &[to_db])
}

fn knows(agent: &Agent, pod: &str) {
    agent.eventually(&format!("{pod} is known"), || agent.workloads().into_iter().find(|it| it.name == pod));
}

#[test]
fn pods_are_governed_by_their_labels_and_their_namespaces_whatever_made_their_cgroups() {
    let mut cluster = Cluster::new();
    let [db, web] = ["db", "web"].map(|name| cluster.pod(Driver::Systemd, name));
    let [db2, web2, liar] = ["db2", "web2", "liar"].map(|name| cluster.pod(Driver::Cgroupfs, name));
    for db in [&db, &db2] {
        cluster.tell("shop", db, json!({"app": "db"}));
    }
    for web in [&web, &web2] {
        cluster.tell("shop", web, json!({"app": "web"}));
    }
    cluster.tell("ops", &liar, json!({"app": "web", "namespace": "shop", "namespace.team": "red"}));
    cluster.lab.policy("shop.yaml", &shop());
    let agent = cluster.agent();
    tried(&[
        reaches(&web, Tcp(80), &db),
        reaches(&web, Tcp(80), &db2),
        reaches(&web2, Tcp(80), &db),
        is_dropped(&web, Tcp(81), &db),
        is_dropped(&db, Tcp(80), &db2),
        is_dropped(&liar, Tcp(80), &db),
        is_dropped(&liar, Tcp(80), &db2),
    ])
    .end(|| agent.dump());
    let known = agent.workloads();
    let db = known.iter().find(|it| it.name == "pod:shop/db").expect("a pod is a workload");
    assert_eq!(db.labels.get("namespace.team").map(String::as_str), Some("red"));
    assert!(!known.iter().any(|it| it.name.contains("cri-containerd")), "a container is its pod: {known:?}");
    // A namespace's labels are its pods'.
    cluster.server.put(&NAMESPACE, json!({"metadata": {"name": "ops", "labels": {"team": "red"}}}));
    agent.eventually("the namespace's pods have its new label", || {
        let pod = agent.workloads().into_iter().find(|it| it.name == "pod:ops/liar")?;
        (pod.labels.get("namespace.team").map(String::as_str) == Some("red")).then_some(())
    });
    tried(&[reaches(&liar, Tcp(80), &db2)]).end(|| agent.dump());
}

#[test]
fn a_pod_that_the_api_has_not_told_of_is_nobody_and_denied_until_it_does() {
    let mut cluster = Cluster::new();
    let web = cluster.pod(Driver::Systemd, "web");
    cluster.tell("shop", &web, json!({"app": "web"}));
    cluster.lab.policy("shop.yaml", &shop());
    let agent = cluster.agent();
    // Its process is there before its object.
    let [db, other] =
        [Driver::Systemd, Driver::Cgroupfs].map(|driver| cluster.pod(driver, &format!("late-{driver:?}")));
    tried(&[is_dropped(&web, Tcp(80), &db), is_refused(&db, Udp(81), &other), is_dropped(&web, Tcp(80), &other)])
        .end(|| agent.dump());
    for late in [&db, &other] {
        cluster.tell("shop", late, json!({"app": "db"}));
        knows(&agent, &format!("pod:shop/{}", late.name));
    }
    tried(&[reaches(&web, Tcp(80), &db), reaches(&web, Tcp(80), &other), is_dropped(&web, Tcp(81), &db)])
        .end(|| agent.dump());
    // And nobody again once it is gone, though its process lingers.
    cluster.server.delete(&POD, &format!("shop/{}", db.name));
    agent.eventually("the pod is gone", || {
        (!agent.workloads().iter().any(|it| it.name == format!("pod:shop/{}", db.name))).then_some(())
    });
    tried(&[is_dropped(&web, Tcp(80), &db), reaches(&web, Tcp(80), &other)]).end(|| agent.dump());
}

#[test]
fn a_pod_of_another_node_is_known_by_its_addresses_until_it_finishes() {
    let mut cluster = Cluster::new();
    let db = cluster.pod(Driver::Systemd, "db");
    cluster.tell("shop", &db, json!({"app": "db"}));
    let [web, job] = ["far-web", "far-job"].map(|name| cluster.remote("shop", name, json!({"app": "web"})));
    let stranger = cluster.remote("ops", "far-other", json!({"app": "web"}));
    cluster.lab.policy("shop.yaml", &shop());
    let agent = cluster.agent();
    tried(&[reaches(&web, Tcp(80), &db), reaches(&job, Tcp(80), &db), is_dropped(&stranger, Tcp(80), &db)])
        .end(|| agent.dump());
    let mut finished =
        pod::object("shop", "far-job", &pod::uid("far-job"), "node-2", json!({"app": "web"}), &pod::addresses(&job));
    finished["status"]["phase"] = json!("Succeeded");
    cluster.server.put(&POD, finished);
    agent.eventually("its addresses are nobody's", || {
        (!agent.workloads().iter().any(|it| it.name == "pod:shop/far-job")).then_some(())
    });
    tried(&[is_dropped(&job, Tcp(80), &db), reaches(&web, Tcp(80), &db)]).end(|| agent.dump());
}

#[test]
fn a_pod_in_the_hosts_network_is_governed_by_its_cgroup() {
    let mut cluster = Cluster::new();
    let cgroup = pod::cgroup(Driver::Systemd, &pod::uid("proxy"));
    let proxy = cluster.lab.process_in(&cgroup, "proxy", "");
    let outsider = cluster.lab.outsider("outsider", "");
    outsider.serve(&[80, 81]);
    let mut object =
        pod::object("ops", "proxy", &pod::uid("proxy"), NODE, json!({"app": "proxy"}), &pod::addresses(&proxy));
    object["spec"]["hostNetwork"] = json!(true);
    cluster.server.put(&POD, object);
    let egress = "egress: [{to: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}], ports: [{protocol: tcp, port: 80}]}]";
    cluster.lab.policy("proxy.yaml", &selecting("proxy", 1, "{matchLabels: {app: proxy}}", &["ingress: []", egress]));
    let agent = cluster.agent();
    tried(&[reaches(&proxy, Tcp(80), &outsider), is_refused(&proxy, Tcp(81), &outsider)]).end(|| agent.dump());
    let known = agent.workloads().into_iter().find(|it| it.name == "pod:ops/proxy").expect("it is known");
    assert!(known.addresses.is_empty(), "the node's addresses are not its own: {known:?}");
}

#[test]
fn other_nodes_are_the_entity_remote_host() {
    let mut cluster = Cluster::new();
    let db = cluster.pod(Driver::Systemd, "db");
    cluster.tell("shop", &db, json!({"app": "db"}));
    let [node, stranger] = ["node2", "stranger"].map(|name| cluster.lab.outsider(name, ""));
    let addresses: Vec<Value> =
        pod::addresses(&node).iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    cluster.server.put(&NODES, json!({"metadata": {"name": "node-2"}, "status": {"addresses": addresses}}));
    let rules = [
        "ingress: [{from: [{entity: remote-host}], ports: [{protocol: tcp, port: 80}]}, {from: [{entity: world}], ports: [{protocol: tcp, port: 81}]}]",
    ];
    cluster.lab.policy("db.yaml", &selecting("db", 1, "{matchLabels: {app: db}}", &rules));
    let agent = cluster.agent();
    tried(&[
        reaches(&node, Tcp(80), &db),
        is_dropped(&node, Tcp(81), &db),
        is_dropped(&stranger, Tcp(80), &db),
        reaches(&stranger, Tcp(81), &db),
    ])
    .end(|| agent.dump());
}

#[test]
fn an_agent_in_a_pod_that_nobody_knows_yet_reaches_the_api_though_its_scope_denies() {
    let mut cluster = Cluster::new();
    let router = cluster.lab.beyond_address(Version::V4);
    cluster.server =
        cluster.lab.beyond().enter(|| Ok(ApiServer::start_at(router))).expect("a server beyond the uplink");
    cluster.server.put(&NAMESPACE, json!({"metadata": {"name": "ops"}}));
    cluster.lab.policy("shop.yaml", &shop());
    let outsider = cluster.lab.outsider("outsider", "");
    outsider.serve(&[80]);
    let first = cluster.agent_in("first");
    let other = cluster.lab.process_in(&pod::cgroup(Driver::Systemd, &pod::uid("other")), "other", "");
    tried(&[is_refused(&other, Udp(80), &outsider)]).end(|| first.dump());
    drop(first);
    // The next version of it is another pod, and what the first one left in force knows nothing of it.
    let second = cluster.agent_in("second");
    cluster.server.put(&NAMESPACE, json!({"metadata": {"name": "shop"}}));
    let db = cluster.pod(Driver::Systemd, "db");
    cluster.tell("shop", &db, json!({"app": "db"}));
    knows(&second, "pod:shop/db");
    tried(&[is_refused(&other, Udp(80), &outsider)]).end(|| second.dump());
    drop(second);
    // So is one whose maps are laid out otherwise.
    let third = cluster.build_in(binaries::successor(), "third");
    knows(&third, "pod:shop/db");
    tried(&[is_refused(&other, Udp(80), &outsider)]).end(|| third.dump());
}

/// Has the node translate `from` to `to`, as kube-proxy does.
fn translate(lab: &Lab, from: SocketAddr, to: SocketAddr) {
    let (address, port) = (from.ip(), from.port());
    let rules = format!(
        "table ip services {{\n chain prerouting {{\n type nat hook prerouting priority dstnat;\n \
         ip daddr {address} tcp dport {port} dnat to {to}\n }}\n}}\n"
    );
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped());
    lab.site().host.place(&mut nft);
    let mut child = nft.spawn().expect("nft is installed");
    child.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("nft ends").success(), "{rules}");
}

#[test]
fn what_is_sent_to_a_service_is_judged_by_who_stands_behind_it() {
    let mut cluster = Cluster::new();
    let [web, db, other] = ["web", "db", "other"].map(|name| cluster.pod(Driver::Systemd, name));
    cluster.tell("shop", &web, json!({"app": "web"}));
    cluster.tell("shop", &db, json!({"app": "db"}));
    cluster.tell("shop", &other, json!({"app": "other"}));
    let service = |name: &str, address: &str| {
        json!({"metadata": {"namespace": "shop", "name": name},
               "spec": {"clusterIPs": [address], "ports": [{"name": "main", "protocol": "TCP", "port": 8_000}]}})
    };
    let slice = |name: &str, pod: &Workload| {
        json!({"metadata": {"namespace": "shop", "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
               "addressType": "IPv4",
               "ports": [{"name": "main", "protocol": "TCP", "port": 80}],
               "endpoints": [{"addresses": [pod.address(Version::V4)], "conditions": {"ready": true}}]})
    };
    let [of_db, of_other] = ["10.96.0.7", "10.96.0.8"];
    for (name, address, pod) in [("db", of_db, &db), ("other", of_other, &other)] {
        cluster.server.put(&SERVICE, service(name, address));
        cluster.server.put(&ENDPOINT_SLICE, slice(name, pod));
        let from = SocketAddr::new(address.parse().expect("a literal"), 8_000);
        translate(&cluster.lab, from, SocketAddr::new(pod.address(Version::V4), 80));
    }
    let egress = "egress: [{to: [{group: db}], ports: [{protocol: tcp, port: 80}]}]";
    let policy = selecting("web", 1, "{matchLabels: {app: web}}", &["ingress: []", egress])
        + &selecting("db", 2, "{matchLabels: {app: db}}", &["ingress: [{from: [{group: web}]}]"]);
    cluster.lab.policy("shop.yaml", &policy);
    let agent = cluster.agent();
    agent.eventually("the services are in the tables", || {
        (agent.metric("bulkhead_map_entries", &[("map", "services")]) >= 2.0).then_some(())
    });
    let connect = |address: &str, port: u16| {
        let address: IpAddr = address.parse().expect("a literal");
        let patience = 2_000;
        web.attempt(&Request::Connect { to: SocketAddr::new(address, port), from: None, keep: false, patience })
    };
    assert_eq!(connect(of_db, 8_000), Outcome::Reached, "{}", agent.dump());
    assert_eq!(connect(of_other, 8_000), Outcome::Refused, "who stands behind it is not allowed\n{}", agent.dump());
    assert_eq!(connect(of_db, 80), Outcome::Refused, "no port of the service\n{}", agent.dump());
    // Whoever else comes to stand behind it counts, too.
    let mut both = slice("db", &db);
    both["endpoints"].as_array_mut().expect("a list").push(json!({"addresses": [other.address(Version::V4)]}));
    cluster.server.put(&ENDPOINT_SLICE, both);
    agent.eventually("the service stands for both", || (connect(of_db, 8_000) == Outcome::Refused).then_some(()));
}

#[test]
fn policies_of_the_api_are_enforced_beside_files_and_one_that_is_wrong_opens_nothing() {
    let mut cluster = Cluster::new();
    let [web, db, other] = ["web", "db", "other"].map(|name| cluster.pod(Driver::Systemd, name));
    cluster.tell("shop", &web, json!({"app": "web"}));
    cluster.tell("shop", &db, json!({"app": "db"}));
    cluster.tell("shop", &other, json!({"app": "other"}));
    let policy = |port: Value| {
        json!({"metadata": {"namespace": "shop", "name": "db"},
               "spec": {"podSelector": {"matchLabels": {"app": "db"}},
                        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": port}]}]}})
    };
    cluster.server.put(&NETWORK_POLICY, policy(json!(80)));
    cluster.lab.policy("other.yaml", &selecting("other", 1, "{matchLabels: {app: other}}", &["ingress: []"]));
    let agent = cluster.agent();
    tried(&[
        reaches(&web, Tcp(80), &db),
        is_dropped(&web, Tcp(81), &db),
        is_dropped(&other, Tcp(80), &db),
        is_dropped(&web, Tcp(80), &other),
        reaches(&other, Tcp(80), &web),
    ])
    .end(|| agent.dump());
    cluster.server.put(&NETWORK_POLICY, policy(json!(81)));
    agent.eventually("the new policy is in force", || tried(&[reaches(&web, Tcp(81), &db)]).is_empty().then_some(()));
    cluster.server.put(&NETWORK_POLICY, policy(json!(-7)));
    agent.eventually("the wrong policy is told", || {
        (agent.metric("bulkhead_policy_objects_refused", &[("kind", "NetworkPolicy")]) >= 1.0).then_some(())
    });
    tried(&[is_dropped(&web, Tcp(80), &db), is_dropped(&other, Tcp(81), &db)]).end(|| agent.dump());
    cluster.server.delete(&NETWORK_POLICY, "shop/db");
    agent.eventually("no policy selects it", || tried(&[reaches(&other, Tcp(81), &db)]).is_empty().then_some(()));
}

#[test]
fn what_is_in_the_kernel_is_told_the_cluster() {
    const GROUP: Resource = Resource::new("bulkhead.dev", "v1alpha1", "securitygroups", "SecurityGroup");
    const LEASE: Resource = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
    let cluster = Cluster::new();
    cluster.lab.policy("shop.yaml", &shop());
    let group = |name: &str, spec: Value| cluster.server.put(&GROUP, json!({"metadata": {"name": name}, "spec": spec}));
    cluster.server.put(&NODES, json!({"metadata": {"name": NODE}}));
    group("right", json!({"selector": {"matchLabels": {"app": "web"}}}));
    group("wrong", json!({"selector": {"matchLabels": {"app": "web"}}, "mode": "loud"}));
    let agent = cluster.agent();
    let tells = |count: &str| {
        let lease = cluster.server.get(&LEASE, &format!("bulkhead-system/{NODE}"))?;
        let told = lease["metadata"]["annotations"]["bulkhead.dev/in-force"].as_str()?;
        told.starts_with(count).then_some(())
    };
    agent.eventually("one object is in force as it is written", || tells("1 "));
    group("wrong", json!({"selector": {"matchLabels": {"app": "web"}}}));
    agent.eventually("both are", || tells("2 "));
    let asked = |verb| agent.metric("bulkhead_kubernetes_requests_total", &[("kind", "leases"), ("verb", verb)]);
    assert_eq!((asked("create"), asked("patch")), (1.0, 2.0));
}

#[test]
fn an_agent_that_starts_while_the_api_is_away_leaves_what_is_enforced_as_it_is() {
    let mut cluster = Cluster::new();
    let [web, db, other] = ["web", "db", "other"].map(|name| cluster.pod(Driver::Systemd, name));
    cluster.tell("shop", &web, json!({"app": "web"}));
    cluster.tell("shop", &db, json!({"app": "db"}));
    cluster.tell("ops", &other, json!({"app": "other"}));
    cluster.lab.policy("shop.yaml", &shop());
    let agent = cluster.agent();
    let rows = [reaches(&web, Tcp(80), &db), is_dropped(&other, Tcp(80), &db)];
    tried(&rows).end(|| agent.dump());
    cluster.server.stop();
    tried(&rows).end(|| agent.dump());
    drop(agent);
    let agent = thread::scope(|scope| {
        let starting = scope.spawn(|| cluster.agent());
        // Longer than it waits for a cluster where nothing is enforced yet would take too long here: it is enough that it has
        // begun and enforces nothing else meanwhile.
        thread::sleep(Duration::from_secs(3));
        assert!(!starting.is_finished(), "it says that it enforces");
        tried(&rows).end(String::new);
        let again = || {
            cluster.server.start_again();
            Ok(())
        };
        cluster.lab.site().host.enter(again).expect("the server is there again");
        starting.join().expect("it starts")
    });
    tried(&rows).end(|| agent.dump());
}

#[test]
fn a_named_port_is_the_number_that_each_pod_has_for_it() {
    let mut cluster = Cluster::new();
    let [client, other, low, high, late] =
        ["client", "other", "low", "high", "late"].map(|name| cluster.pod(Driver::Systemd, name));
    let far = cluster.lab.outsider("far", "");
    far.serve(&[80, 81]);
    let tell = |pod: &Workload, node: &str, labels: Value, number: u16| {
        let mut object = pod::object("shop", &pod.name, &pod::uid(&pod.name), node, labels, &pod::addresses(pod));
        object["spec"]["containers"][0]["ports"] = json!([{"name": "web", "containerPort": number}]);
        cluster.server.put(&POD, object);
    };
    cluster.tell("shop", &client, json!({"app": "client"}));
    cluster.tell("shop", &other, json!({"app": "other", "port.tcp.web": "80"}));
    tell(&low, NODE, json!({"app": "server"}), 80);
    tell(&far, "node-2", json!({"app": "far"}), 80);
    let ports = json!([{"port": "web"}]);
    let policy = |name: &str, app: &str, rules: Value| {
        let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}});
        spec.as_object_mut().expect("a spec").extend(rules.as_object().expect("rules").clone());
        cluster.server.put(&NETWORK_POLICY, json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}));
    };
    let clients = json!([{"podSelector": {"matchLabels": {"app": "client"}}}]);
    policy(
        "server",
        "server",
        json!({"ingress": [{"from": [], "ports": [{"port": 9}]}, {"from": clients, "ports": ports}]}),
    );
    let servers = json!([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["server", "far", "other"]}]}}]);
    policy("client", "client", json!({"policyTypes": ["Egress"], "egress": [{"to": servers, "ports": ports}]}));
    cluster.lab.policy("idle.yaml", &selecting("idle", 1, "{matchLabels: {app: idle}}", &["ingress: []"]));
    let agent = cluster.agent();
    tried(&[
        reaches(&client, Tcp(80), &low),
        is_refused(&client, Tcp(81), &low),
        is_refused(&client, Udp(80), &low),
        is_dropped(&other, Tcp(80), &low),
        reaches(&client, Tcp(80), &far),
        is_refused(&client, Tcp(81), &far),
        // What it says of its ports as labels does not count.
        is_refused(&client, Tcp(80), &other),
    ])
    .end(|| agent.dump());
    // A number that the name never had, of this node and of another.
    tell(&high, NODE, json!({"app": "server"}), 81);
    agent.eventually("the new number counts", || tried(&[reaches(&client, Tcp(81), &high)]).is_empty().then_some(()));
    tell(&far, "node-2", json!({"app": "far"}), 81);
    agent.eventually("and that of the other node", || {
        tried(&[reaches(&client, Tcp(81), &far)]).is_empty().then_some(())
    });
    tell(&late, NODE, json!({"app": "server"}), 81);
    knows(&agent, "pod:shop/late");
    tried(&[
        is_refused(&client, Tcp(80), &high),
        is_dropped(&other, Tcp(81), &high),
        is_dropped(&other, Tcp(80), &high),
        reaches(&client, Tcp(81), &late),
        reaches(&client, Tcp(80), &low),
        is_refused(&client, Tcp(81), &low),
        is_refused(&client, Tcp(80), &far),
    ])
    .end(|| agent.dump());
    for (group, direction, index) in [("server", "ingress", 1), ("client", "egress", 0)] {
        agent.eventually("a verdict names the policy's own rule", || {
            let flows = agent.flows(&["--verdict", "allow"]);
            let mut rules = flows.iter().filter_map(|flow| flow.rule.as_ref());
            let group = format!("networkpolicy:shop/{group}");
            rules.find(|it| (&it.group, it.direction.as_str(), it.index) == (&group, direction, index)).map(|_| ())
        });
    }
}
