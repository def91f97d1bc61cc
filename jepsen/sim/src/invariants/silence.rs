//! Which nodes may have more than they have shown.

use std::collections::BTreeSet;

use jepsen_workload::fault::NodeId;

/// What a node shows now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// It serves.
    Everything,
    /// It stands still: what it did until then.
    WhatItDid,
    /// It starts, or starts over, and may take part already.
    Nothing,
    /// It does not run.
    NoMore,
}

/// The nodes of which more may be true than they have shown.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// They have run since they showed something last, be it that they run no more.
    silent: BTreeSet<NodeId>,
    standing: BTreeSet<NodeId>,
}

impl Silence {
    /// Takes note of what a node shows now.
    pub(super) fn note(&mut self, node: NodeId, now: Shows) {
        self.standing.remove(&node);
        match now {
            Shows::Everything => {
                self.silent.remove(&node);
            }
            Shows::WhatItDid => {
                self.standing.insert(node);
            }
            Shows::Nothing => {
                self.silent.insert(node);
            }
            Shows::NoMore => {}
        }
    }

    /// Nodes of which more may be true than they have shown.
    pub(super) fn unseen(&self) -> BTreeSet<NodeId> {
        &self.silent | &self.standing
    }

    /// The node is gone.
    pub(super) fn forget_node(&mut self, id: NodeId) {
        self.silent.remove(&id);
        self.standing.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_before_it_has_shown_anything_may_have_more_than_it_showed_in_its_life_before() {
        let mut silence = Silence::default();
        silence.note(2, Shows::Everything);
        silence.note(2, Shows::NoMore);
        assert!(silence.unseen().is_empty());
        silence.note(2, Shows::Nothing);
        silence.note(2, Shows::NoMore);
        assert_eq!(silence.unseen(), BTreeSet::from([2]));
        silence.note(2, Shows::Nothing);
        silence.note(2, Shows::Everything);
        assert!(silence.unseen().is_empty());
    }

    #[test]
    fn who_stands_still_has_shown_everything_when_it_ends() {
        let mut silence = Silence::default();
        silence.note(1, Shows::WhatItDid);
        assert_eq!(silence.unseen(), BTreeSet::from([1]));
        silence.note(1, Shows::NoMore);
        assert!(silence.unseen().is_empty());
    }
}
