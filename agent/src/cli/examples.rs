//! Examples of every subcommand, which stand at the end of its `--help` and in its man page. The tests parse each of them.

/// The words of a subcommand, joined by `-`; then its examples: what to type, and what for.
type Of = (&'static str, &'static [(&'static str, &'static str)]);

const EXAMPLES: [Of; 18] = [
    (
        "run",
        &[
            ("bulkhead run --policies /etc/bulkhead/policies", "enforce these files, and follow their changes"),
            ("bulkhead run --policies policies --uplink none --flow-log /var/log/flows.json", "log every flow"),
            (
                "bulkhead run --policies policies --managed-scope kubepods.slice --kubernetes",
                "pods, from the Kubernetes API",
            ),
        ],
    ),
    (
        "check",
        &[
            ("bulkhead check policies/", "is the policy right? Exit code 1, and each place, where it is not"),
            ("bulkhead check --json web.yaml db.yaml | jq '.problems[]'", "the same, for a program"),
        ],
    ),
    (
        "status",
        &[
            ("bulkhead status", "what is enforced, and what deserves attention; exit code 1 where it does not enforce"),
            ("bulkhead status --json | jq .warnings", "for a script"),
        ],
    ),
    ("workloads", &[("bulkhead workloads", "who is known, with labels, groups and addresses")]),
    (
        "groups",
        &[
            ("bulkhead groups", "security groups and guardrails, with their members"),
            ("bulkhead groups --rules", "their rules, with how often each decided"),
        ],
    ),
    (
        "flows",
        &[
            ("bulkhead flows --follow --verdict deny", "denials as they happen"),
            ("bulkhead flows --since 10m --group db --json", "the last ten minutes of a group, for a program"),
            ("bulkhead flows --file flows.json.1.gz --rule db/ingress/0", "what one rule decided, out of a flow log"),
        ],
    ),
    (
        "explain",
        &[
            ("bulkhead explain --from app=web --to app=db --port tcp/5432", "what becomes of it, and why"),
            (
                "bulkhead explain --from web-1 --to 192.0.2.7 --port udp/53 --expect allow",
                "as a test of a running agent",
            ),
            ("bulkhead explain --policies policies --from app=web --to app=db --port tcp/22", "without an agent"),
        ],
    ),
    (
        "plan",
        &[("bulkhead plan policies.new/", "what these files would change here; exit code 3 where anything would")],
    ),
    (
        "audit",
        &[
            ("bulkhead audit", "what audit mode let pass, with the rule that would allow it"),
            ("bulkhead audit --unused 30d", "rules that nobody has needed for a month"),
        ],
    ),
    (
        "suggest",
        &[
            ("bulkhead suggest > suggested.yaml", "groups and rules for what was seen, in audit at first"),
            ("bulkhead suggest --flow-log flows.json --ingress-only", "out of a flow log, what comes in alone"),
        ],
    ),
    ("trail", &[("bulkhead trail show", "what happened to policy, workloads and the agent")]),
    (
        "trail-verify",
        &[
            ("bulkhead trail verify", "is it whole? Exit code 1, and each place, where it is not"),
            (
                "bulkhead trail verify --file copy.jsonl --expect HASH",
                "does a copy have the hash that was kept elsewhere?",
            ),
        ],
    ),
    ("trail-show", &[("bulkhead trail show --kind policy --limit 5", "the last five changes of policy")]),
    ("trail-head", &[("bulkhead trail head --json", "the newest hash, to be kept where nobody here can change it")]),
    ("detach", &[("bulkhead detach", "enforce nothing any more, once the agent is stopped")]),
    (
        "schema",
        &[
            ("bulkhead schema > bulkhead.schema.json", "for an editor that completes and checks policies"),
            ("bulkhead schema --crds | kubectl apply -f -", "policies as objects of a cluster"),
            ("bulkhead schema --output status", "what `bulkhead status --json` prints"),
        ],
    ),
    (
        "completions",
        &[
            ("bulkhead completions bash > /etc/bash_completion.d/bulkhead", "from the next shell on"),
            ("bulkhead completions fish > ~/.config/fish/completions/bulkhead.fish", "the same for fish"),
        ],
    ),
    (
        "man",
        &[
            ("bulkhead man flows | man -l -", "one page, read at once"),
            ("bulkhead man --output /usr/local/share/man/man8", "all pages, for `man bulkhead`"),
        ],
    ),
];

/// Each example's text and purpose.
pub(super) fn of(name: &str) -> &'static [(&'static str, &'static str)] {
    EXAMPLES.iter().find(|(of, _)| *of == name).map_or(&[], |(_, examples)| examples)
}

/// Gives each subcommand its examples, as the end of its help. `prefix` is what its name begins with.
pub(super) fn add(command: clap::Command, prefix: &str) -> clap::Command {
    command.mut_subcommands(|sub| {
        let name = format!("{prefix}{}", sub.get_name());
        let lines: Vec<String> = of(&name).iter().map(|(line, what)| format!("  {line}\n      {what}")).collect();
        let sub = if lines.is_empty() { sub } else { sub.after_help(format!("Examples:\n{}", lines.join("\n"))) };
        add(sub, &format!("{name}-"))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    fn names(command: &clap::Command, prefix: &str, found: &mut BTreeSet<String>) {
        for sub in command.get_subcommands() {
            let name = format!("{prefix}{}", sub.get_name());
            names(sub, &format!("{name}-"), found);
            found.insert(name);
        }
    }

    /// The words up to where the shell takes over.
    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().take_while(|word| !matches!(*word, "|" | ">")).collect()
    }

    #[test]
    fn every_subcommand_has_examples_and_they_are_its_own() {
        let mut found = BTreeSet::new();
        names(&Cli::command(), "", &mut found);
        let told: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, told);
        for (name, examples) in EXAMPLES {
            let begins = format!("bulkhead {}", name.replace('-', " "));
            assert!(!examples.is_empty(), "{name}");
            for (line, _) in examples {
                assert!(words(line).join(" ").starts_with(&begins), "{name}: {line}");
            }
        }
    }

    #[test]
    fn every_example_is_one_that_the_command_line_takes() {
        for (line, _) in EXAMPLES.iter().flat_map(|(_, examples)| *examples) {
            Cli::try_parse_from(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(Cli::try_parse_from(words("bulkhead flows --colour | less")).is_err(), "what it does not take shows");
    }

    #[test]
    fn examples_stand_in_the_help() {
        let mut command = add(Cli::command(), "");
        for path in [["trail", "verify"].as_slice(), &["flows"]] {
            let mut sub = &mut command;
            for word in path {
                sub = sub.find_subcommand_mut(word).expect("there is one");
            }
            let help = sub.render_long_help().to_string();
            let (line, what) = of(&path.join("-"))[0];
            assert!(help.contains(line) && help.contains(what), "{help}");
        }
    }
}
