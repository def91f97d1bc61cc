//! A library preloaded into a node: disk faults, power cuts and wrong clocks.
