//! Reports from the outside: what `gauntlet report` writes, the shipped schemas, the pages in a real browser, and the
//! script that runs in other people's CI. Needs no privileges.

mod action;
mod browser;
mod commands;
mod fixture;
mod schemas;
mod texts;
