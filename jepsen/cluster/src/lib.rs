//! Real nodes in network namespaces or on loopback, and every way to break them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate works on real processes and files"
)]

pub mod disk;
