//! The applications that scenarios run on: their declaration, and the code of their http services.
//!
//! Does not know of faults or detectors: a service behaves as declared, and what goes wrong comes from outside.

pub mod duration;
pub mod spec;
pub mod template;
pub(crate) mod spread;
pub mod shard;
pub mod validate;
pub mod file;
pub mod postgres;
pub mod http_client;
pub mod service;
pub mod dns;

pub use file::{App, AppError, load};
pub use validate::{AppProblem, validate};
