//! Self-contained pages: about one run, and about a suite. No script, no request, nothing to install.
//!
//! Pages show what a view holds and compute nothing. What colour says is also said by a sign, a pattern or a word; what
//! a drawing says is also said by a table.

mod document;
mod plot;
mod run;
pub mod suite;
mod table;
mod timeline;
mod topology;

pub use run::page;
