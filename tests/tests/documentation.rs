//! The documentation's commands do what it says they do.

use bulkhead_tests::page;

#[test]
fn the_tutorial_leads_from_nothing_to_a_segmented_host() {
    page::holds("docs/tutorial.md");
}

#[test]
fn a_chain_of_nftables_is_replaced_without_a_gap() {
    page::holds("docs/from-nftables.md");
}

#[test]
fn a_denial_is_debugged() {
    page::holds("docs/debug.md");
}
