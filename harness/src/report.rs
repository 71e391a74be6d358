//! What a person or a machine is shown of a run. Everything here is a function of events and of the run directory.

pub mod console;
pub mod html;
pub mod junit;
pub mod suite_console;
pub mod suite_summary;
pub mod summary;
pub mod view;
