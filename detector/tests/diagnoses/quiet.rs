//! What it says when nothing is wrong, or only load is: nothing, or load.

use expect_test::expect;

use super::{CHAIN, FANOUT, NAMED, SHOP, check};

#[test]
fn a_surge() {
    check(
        SHOP,
        "surge 3",
        expect![[r#"
        +1.0 s web load.surge [web-0 web-1] via web
        +17.2 s silence
    "#]],
    );
}

#[test]
fn a_surge_into_a_chain() {
    check(
        CHAIN,
        "surge 2.5",
        expect![[r#"
            +1.2 s a load.surge [a-0] via a
            +17.0 s silence
        "#]],
    );
}

/// Nobody is kept waiting: who has come is let in before the next look.
#[test]
fn somebody_at_the_door() {
    check(
        NAMED,
        "visit dns 10",
        expect![[r#"
            nothing said
        "#]],
    );
}

#[test]
fn nothing_with_names() {
    check(
        NAMED,
        "none",
        expect![[r#"
        nothing said
    "#]],
    );
}

#[test]
fn nothing() {
    check(
        SHOP,
        "none",
        expect![[r#"
        nothing said
    "#]],
    );
}

#[test]
fn nothing_in_a_chain() {
    check(
        CHAIN,
        "none",
        expect![[r#"
        nothing said
    "#]],
    );
}

#[test]
fn nothing_in_a_fan_out() {
    check(
        FANOUT,
        "none",
        expect![[r#"
        nothing said
    "#]],
    );
}
