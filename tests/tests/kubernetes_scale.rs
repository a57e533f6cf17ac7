//! Thousands of pods that come and go: in the end the kernel's table has those that the API server has, and no other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bulkhead_tests::apiserver::End;
use bulkhead_tests::crowd::{Crowd, Table};
use bulkhead_tests::lab::Agent;

const PODS: usize = 4_000;
const NODES: usize = 200;
/// Pods that come each second, while as many go.
const A_SECOND: u32 = 400;
const CHURN: Duration = Duration::from_secs(2);

/// Waits until the table has exactly the addresses of the server's pods.
fn agree(crowd: &Crowd, agent: &Agent, table: &Table) {
    let there: BTreeSet<IpAddr> = crowd.addresses().collect();
    agent.eventually("the table has the addresses of all pods and no other", || {
        (table.addresses() == there).then_some(())
    });
    assert_eq!(there.len(), PODS, "as many went as came");
}

#[test]
fn after_thousands_of_changes_the_table_has_the_servers_pods_and_no_other() {
    let mut crowd = Crowd::new(PODS, NODES).expect("the lab can be set up");
    let agent = crowd.agent();
    let table = crowd.table();
    agree(&crowd, &agent, &table);
    let first = crowd.addresses().next().expect("there are pods");
    let (turns, last, _) = crowd.churn(A_SECOND, CHURN);
    assert!(turns > 100, "{turns} came");
    agree(&crowd, &agent, &table);
    assert!(table.holds(last) && !table.holds(first), "who came is there, who went is not");

    // Watches end while it goes on, and are resumed from where they were.
    crowd.churn(A_SECOND, CHURN / 4);
    crowd.server.end_watches(End::WithinALine);
    crowd.churn(A_SECOND, CHURN / 4);
    agree(&crowd, &agent, &table);
}
