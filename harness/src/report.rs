//! What a person or a machine is shown of a run or a suite. Everything here is a function of what was recorded.
//!
//! [`evidence`] and [`traffic`] read a run directory back, [`view`] and [`suite`] put it into words, the rest renders it.

pub mod text;
pub mod traffic;
pub mod evidence;
pub mod console;
pub mod view;
pub mod suite;
pub mod summary;
pub mod html;
pub mod junit;
pub mod suite_console;
pub mod suite_summary;
pub mod markdown;
pub mod files;
