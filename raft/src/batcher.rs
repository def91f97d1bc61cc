//! Gathers operations into entries.
