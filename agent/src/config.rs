//! What `bulkhead run` is told: flags, each of which is an environment variable too.

pub mod failsafe;
pub mod flow_log;
pub mod state;
mod time;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bulkhead_ebpf::abi::{FLOWS, Settings};
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use failsafe::{Failsafe, FailsafePort};
pub use time::length_of_time;

/// Where the admin socket is, unless told otherwise.
pub const DEFAULT_ADMIN: &str = "/run/bulkhead/admin.sock";
/// Where bpffs is mounted, unless told otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// Where the agents of a cluster are, unless told otherwise.
pub const DEFAULT_NAMESPACE: &str = "bulkhead-system";

/// Options of `bulkhead run`.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// A policy file, or a directory whose *.yaml and *.yml files are read; repeatable
    #[arg(
        long,
        env = "BULKHEAD_POLICIES",
        hide_env_values = true,
        value_name = "PATH",
        value_delimiter = ',',
        default_value = "/etc/bulkhead/policies"
    )]
    pub policies: Vec<PathBuf>,

    /// Root of the cgroup v2 tree [default: where cgroup2 is mounted]
    #[arg(long, env = "BULKHEAD_CGROUP_ROOT", hide_env_values = true, value_name = "PATH")]
    pub cgroup_root: Option<PathBuf>,

    /// A part of the cgroup tree whose units and slices become workloads, with what happens to a cgroup below it that is not
    /// identified yet: PATH=deny or PATH=allow (PATH alone denies); repeatable
    #[arg(
        long,
        env = "BULKHEAD_MANAGED_SCOPE",
        hide_env_values = true,
        value_name = "PATH[=allow]",
        value_delimiter = ',',
        default_value = "system.slice=allow"
    )]
    pub managed_scope: Vec<ManagedScope>,

    /// Take pods, namespaces, nodes, services and policies from the Kubernetes API: as a pod's service account says, or as in --kubeconfig
    #[arg(long, env = "BULKHEAD_KUBERNETES", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub kubernetes: bool,

    /// How to reach the Kubernetes API from outside of a pod
    #[arg(long, env = "BULKHEAD_KUBECONFIG", hide_env_values = true, value_name = "PATH", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,

    /// This host's name as a node of the cluster [default: the host's name]
    #[arg(
        long,
        env = "BULKHEAD_NODE_NAME",
        hide_env_values = true,
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub node_name: Option<String>,

    /// The namespace in which the agents of a cluster say what is in force on their nodes, each in a Lease of its own
    #[arg(
        long,
        env = "BULKHEAD_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME",
        default_value = DEFAULT_NAMESPACE,
        value_parser = namespace
    )]
    pub namespace: String,

    /// Where bpffs is mounted; programs and maps are pinned in its directory `bulkhead`
    #[arg(long, env = "BULKHEAD_BPFFS", hide_env_values = true, value_name = "PATH", default_value = DEFAULT_BPFFS)]
    pub bpffs: PathBuf,

    /// An interface that gets the XDP program, or `none`; repeatable [default: the interfaces of the default routes]
    #[arg(
        long,
        env = "BULKHEAD_UPLINK",
        hide_env_values = true,
        value_name = "IFACE",
        value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub uplink: Vec<String>,

    /// Address and port for metrics, /healthz and /readyz, or `none`
    #[arg(
        long,
        env = "BULKHEAD_METRICS",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:9469"
    )]
    pub metrics: Listen,

    /// The Unix socket of the admin API, for root alone
    #[arg(long, env = "BULKHEAD_ADMIN", hide_env_values = true, value_name = "PATH", default_value = DEFAULT_ADMIN)]
    pub admin: PathBuf,

    /// How log lines look
    #[arg(long, env = "BULKHEAD_LOG_FORMAT", hide_env_values = true, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as `info,bulkhead::flow=warn`
    #[arg(long, env = "BULKHEAD_LOG_LEVEL", hide_env_values = true, value_name = "FILTER", default_value = "info")]
    pub log_level: String,

    /// Take everything out of the kernel at a clean stop, instead of leaving it enforced
    #[arg(long, env = "BULKHEAD_DETACH_ON_EXIT", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub detach_on_exit: bool,

    /// Established flows that the flow table holds, beside half as many that are not established yet; the one idle longest
    /// gives way when a table is full
    #[arg(
        long,
        env = "BULKHEAD_MAX_FLOWS",
        hide_env_values = true,
        value_name = "N",
        default_value_t = FLOWS,
        value_parser = clap::value_parser!(u32).range(1_024..=16_777_216)
    )]
    pub max_flows: u32,

    /// How long an idle flow is remembered: NAME=SECONDS, where NAME is tcp-handshake, tcp-established, tcp-closing,
    /// udp-one-way, udp-stream, icmp or other; repeatable
    #[arg(long, env = "BULKHEAD_TIMEOUT", hide_env_values = true, value_name = "NAME=SECONDS", value_delimiter = ',')]
    pub timeout: Vec<Timeout>,

    /// What happens to a TCP segment that opens no connection and belongs to no known flow: judged as if its sender had opened
    /// the connection, or denied for governed workloads
    #[arg(long, env = "BULKHEAD_MIDSTREAM", hide_env_values = true, value_enum, default_value_t)]
    pub midstream: Midstream,

    /// Ports of the host's own traffic that no policy cuts, by who opens the flow: in:tcp/22 for others to this host, out:udp/67
    /// for this host to others, or `none`; repeatable
    #[arg(
        long,
        env = "BULKHEAD_FAILSAFE",
        hide_env_values = true,
        value_name = "in|out:PROTOCOL/PORT",
        value_delimiter = ',',
        default_value = failsafe::DEFAULT
    )]
    pub failsafe: Vec<Failsafe>,

    /// Where it keeps what shall outlive it
    #[command(flatten)]
    pub state: state::StateOptions,

    /// The flow log
    #[command(flatten)]
    pub flow_log: flow_log::FlowLogOptions,
}

impl RunOptions {
    /// The failsafe ports.
    ///
    /// # Errors
    /// `none` beside ports.
    pub fn failsafe_ports(&self) -> Result<Vec<FailsafePort>, Failure> {
        let ports: Vec<FailsafePort> = self
            .failsafe
            .iter()
            .filter_map(|failsafe| if let Failsafe::Port(port) = failsafe { Some(*port) } else { None })
            .collect();
        if !ports.is_empty() && ports.len() < self.failsafe.len() {
            return Err(Failure::message(
                Exit::Usage,
                "--failsafe says both `none` and ports",
                "give either `none` alone or ports",
            ));
        }
        Ok(ports)
    }

    /// What the packet path is told beside the generation, on a kernel with `hz` jiffies a second.
    #[must_use]
    pub fn settings(&self, hz: u32) -> Settings {
        let denies_midstream = u32::from(self.midstream == Midstream::Deny);
        let mut settings = Settings { denies_midstream, ..Settings::defaults(hz) };
        for timeout in &self.timeout {
            *timeout.flows.of(&mut settings) = timeout.seconds.saturating_mul(hz);
        }
        settings
    }

    /// Which interfaces get the XDP program.
    ///
    /// # Errors
    /// `none` beside names of interfaces.
    pub fn uplinks(&self) -> Result<Uplinks, Failure> {
        match self.uplink.as_slice() {
            [] => Ok(Uplinks::DefaultRoutes),
            [only] if only == "none" => Ok(Uplinks::None),
            names if names.iter().any(|name| name == "none") => Err(Failure::message(
                Exit::Usage,
                format!("--uplink says both `none` and interfaces: {}", names.join(", ")),
                "give either `none` alone or names of interfaces",
            )),
            names => Ok(Uplinks::Named(names.to_vec())),
        }
    }
}

/// The name of a namespace: a DNS label (RFC 1123).
fn namespace(text: &str) -> Result<String, String> {
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if (1..=63).contains(&text.len()) && text.chars().all(is_name) && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("write the name of a namespace: up to 63 of a-z, 0-9 and `-`, such as bulkhead-system".to_owned())
}

/// How long an idle flow is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// Which flows.
    pub flows: TimeoutName,
    /// How long, in seconds; at most a week.
    pub seconds: u32,
}

/// The longest time-out, in seconds: a week.
const LONGEST: u32 = 604_800;

/// Flows that have a time-out of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimeoutName {
    /// TCP that is not answered.
    TcpHandshake,
    /// TCP that is.
    TcpEstablished,
    /// TCP after FIN or RST.
    TcpClosing,
    /// UDP that is not answered.
    UdpOneWay,
    /// UDP that is.
    UdpStream,
    /// ICMP and ICMPv6.
    Icmp,
    /// Every other protocol.
    Other,
}

impl TimeoutName {
    const fn of(self, settings: &mut Settings) -> &mut u32 {
        match self {
            Self::TcpHandshake => &mut settings.tcp_embryonic,
            Self::TcpEstablished => &mut settings.tcp_established,
            Self::TcpClosing => &mut settings.tcp_closing,
            Self::UdpOneWay => &mut settings.udp_one_way,
            Self::UdpStream => &mut settings.udp_stream,
            Self::Icmp => &mut settings.icmp,
            Self::Other => &mut settings.other,
        }
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, seconds) = text.split_once('=').ok_or("write NAME=SECONDS, such as tcp-established=350")?;
        let flows = TimeoutName::from_str(name, false).map_err(|_| {
            let names = TimeoutName::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
            format!("there is no time-out `{name}`; write one of {}", names.join(", "))
        })?;
        let seconds = seconds.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
        let seconds = seconds.ok_or_else(|| format!("write whole seconds from 1 to {LONGEST} after `{name}=`"))?;
        Ok(Self { flows, seconds })
    }
}

/// What happens to TCP segments in the middle of a connection that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Midstream {
    /// Judged as if their sender had opened the connection.
    #[default]
    Allow,
    /// Denied for governed workloads.
    Deny,
}

/// Which interfaces get the XDP program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplinks {
    /// Those of the default routes.
    DefaultRoutes,
    /// None.
    None,
    /// These.
    Named(Vec<String>),
}

/// A part of the cgroup tree whose units and slices become workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedScope {
    /// Path below the cgroup root, without slashes at the ends.
    pub path: String,
    /// Whether a cgroup below it that is not identified yet is denied.
    pub denies: bool,
}

impl FromStr for ManagedScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, denies) = match text.rsplit_once('=') {
            Some((path, "deny")) => (path, true),
            Some((path, "allow")) => (path, false),
            Some((_, other)) => return Err(format!("`{other}` is neither `deny` nor `allow`")),
            None => (text, true),
        };
        let path = path.trim_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(
                "write the path of a cgroup below the cgroup root, such as system.slice or kubepods.slice".into()
            );
        }
        Ok(Self { path: path.to_owned(), denies })
    }
}

/// The socket of a running agent, for the commands that ask it.
#[derive(Args, Clone, Debug)]
pub struct AdminOptions {
    /// The agent's Unix socket
    #[arg(long, env = "BULKHEAD_ADMIN", hide_env_values = true, value_name = "PATH", default_value = DEFAULT_ADMIN)]
    pub admin: PathBuf,
}

/// An address to listen at, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            "write an IP address and a port, such as 127.0.0.1:9469 or [::]:9469, or `none` for no listener".to_owned()
        })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        run: RunOptions,
    }

    fn parse(arguments: &[&str]) -> Result<RunOptions, clap::Error> {
        Command::try_parse_from([&["bulkhead"], arguments].concat()).map(|command| command.run)
    }

    #[test]
    fn every_option_has_an_environment_variable() {
        let command = <Command as clap::CommandFactory>::command();
        for option in command.get_arguments() {
            let variable = format!("BULKHEAD_{}", option.get_id().as_str().to_uppercase());
            assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
        }
    }

    #[test]
    fn without_options_everything_has_a_default() {
        let options = parse(&[]).expect("no option is required");
        assert_eq!(options.policies, [PathBuf::from("/etc/bulkhead/policies")]);
        assert_eq!(options.managed_scope, ["system.slice=allow".parse().expect("a scope")]);
        assert_eq!(options.uplinks().expect("nothing to contradict"), Uplinks::DefaultRoutes);
        assert_eq!(options.metrics, Listen::At(SocketAddr::from(([127, 0, 0, 1], 9469))));
        assert_eq!(options.max_flows, FLOWS);
        assert!(!options.detach_on_exit);
    }

    #[test]
    fn lists_are_given_by_repetition_or_with_commas() {
        let options = parse(&["--policies", "a,b", "--policies", "c", "--uplink", "eth0,eth1"]).expect("valid");
        assert_eq!(options.policies, ["a", "b", "c"].map(PathBuf::from));
        let named = Uplinks::Named(vec!["eth0".into(), "eth1".into()]);
        assert_eq!(options.uplinks().expect("names alone"), named);
    }

    #[test]
    fn none_switches_uplinks_and_metrics_off_but_not_beside_names() {
        let options = parse(&["--uplink", "none", "--metrics", "none"]).expect("valid");
        assert_eq!(options.uplinks().expect("none alone"), Uplinks::None);
        assert_eq!(options.metrics, Listen::Off);
        let both = parse(&["--uplink", "eth0,none"]).expect("clap sees no contradiction");
        assert_eq!(both.uplinks().expect_err("a contradiction").exit, Exit::Usage);
    }

    #[test]
    fn time_outs_are_set_by_name_in_whole_seconds() {
        let arguments = ["--timeout", "tcp-established=3600,udp-one-way=10", "--midstream", "deny"];
        let settings = parse(&arguments).expect("valid").settings(250);
        let expected =
            Settings { tcp_established: 900_000, udp_one_way: 2_500, denies_midstream: 1, ..Settings::defaults(250) };
        assert_eq!(settings, expected);
        assert_eq!(parse(&[]).expect("valid").settings(250), Settings::defaults(250));
        for wrong in ["tcp=1", "icmp", "icmp=0", "icmp=1.5", "icmp=604801"] {
            let error = parse(&["--timeout", wrong]).expect_err(wrong).to_string();
            assert!(error.contains("write "), "{error}");
        }
    }

    #[test]
    fn no_port_is_failsafe_where_told_so_but_not_beside_ports() {
        let ports = |arguments: &[&str]| parse(arguments).expect("valid").failsafe_ports();
        assert_eq!(ports(&[]).expect("the defaults").len(), failsafe::DEFAULT.split(',').count());
        assert_eq!(ports(&["--failsafe", "none"]).expect("none alone"), []);
        assert_eq!(ports(&["--failsafe", "in:tcp/22", "--failsafe", "out:udp/67"]).expect("two").len(), 2);
        assert_eq!(ports(&["--failsafe", "in:tcp/22,none"]).expect_err("a contradiction").exit, Exit::Usage);
    }

    #[test]
    fn a_scope_denies_the_unidentified_unless_told_otherwise() {
        let scope = |text: &str| text.parse::<ManagedScope>();
        assert_eq!(scope("/kubepods.slice/"), Ok(ManagedScope { path: "kubepods.slice".into(), denies: true }));
        assert_eq!(scope("a/b=allow"), Ok(ManagedScope { path: "a/b".into(), denies: false }));
        assert!(scope("a=maybe").is_err() && scope("/").is_err() && scope("a/../b").is_err());
    }

    #[test]
    fn an_address_without_port_is_refused_with_an_example() {
        let error = parse(&["--metrics", "localhost"]).expect_err("no port").to_string();
        assert!(error.contains("127.0.0.1:9469"), "{error}");
    }
}
