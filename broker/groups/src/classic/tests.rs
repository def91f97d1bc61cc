//! Classic groups in a driver: what members see.

mod bad_input;
mod barrier;
mod life;
mod random;
mod static_members;
