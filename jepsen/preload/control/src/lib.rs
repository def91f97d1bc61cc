//! What the preloaded library and the harness share: the control file, and what a disk holds.
