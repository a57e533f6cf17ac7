//! Every kind of bad document: where the problem is, what it says, and the cure.

use super::*;

/// A problem that is expected: line, column, words of the message, words of the cure.
type Expected<'a> = (usize, usize, &'a str, &'a str);

/// Compares all problems of a text with what is expected, in order.
fn check(text: &str, expected: &[Expected<'_>]) {
    let problems = match validate(&[file("test.yaml", text)]) {
        Ok(policy) => panic!("{text}\nis taken as {policy:?}"),
        Err(problems) => problems,
    };
    let seen = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(problems.len(), expected.len(), "{text}\nhas these problems:\n{seen}");
    for (problem, (line, column, message, cure)) in problems.iter().zip(expected) {
        assert_eq!(problem.origin, Some(origin(*line, *column)), "{text}\nhas these problems:\n{seen}");
        assert!(problem.message.contains(message), "{text}\n{message:?} is not in {problem}");
        assert!(problem.cure.contains(cure), "{text}\n{cure:?} is not in {problem}");
    }
}

#[test]
fn yaml_that_is_none_is_refused_where_it_breaks() {
    check("a: [1", &[(2, 1, "not valid YAML", "mend the YAML")]);
    check("a: 1\n b: 2\n", &[(2, 3, "not valid YAML", "mend the YAML")]);
    check("a: \"x\n", &[(1, 4, "not valid YAML", "mend the YAML")]);
    check("- a\n", &[(1, 1, "must be a mapping", "apiVersion: bulkhead.dev/v1alpha1")]);
    check("hello", &[(1, 1, "must be a mapping", "apiVersion")]);
    check("a: *nothing\n", &[(1, 4, "not valid YAML", "mend the YAML")]);
    check("a: !!binary aGk=\n", &[(1, 13, "a YAML tag", "`!`")]);
}

#[test]
fn documents_that_would_fill_the_memory_are_refused() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let before = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
    }
    let problems = validate(&[file("test.yaml", &laughs)]).expect_err("a bomb");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("aliases repeat"), "{}", problems[0]);

    check(&"[".repeat(100), &[(1, 33, "32 levels deep", "docs/policy.md")]);
    check(&"- ".repeat(100_000), &[(1, 65, "32 levels deep", "docs/policy.md")]);
    check(&"[".repeat(100_000), &[(1, 256, "recursion limit", "mend the YAML")]);
    check("a: &a [*a]\n", &[(1, 8, "not complete", "write out")]);
    let wide = "- x\n".repeat(300_000);
    check(&wide, &[(250_000, 3, "250000 values", "several files")]);
}

#[test]
fn the_outer_shape_is_checked_field_by_field() {
    check(
        "{}",
        &[(1, 1, "no `apiVersion`", "add `apiVersion: bulkhead.dev/v1alpha1`"), (1, 1, "no `kind`", "`SecurityGroup`")],
    );
    check(
        "apiVersion: v1\nkind: SecurityGroup\n",
        &[
            (1, 1, "no `metadata`", "metadata: {name: NAME}"),
            (1, 1, "no `spec`", "add `spec`"),
            (1, 13, "`v1` is no version", "write `bulkhead.dev/v1alpha1`"),
        ],
    );
    check(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurtyGroup\n",
        &[(2, 7, "`SecurtyGroup` is no kind", "did you mean `SecurityGroup`?")],
    );
    check(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Deployment\n",
        &[(2, 7, "no kind", "`SecurityGroup`, `Guardrail`, `AddressGroup`, `Workload` or `NetworkPolicy`")],
    );
    check(
        &(group("selector: {}") + "status: {}\nmetdata: {}\n"),
        &[
            (6, 1, "`status` is no field of this kind of document", "`apiVersion`, `kind`, `metadata` and `spec`"),
            (7, 1, "`metdata` is no field", "did you mean `metadata`?"),
        ],
    );
    check(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: AddressGroup\nmetadata:\n  names: a\nspec: {}\n",
        &[
            (4, 3, "`names` is no field of `metadata`", "did you mean `name`?"),
            (4, 3, "`metadata` has no `name`", "add `name: NAME`"),
            (5, 7, "no `cidrs`", "add `cidrs"),
        ],
    );
}

#[test]
fn a_wrong_type_is_told_with_what_to_write() {
    for (spec, expected) in [
        ("selector: web", (5, 13, "`selector` must be a mapping, not the text `web`", "between { and }")),
        ("selector: {}\nid: '100'", (6, 7, "`id` must be a whole number, not the text `100`", "without quotes: 100")),
        ("selector: {}\nid: many", (6, 7, "`id` must be a whole number, not the text `many`", "write a whole number")),
        ("selector: {}\nid: 1.5", (6, 7, "not the number 1.5", "write a whole number")),
        ("selector: {}\nid: 99999999999999999999", (6, 7, "far out of range", "smaller")),
        ("selector: {}\ningress: yes", (6, 12, "`ingress` must be a list, not the text `yes`", "between [ and ]")),
        ("selector: {}\ningress: {from: []}", (6, 12, "`ingress` must be a list, not a mapping", "after `- `")),
        ("selector: {}\ningress: [world]", (6, 13, "each entry of `ingress` must be a mapping", "between { and }")),
        ("selector: {}\negress:", (6, 3, "`egress` has no value", "leave the field out")),
        ("selector: {}\negress: ~", (6, 3, "`egress` has no value", "leave the field out")),
        ("selector: {}\ndescription: 5", (6, 16, "`description` must be text, not the number 5", "in quotes: \"5\"")),
        ("selector: {matchLabels: {on: true}}", (5, 32, "`on` must be text, not `true`", "in quotes: \"true\"")),
        ("selector: {matchLabels: {7: x}}", (5, 28, "each key of `matchLabels` must be text", "in quotes: \"7\"")),
        (
            "selector: {}\nmode: Audit",
            (6, 9, "`mode` must be `enforce` or `audit`, not `Audit`", "did you mean `audit`?"),
        ),
        ("selector: {}\nmode: off", (6, 9, "not `off`", "write `enforce` or `audit`")),
        ("selector: {}\nestablished: kept", (6, 16, "`revoke` or `keep`", "write `revoke` or `keep`")),
        ("selector: {}\nmode: [audit]", (6, 9, "`mode` must be `enforce` or `audit`, not a list", "alone")),
        ("selector: {[a]: b}", (5, 14, "can't be the name of a field", "a word")),
    ] {
        check(&group(spec), &[expected]);
    }
}

#[test]
fn unknown_and_doubled_fields_are_named() {
    for (spec, expected) in [
        ("selector: {}\ningres: []", (6, 3, "`ingres` is no field of `spec`", "did you mean `ingress`?")),
        ("selector: {}\nports: []", (6, 3, "`ports` is no field", "its fields are `id`, `description`")),
        ("selector: {}\nselector: {}", (6, 3, "`selector` is given twice: here and on line 5", "keep one")),
        ("selector: {matchLabels: {a: b, a: c}}", (5, 34, "`a` is given twice", "keep one")),
        ("selector: {}\n<<: {mode: audit}", (6, 3, "`<<` is no field", "merge keys are not supported")),
        (
            "selector: {}\ningress: [{from: [{entity: host}], to: []}]",
            (6, 38, "`to` is no field of an entry of `ingress`", "an ingress rule says `from`"),
        ),
        ("selector: {}\negress: [{to: [{entity: host}], from: []}]", (6, 35, "`from` is no field", "says `to`")),
        ("selector: {}\negress: [{to: [{ip: 10.0.0.1}]}]", (6, 18, "names nobody", "{cidr: PREFIX}")),
    ] {
        let text = group(spec);
        if spec.contains("ip:") {
            let field = (6, 19, "`ip` is no field of an entry of `to`", "`group`, `cidr`, `addresses` and `entity`");
            check(&text, &[expected, field]);
        } else {
            check(&text, &[expected]);
        }
    }
}

#[test]
fn names_and_labels_follow_kubernetes() {
    check(&group("selector: {}").replace("web", "Web_1"), &[(3, 18, "`Web_1` is no name", "write `web-1`")]);
    check(&group("selector: {}").replace("web", "7"), &[(3, 18, "`name` must be text", "in quotes: \"7\"")]);
    check(&group("selector: {}").replace("web", "''"), &[(3, 18, "the name is empty", "such as `web`")]);
    check(
        &group("selector: {}").replace("name: web", "name: web, labels: {-a: b, a: 'b c', ok: d}"),
        &[(3, 32, "`-a` is no key", "letters and digits"), (3, 42, "`b c` is no value", "letters and digits")],
    );
    for (spec, expected) in [
        ("selector: {matchLabels: {a: b c}}", (5, 31, "`b c` is a value that no label has", "letters")),
        ("selector: {matchExpressions: [{operator: Exists}]}", (5, 33, "no `key`", "add the label")),
        ("selector: {matchExpressions: [{key: a}]}", (5, 33, "no `operator`", "`DoesNotExist`")),
        ("selector: {matchExpressions: [{key: a b, operator: Exists}]}", (5, 39, "`a b` is no key", "letters")),
        (
            "selector: {matchExpressions: [{key: a, operator: in, values: [b]}]}",
            (5, 52, "not `in`", "did you mean `In`?"),
        ),
        ("selector: {matchExpressions: [{key: a, operator: In}]}", (5, 33, "`In` needs values", "add `values`")),
        (
            "selector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}",
            (5, 67, "`NotIn` needs values", "add"),
        ),
        (
            "selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
            (5, 68, "takes no values", "remove"),
        ),
        ("selector: {matchExpressions: [{key: a, operator: In, values: [b c]}]}", (5, 65, "`b c`", "letters")),
        ("mode: audit", (5, 3, "no `selector`", "`selector: {}` for every workload")),
    ] {
        check(&group(spec), &[expected]);
    }
}

#[test]
fn ports_are_checked_against_their_protocol() {
    for (entry, (column, message, cure)) in [
        ("{protocol: tcp, port: 0}", (22, "`port` 0 is out of range", "from 1 to 65535, or leave `port` out")),
        ("{protocol: tcp, port: 65536}", (22, "`port` 65536 is out of range", "1 to 65535")),
        ("{protocol: tcp, port: -1}", (22, "`port` -1", "1 to 65535")),
        ("{protocol: tcp, port: http}", (22, "`port` must be a whole number, not the text `http`", "whole number")),
        (
            "{protocol: tcp, port: 2, endPort: 1}",
            (34, "ends at 1, before it begins at 2", "`port: 1` and `endPort: 2`"),
        ),
        ("{protocol: tcp, endPort: 9}", (25, "`endPort` without `port`", "`port: 9` alone")),
        ("{protocol: tcp, port: 1, endPort: 65536}", (34, "`endPort` 65536", "1 to 65535")),
        ("{protocol: tcp, type: 8}", (22, "`tcp` has no `type`", "has `port` and `endPort`")),
        ("{protocol: icmp, port: 8}", (23, "`icmp` has no `port`", "has `type` and `code`")),
        ("{protocol: icmp, type: 256}", (23, "`type` 256", "0 to 255")),
        ("{protocol: icmp, type: 3, code: 256}", (32, "`code` 256", "0 to 255")),
        ("{protocol: icmp, code: 0}", (23, "`code` without `type`", "add the `type`")),
        ("{protocol: 6, port: 443}", (20, "by number has no `port`", "write `protocol: tcp`")),
        ("{protocol: 47, code: 1}", (21, "by number has no `code`", "all of protocol 47")),
        ("{protocol: 256}", (11, "256 is no IP protocol", "0 to 255")),
        ("{protocol: TCP}", (11, "`TCP` is no protocol", "did you mean `tcp`?")),
        ("{protocol: gre}", (11, "`gre` is no protocol", "the protocol's number")),
        ("{protocol: '47'}", (11, "`47` is no protocol", "without quotes: 47")),
        ("{protocol: true}", (11, "`protocol` must be a name or a number, not `true`", "a name or a number")),
        ("{port: 443}", (0, "no `protocol`", "add `protocol: tcp`")),
        ("{protocol: tcp, ports: 1}", (16, "`ports` is no field of an entry of `ports`", "did you mean `port`?")),
    ] {
        let spec = format!("selector: {{}}\ningress:\n  - from: [{{entity: world}}]\n    ports: [{entry}]");
        check(&group(&spec), &[(8, 15 + column, message, cure)]);
    }
    let empty = "selector: {}\ningress: [{from: [{entity: world}], ports: []}]";
    check(&group(empty), &[(6, 46, "`ports` is empty", "leave `ports` out")]);
}

#[test]
fn peers_are_one_thing_each_and_exist() {
    for (entry, (column, message, cure)) in [
        ("{cidr: 10.0.0.5/24}", (7, "`10.0.0.5/24` has bits set", "`10.0.0.0/24` for the network, or `10.0.0.5/32`")),
        ("{cidr: '2001:db8::1/64'}", (7, "has bits set", "`2001:db8::/64` for the network, or `2001:db8::1/128`")),
        ("{cidr: 10.0.0.5}", (7, "without prefix length", "write `10.0.0.5/32`")),
        ("{cidr: 10.0.0.0/33}", (7, "`10.0.0.0/33` is no CIDR", "from 0 to 32")),
        ("{cidr: '::/129'}", (7, "is no CIDR", "from 0 to 128")),
        ("{cidr: 10.0/8}", (7, "is no CIDR", "written in full")),
        ("{cidr: example.com}", (7, "is no CIDR", "names are not looked up")),
        ("{cidr: '::ffff:10.0.0.0/104'}", (7, "IPv6's clothes", "write `10.0.0.0/8`")),
        ("{group: 0}", (8, "0 is no group's ID", "from 1 to")),
        ("{group: 4294967296}", (8, "no group's ID", "from 1 to 4294967295")),
        ("{group: wep}", (8, "no SecurityGroup is named `wep`", "did you mean `web`?")),
        ("{group: payments}", (8, "no SecurityGroup is named `payments`", "or name it by its ID")),
        ("{group: '100'}", (8, "no SecurityGroup is named `100`", "100 without quotes")),
        ("{addresses: offices}", (12, "no AddressGroup is named `offices`", "define it")),
        ("{addresses: web}", (12, "no AddressGroup is named `web`", "write `{group: web}`")),
        (
            "{entity: word}",
            (9, "`entity` must be `world`, `host` or `remote-host`, not `word`", "did you mean `world`?"),
        ),
        ("{}", (0, "this entry of `from` names nobody", "{group: NAME}")),
        ("{group: web, entity: host}", (21, "both `group` and `entity`", "two entries")),
    ] {
        let spec = format!("selector: {{}}\ningress:\n  - description: x\n    from: [{entry}]");
        check(&group(&spec), &[(8, 14 + column, message, cure)]);
    }
    let anyone = "[{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]";
    check(&group("selector: {}\ningress: [{}]"), &[(6, 13, "no `from`", anyone)]);
    check(&group("selector: {}\negress: [{to: []}]"), &[(6, 17, "`to` is empty", anyone)]);
}

#[test]
fn guardrails_deny_something() {
    for (spec, expected) in [
        ("description: x", (5, 3, "no `deny`", "add at least one entry")),
        ("deny: []", (5, 9, "`deny` is empty", "add at least one entry")),
        ("deny: [{}]", (5, 10, "would deny everything", "`from`, `to` or `ports`")),
        ("deny: [{from: []}]", (5, 17, "`from` is empty", "leave `from` out for anyone")),
        ("deny: [{to: [{group: nobody}]}]", (5, 24, "no SecurityGroup is named `nobody`", "by its ID")),
        ("deny: [{to: [{group: 0}]}]", (5, 24, "no group's ID", "from 1 to")),
        ("deny: [{to: [{cidr: 10.0.0.1/8}]}]", (5, 23, "bits set", "`10.0.0.0/8`")),
        ("deny: [{ports: [{protocol: tcp, port: 0}]}]", (5, 41, "out of range", "1 to 65535")),
        (
            "deny: [{form: [{entity: world}], ports: [{protocol: udp}]}]",
            (5, 11, "`form` is no field", "did you mean `from`?"),
        ),
        ("allow: []\ndeny: [{ports: [{protocol: udp}]}]", (5, 3, "`allow` is no field", "`description` and `deny`")),
    ] {
        check(&document("Guardrail", spec), &[expected]);
    }
    let twice = document("Guardrail", "deny: [{to: [{entity: host}]}]");
    check(&format!("{twice}---\n{twice}"), &[(9, 18, "Guardrail `web` is defined twice", "rename")]);
    // Kinds have names of their own.
    good(&format!("{twice}---\n{}", group("selector: {}")));
}

#[test]
fn groups_share_neither_name_nor_id() {
    let two = |first: &str, second: &str| format!("{}---\n{}", group(first), group(second).replace("web", "api"));
    check(
        &format!("{0}---\n{0}", group("selector: {}")),
        &[(9, 18, "SecurityGroup `web` is defined twice: here and at test.yaml:3:18", "rename")],
    );
    check(
        &two("selector: {}\nid: 7", "selector: {}\nid: 7"),
        &[(13, 7, "ID 7 is given twice: here to `api` and at test.yaml:6:7 to `web`", "another `id`")],
    );
    check(&group("selector: {}\nid: 0"), &[(6, 7, "ID 0 stands for no group", "derived from the name")]);
    check(&group("selector: {}\nid: -3"), &[(6, 7, "ID -3 is out of range", "1 to 2147483647")]);
    check(&group("selector: {}\nid: 2147483648"), &[(6, 7, "out of range", "derived from names")]);
    let addresses = document("AddressGroup", "cidrs: [10.0.0.0/8]");
    check(&format!("{addresses}---\n{addresses}"), &[(9, 18, "AddressGroup `web` is defined twice", "rename")]);
    check(&document("AddressGroup", "cidrs: []"), &[(5, 10, "`cidrs` is empty", "at least one")]);
    check(&document("AddressGroup", "cidrs: [10.0.0.1/8]"), &[(5, 11, "bits set", "10.0.0.0/8")]);
}

#[test]
fn workloads_say_where_they_are() {
    for (spec, (column, message, cure)) in [
        ("{}", (0, "can't be told from others", "`cgroup` or `interface`")),
        ("{cgroup: /shop/web}", (9, "not one below the cgroup root", "write `shop/web`")),
        ("{cgroup: shop//web/}", (9, "not one below", "write `shop/web`")),
        ("{cgroup: /sys/fs/cgroup/unified/shop/web}", (9, "not one below", "write `shop/web`")),
        ("{cgroup: shop/../../etc}", (9, "leads upwards", "without `..`")),
        ("{cgroup: /}", (9, "no path of a cgroup", "such as shop/web-1")),
        ("{cgroup: ''}", (9, "no path of a cgroup", "such as shop/web-1")),
        ("{interface: a234567890123456}", (12, "has 16 bytes", "15 at most")),
        ("{interface: ääääääää}", (12, "has 16 bytes", "15 at most")),
        ("{interface: 'eth0:1'}", (12, "`eth0:1` is no name of an interface", "ip link")),
        ("{interface: ..}", (12, "no name of an interface", "ip link")),
        ("{interface: ''}", (12, "no name of an interface", "ip link")),
        ("{addresses: []}", (12, "`addresses` is empty", "at least one")),
        ("{addresses: 10.0.0.1}", (12, "`addresses` must be a list", "between [ and ]")),
        ("{addresses: [10.0.0.1/32]}", (13, "is no address", "write `10.0.0.1`")),
        ("{addresses: [10.0.0.256]}", (13, "is no address", "10.0.0.10 or fd00::10")),
        ("{addresses: ['::ffff:10.0.0.1']}", (13, "IPv6's clothes", "write `10.0.0.1`")),
        ("{addresses: [0.0.0.0]}", (13, "stands for no address", "alone has")),
        ("{addresses: ['ff02::1']}", (13, "multicast", "alone has")),
        ("{addresses: [127.0.0.1]}", (13, "loopback", "alone has")),
        ("{addresses: [255.255.255.255]}", (13, "broadcast", "alone has")),
        ("{addresses: [10.0.0.1, 10.0.0.1]}", (23, "listed twice", "keep one")),
    ] {
        let text = document("Workload", "").replace("spec:\n", &format!("spec: {spec}\n"));
        check(&text, &[(4, 7 + column, message, cure)]);
    }
    let two = |first: &str, second: &str| {
        let second = document("Workload", second).replace("web}", "api}");
        format!("{}---\n{second}", document("Workload", first))
    };
    check(
        &two("cgroup: shop/web", "cgroup: shop/web"),
        &[(
            11,
            11,
            "cgroup `shop/web` is claimed twice: here by `api` and at test.yaml:5:11 by `web`",
            "its own cgroup",
        )],
    );
    check(&two("interface: veth0", "interface: veth0"), &[(11, 14, "interface `veth0` is claimed twice", "its own")]);
    let same = document("Workload", "addresses: [10.0.0.1]");
    check(&format!("{same}---\n{same}"), &[(9, 18, "Workload `web` is defined twice", "rename")]);
}

#[test]
fn what_a_file_says_reaches_neither_terminal_nor_log_as_control_characters() {
    let text = group("selector: {}\nmode: \"\\e[2J\\n\"").replace("name: web", "name: \"\\e[31m\"");
    let problems = validate(&[file("test.yaml", &text)]).expect_err("no name");
    assert_eq!(problems.len(), 2);
    for problem in problems {
        assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
        assert!(problem.message.contains('\u{fffd}'), "{problem:?}");
    }
}

#[test]
fn all_problems_of_all_files_are_listed_at_once() {
    let one = group("selector: {}\nid: 0\nmode: of\ningress: [{from: [{group: nobody}, {cidr: 10.0.0.1/8}]}]");
    let other = document("Workload", "cgroup: /x\naddresses: [y]\nz: 1");
    let problems = validate(&[file("b.yaml", &other), file("a.yaml", &one)]).expect_err("much is wrong");
    let places: Vec<String> =
        problems.iter().map(|problem| problem.origin.as_ref().expect("in a file").to_string()).collect();
    let expected =
        ["a.yaml:6:7", "a.yaml:7:9", "a.yaml:8:29", "a.yaml:8:45", "b.yaml:5:11", "b.yaml:6:15", "b.yaml:7:3"];
    assert_eq!(places, expected);
}

#[test]
fn a_name_is_not_missed_that_may_stand_in_what_could_not_be_read() {
    let rule = group("selector: {}\ningress: [{from: [{group: api}, {addresses: offices}]}]");
    let problems = validate(&[file("a.yaml", &rule), file("b.yaml", "a: [")]).expect_err("no YAML");
    assert_eq!(problems.len(), 1, "{problems:?}");
    // A group that is wrong is still there.
    let problems = validate(&[file("a.yaml", &group("selector: {}\nid: 0\ningress: [{from: [{group: web}]}]"))]);
    assert_eq!(problems.expect_err("ID 0").len(), 1);
}
