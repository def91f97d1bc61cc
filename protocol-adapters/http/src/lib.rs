//! The HTTP admin API of a node: what an operator asks of it and tells it to do.
