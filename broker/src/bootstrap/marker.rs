//! What a directory remembers of a node that is not yet quite a member.
//!
//! One value of 16 bytes, kept from before the first question until the catalogue is there:
//! ```text
//! joining    the incarnation, a version-4 UUID
//! founding   the incarnation with every bit inverted, which makes it no version-4 UUID
//! ```
//! A directory with an identity and no mark has once had its catalogue: it may never begin one
//! again. One with an identity and `founding` goes on to found; with `joining` it waits for the
//! catalogue from its peers.

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// It looks for a cluster or has joined one, and has no catalogue yet.
    Joining([u8; 16]),
    /// It founds a cluster.
    Founding([u8; 16]),
}

impl Marker {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        match self {
            Marker::Joining(incarnation) => incarnation,
            Marker::Founding(incarnation) => incarnation.map(|byte| !byte),
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Marker {
        let is_uuid_4 = bytes[6] >> 4 == 4;
        if is_uuid_4 {
            Marker::Joining(bytes)
        } else {
            Marker::Founding(bytes.map(|byte| !byte))
        }
    }

    pub(crate) fn incarnation(self) -> [u8; 16] {
        match self {
            Marker::Joining(incarnation) | Marker::Founding(incarnation) => incarnation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    #[test]
    fn both_marks_are_read_back_for_every_incarnation() {
        let mut ids = Ids::new([1, 2, 3, 4]);
        for _ in 0..100 {
            let incarnation = ids.uuid();
            for marker in [Marker::Joining(incarnation), Marker::Founding(incarnation)] {
                assert_eq!(Marker::from_bytes(marker.to_bytes()), marker);
                assert_eq!(marker.incarnation(), incarnation);
            }
        }
    }
}
