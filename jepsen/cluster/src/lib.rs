//! Real nodes in network namespaces or on loopback, and every way to break them.
