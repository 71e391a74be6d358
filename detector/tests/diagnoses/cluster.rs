//! What it says when a cluster's objects and nodes are wrong: addresses that lead nowhere, pods that are gone, nodes that fail.

use expect_test::expect;

use super::{CHAIN, NAMED, SHOP, check};

#[test]
fn an_address_that_selects_no_pod() {
    check(
        SHOP,
        "unselect cache",
        expect![[r#"
        +0.4 s cache network.misroute [cache-0 cache-1 cache-2] via cache → web
        +15.8 s silence
    "#]],
    );
}

#[test]
fn a_service_without_pods() {
    check(
        SHOP,
        "scale db",
        expect![[r#"
        +2.0 s db process.crash [] via db → web
        +15.8 s silence
    "#]],
    );
}

#[test]
fn a_service_without_pods_in_a_chain() {
    check(
        CHAIN,
        "scale d",
        expect![[r#"
        +0.4 s d process.crash [] via d → a
        +15.8 s silence
    "#]],
    );
}

#[test]
fn name_servers_that_are_gone() {
    check(
        NAMED,
        "scale dns",
        expect![[r#"
            +1.8 s dns dns.failure [] via dns → web
            +15.8 s silence
        "#]],
    );
}

/// The database and a cache are on it; one finding explains both.
#[test]
fn a_node_that_stands_still() {
    check(
        SHOP,
        "freeze node-2",
        expect![[r#"
        +1.0 s node node-2 process.hang [cache-0 db-0] via cache → web
        +15.8 s silence
    "#]],
    );
}

/// Two services hang, and their nodes work.
#[test]
fn pods_of_one_node_that_hang_while_it_works() {
    check(
        SHOP,
        "pause cache-0+db-0",
        expect![[r#"
        +1.0 s cache process.hang [cache-0] via cache → web
        +15.2 s db process.hang [db-0] via db → web
        +16.0 s silence
    "#]],
    );
}

#[test]
fn a_node_that_is_cut_off() {
    check(
        SHOP,
        "cut node-2",
        expect![[r#"
            +0.6 s node node-2 network.filter [cache-0 db-0] via cache → web
            +15.6 s db network.filter [db-0] via db → web
            +16.8 s silence
        "#]],
    );
}
