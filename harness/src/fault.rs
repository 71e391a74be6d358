//! What is made wrong: each fault injects, is undone, expires by itself, and proves its effect.
//!
//! Does not know when it is called, nor what the truth file says of it.

pub mod kind;
