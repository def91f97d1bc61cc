//! kafka-client.
