//! Sockets and blocking work: the machine's, or simulated.
