//! The worst day in a short form; the long one is `cargo xtask soak`.

use bulkhead_tests::soak::{Effort, churn, edits, events, floods, full, kills, limits, newcomers, upgrades};

#[test]
fn an_agent_that_is_killed_at_any_moment_opens_nothing_cuts_nothing_and_leaves_nothing_behind() {
    println!("{:#?}", kills::run(Effort::SHORT));
}

#[test]
fn an_upgrade_that_is_interrupted_at_any_moment_opens_nothing_and_cuts_nothing() {
    println!("{:#?}", upgrades::run(Effort::SHORT));
}

#[test]
fn a_program_that_connects_at_once_in_a_fresh_cgroup_gets_where_it_may_and_nowhere_else() {
    println!("{:#?}", newcomers::run(Effort::SHORT));
}

#[test]
fn a_flood_cuts_no_connection_keeps_nobody_out_and_is_told_of() {
    println!("{:#?}", floods::run(Effort::SHORT));
}

#[test]
fn events_that_are_lost_are_counted_and_told_and_no_verdict_changes_for_them() {
    println!("{:#?}", events::run(Effort::SHORT));
}

#[test]
fn a_full_table_opens_nothing_leaves_others_alone_and_heals() {
    println!("{:#?}", full::run(Effort::SHORT));
}

#[test]
fn after_workloads_came_and_went_by_the_thousand_nothing_is_left_of_them() {
    println!("{:#?}", churn::run(Effort::SHORT));
}

#[test]
fn a_directory_that_is_rewritten_without_a_pause_lets_nothing_through_and_ends_with_the_last_good_policy() {
    println!("{:#?}", edits::run(Effort::SHORT));
}

#[test]
fn an_agent_that_lacks_descriptors_memory_disk_or_notices_enforces_on_and_heals() {
    println!("{:#?}", limits::run(Effort::SHORT));
}
