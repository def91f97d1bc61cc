//! Calls and streams over real sockets.
