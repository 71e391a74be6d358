//! What it says when packets, names or ports go wrong.

use expect_test::expect;

use super::{CHAIN, NAMED, SHOP, check};

#[test]
fn a_filter_at_two_of_three_cache_pods() {
    check(
        SHOP,
        "filter cache-0+cache-1",
        expect![[r#"
            +0.6 s cache network.filter [cache-0 cache-1] via cache → web
            +16.4 s silence
        "#]],
    );
}

#[test]
fn a_filter_at_all_cache_pods() {
    check(
        SHOP,
        "filter cache",
        expect![[r#"
            +0.6 s cache network.filter [cache-0 cache-1 cache-2] via cache → web
            +16.4 s silence
        "#]],
    );
}

#[test]
fn a_filter_that_rejects() {
    check(
        SHOP,
        "reject cache-2",
        expect![[r#"
            +1.0 s cache network.filter [cache-2] via cache → web
            +16.0 s silence
        "#]],
    );
}

#[test]
fn a_filter_that_leaves_no_record() {
    check(
        SHOP,
        "silent cache-0+cache-2",
        expect![[r#"
            +1.4 s cache network.filter [cache-0 cache-2] via cache → web
            +15.8 s silence
        "#]],
    );
}

#[test]
fn a_filter_before_the_database() {
    check(
        CHAIN,
        "filter store",
        expect![[r#"
            +0.6 s store network.filter [store-0] via store → a
            +16.2 s silence
        "#]],
    );
}

#[test]
fn a_filter_in_the_middle_of_a_chain() {
    check(
        CHAIN,
        "filter c",
        expect![[r#"
            +0.6 s c network.filter [c-0] via c → a
            +16.2 s silence
        "#]],
    );
}

#[test]
fn a_wrong_port() {
    check(
        SHOP,
        "port cache",
        expect![[r#"
            +0.4 s cache network.misroute [cache-2] via cache → web
            +1.0 s cache network.misroute [cache-1 cache-2] via cache → web
            +2.6 s cache network.misroute [cache-0 cache-1 cache-2] via cache → web
            +16.4 s silence
        "#]],
    );
}

#[test]
fn a_wrong_port_in_a_chain() {
    check(
        CHAIN,
        "port d",
        expect![[r#"
        +0.4 s d network.misroute [d-0] via d → a
        +16.4 s silence
    "#]],
    );
}

#[test]
fn lossy_cache_pods() {
    check(
        SHOP,
        "loss cache 0.2",
        expect![[r#"
            +1.0 s cache network.loss [cache-0 cache-1 cache-2] via cache → web
            +16.8 s cache network.loss [cache-0 cache-1] via cache → web
            +17.0 s cache network.loss [cache-0 cache-1 cache-2] via cache → web
            +18.8 s silence
        "#]],
    );
}

#[test]
fn a_lossy_web_pod() {
    check(
        SHOP,
        "loss web-0 0.15",
        expect![[r#"
            +1.8 s web network.loss [web-0] via web
            +18.4 s silence
        "#]],
    );
}

#[test]
fn slow_links_to_the_cache() {
    check(
        SHOP,
        "delay cache 30",
        expect![[r#"
            +1.2 s cache network.delay [cache-0 cache-1 cache-2] via cache → web
            +16.2 s silence
        "#]],
    );
}

#[test]
fn slow_links_to_one_web_pod() {
    check(
        SHOP,
        "delay web-1 30",
        expect![[r#"
            +1.2 s web network.delay [web-1] via web
            +16.4 s silence
        "#]],
    );
}

#[test]
fn a_slow_link_in_a_chain() {
    check(
        CHAIN,
        "delay c 30",
        expect![[r#"
        +1.2 s c network.delay [c-0] via c → a
        +16.0 s silence
    "#]],
    );
}

#[test]
fn a_link_that_is_down() {
    check(
        SHOP,
        "down cache-1",
        expect![[r#"
            +0.8 s cache network.down [cache-1] via cache → web
            +16.2 s silence
        "#]],
    );
}

#[test]
fn a_link_that_is_down_in_a_chain() {
    check(
        CHAIN,
        "down d",
        expect![[r#"
            +0.8 s d network.down [d-0] via d → a
            +16.2 s silence
        "#]],
    );
}

#[test]
fn large_answers_that_do_not_pass() {
    check(
        CHAIN,
        "mtu store 0.4",
        expect![[r#"
        +1.0 s store network.mtu [store-0] via store → a
        +16.8 s silence
    "#]],
    );
}

#[test]
fn names_that_nobody_answers() {
    check(
        NAMED,
        "nodns dns",
        expect![[r#"
        +2.2 s dns dns.failure [dns-0] via dns → web
        +15.8 s silence
    "#]],
    );
}

#[test]
fn names_that_come_late() {
    check(
        NAMED,
        "slowdns dns 200",
        expect![[r#"
            +2.4 s dns dns.delay [dns-0] via dns → web
            +16.4 s silence
        "#]],
    );
}

/// Look-ups fail, and it is their client's network.
#[test]
fn loss_at_all_who_ask_for_names() {
    check(
        NAMED,
        "loss web 0.3",
        expect![[r#"
        +1.2 s web network.loss [web-0 web-1] via web
        +18.4 s silence
    "#]],
    );
}
