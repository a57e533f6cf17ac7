//! What is added up, and what of it is written.

use std::sync::Arc;

use super::super::super::tests::group;
use super::*;

fn in_force(objects: &[&ApiObject]) -> InForce {
    Arc::new(objects.iter().map(|object| Mark::of(&object.name, &object.uid, object.generation)).collect())
}

fn counts(tally: &Tally, objects: &[&ApiObject]) -> Vec<u32> {
    objects.iter().map(|object| tally.count(object).in_force).collect()
}

#[test]
fn nodes_that_differ_count_for_what_they_have_in_force() {
    let [a, b, c] = ["a", "b", "c"].map(|name| group(name, json!({"selector": {}})));
    let mut newer = a.clone();
    newer.generation = 2;
    let said = HashMap::from([
        (lease::text(&in_force(&[&newer, &b])), 4_000),
        // These have not seen the change yet, those refuse `b` and know `c`.
        (lease::text(&in_force(&[&a, &b])), 900),
        (lease::text(&in_force(&[&newer, &c])), 90),
        (String::new(), 10),
    ]);
    let tally = Tally::of(in_force(&[&newer, &b]), &said);
    assert_eq!((tally.nodes, tally.unlike), (5_000, 10));
    assert_eq!(counts(&tally, &[&newer, &a, &b, &c]), [4_090, 900, 4_900, 90]);
    let mut made_anew = b;
    made_anew.uid = "another".to_owned();
    assert_eq!(counts(&tally, &[&made_anew]), [0]);
}

#[test]
fn a_node_that_has_too_many_others_in_force_counts_for_none() {
    let all: Vec<ApiObject> = (0..200).map(|number| group(&format!("g{number}"), json!({"selector": {}}))).collect();
    let all: Vec<&ApiObject> = all.iter().collect();
    let said = HashMap::from([(lease::text(&in_force(&all)), 1), (lease::text(&in_force(&all[..100])), 2)]);
    let tally = Tally::of(in_force(&all), &said);
    assert_eq!((tally.nodes, tally.unlike), (3, 2));
    assert_eq!(counts(&tally, &[all[0], all[199]]), [1, 1]);
}

#[test]
fn a_count_is_written_where_it_says_something() {
    let of = |in_force, nodes| Counted { in_force, nodes };
    for (said, now, expected) in [
        (None, of(0, 3), true),
        (Some(of(3, 3)), of(3, 3), false),
        (Some(of(3, 3)), of(2, 2), true),
        (Some(of(0, 3)), of(1, 3), true),
        // A node more or less among thousands.
        (Some(of(5_000, 5_000)), of(5_001, 5_001), false),
        (Some(of(5_000, 5_000)), of(5_049, 5_049), false),
        (Some(of(5_000, 5_000)), of(5_051, 5_051), true),
        (Some(of(5_000, 5_000)), of(4_999, 5_000), true),
        (Some(of(4_999, 5_000)), of(4_998, 5_000), false),
        (Some(of(4_999, 5_000)), of(5_000, 5_000), true),
        (Some(of(1, 5_000)), of(0, 5_000), true),
    ] {
        assert_eq!(is_news(said, now), expected, "{said:?} {now:?}");
    }
}
