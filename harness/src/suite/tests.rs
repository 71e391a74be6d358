//! Suites, with runs that are made up.

mod files;
mod killed;
mod merging;
mod planning;
mod playing;
mod support;
