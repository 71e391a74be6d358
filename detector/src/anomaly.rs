//! When is a number unusual? Three answers for three kinds of numbers, and when it began.
//!
//! Statistics only: knows neither edges nor pods.

pub mod change_point;
pub mod rate;
pub mod robust_z;
