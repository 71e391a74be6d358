//! The applications that scenarios run on: their declaration, and the code of their http services.
//!
//! Does not know of faults or detectors: a service behaves as declared, and what goes wrong comes from outside.

pub mod dns;
pub mod duration;
pub mod file;
pub mod http_client;
pub mod postgres;
pub mod servers;
pub mod service;
pub mod shard;
pub mod spec;
pub(crate) mod spread;
pub mod template;
pub mod validate;

pub use file::{App, AppError, load};
pub use validate::{AppProblem, validate};
