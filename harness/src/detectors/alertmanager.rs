//! A team's existing alerting as a detector: Alertmanager's webhook, mapped from labels to entity and mechanism.
//!
//! [`Config`] is the mapping, [`board`] the alerts that fire and what they say together (pure), [`receiver`] the HTTP end.

pub mod board;
mod config;
pub mod matcher;
pub mod receiver;
mod template;
pub mod webhook;

pub use self::config::{Blame, Config, Rule};
