//! Whole nodes in one process on virtual time, network and disk.
