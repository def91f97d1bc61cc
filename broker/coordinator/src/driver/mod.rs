//! Runs a coordinator in virtual time, for tests.
