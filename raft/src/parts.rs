//! A checkpoint that is too large for one request: cut into parts by the leader, put together by
//! the follower. Pure.
//!
//! Parts come one after the other, each after the answer to the one before; one that comes twice
//! is taken once. What does not fit ends the offer, and the leader begins anew.

use bytes::{Bytes, BytesMut};
use storage::NodeId;

use crate::message::Part;
use crate::types::Vote;

/// Most bytes of one part.
const PART_BYTES_MAX: usize = 4 << 20;
/// Most bytes of a checkpoint. Leader and follower hold all of it in memory.
pub(crate) const CHECKPOINT_BYTES_MAX: u64 = 2 << 30;

/// Most bytes of a part, where requests have at most so many.
pub(crate) fn part_bytes(request_bytes_max: usize) -> usize {
    (request_bytes_max / 2).clamp(1, PART_BYTES_MAX)
}

/// The parts of what these pieces are, one after the other, each of at most so many bytes.
pub(crate) fn cut(pieces: &[Bytes], bytes_max: usize) -> impl Iterator<Item = Part> {
    let total: usize = pieces.iter().map(Bytes::len).sum();
    (0..total).step_by(bytes_max).map(move |at| Part {
        total: total as u64,
        at: at as u64,
        pieces: range(pieces, at, bytes_max),
    })
}

fn range(pieces: &[Bytes], mut from: usize, mut bytes: usize) -> Vec<Bytes> {
    let mut found = Vec::new();
    for piece in pieces {
        let begin = from.min(piece.len());
        let end = piece.len().min(begin.saturating_add(bytes));
        if begin < end {
            found.push(piece.slice(begin..end));
        }
        from -= begin;
        bytes -= end - begin;
    }
    found
}

/// What has come of a checkpoint.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: NodeId,
    number: u64,
    vote: Vote,
    total: u64,
    pieces: Vec<Bytes>,
    bytes: u64,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The next one is waited for; so many bytes are there.
    More(u64),
    /// It was the last one: this is all of it.
    Whole(Bytes),
    /// It does not follow on what is there.
    Unfit,
}

impl Incoming {
    pub(crate) fn is_of(&self, from: NodeId, number: u64) -> bool {
        self.from == from && self.number == number
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Takes one part; the first of an offer begins it, whatever was there.
pub(crate) fn take(
    held: &mut Option<Incoming>,
    from: NodeId,
    (number, vote): (u64, Vote),
    part: Part,
) -> Taken {
    if part.at == 0 {
        *held = Some(Incoming {
            from,
            number,
            vote,
            total: part.total,
            pieces: Vec::new(),
            bytes: 0,
        });
    }
    let bytes: u64 = part.pieces.iter().map(|piece| piece.len() as u64).sum();
    let fits = |incoming: &&mut Incoming| {
        let is_same = incoming.is_of(from, number)
            && incoming.vote == vote
            && incoming.total == part.total
            && part.total <= CHECKPOINT_BYTES_MAX;
        let end = part.at.checked_add(bytes);
        is_same && bytes > 0 && end.is_some_and(|end| end <= part.total)
    };
    let Some(incoming) = held.as_mut().filter(fits) else {
        *held = None;
        return Taken::Unfit;
    };
    if part.at + bytes == incoming.bytes {
        // Its answer was lost.
        return Taken::More(incoming.bytes);
    }
    if part.at != incoming.bytes {
        *held = None;
        return Taken::Unfit;
    }
    incoming.pieces.extend(part.pieces);
    incoming.bytes += bytes;
    if incoming.bytes < incoming.total {
        return Taken::More(incoming.bytes);
    }
    let pieces = held.take().map(|incoming| incoming.pieces);
    Taken::Whole(joined(pieces.unwrap_or_default()))
}

/// All of it in one; each piece goes once it is copied, so that not all is there twice.
fn joined(pieces: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEADER: NodeId = NodeId(1);

    fn vote() -> Vote {
        Vote::new_committed(3, 1)
    }

    fn part(total: u64, at: u64, bytes: &'static [u8]) -> Part {
        let pieces = vec![Bytes::from_static(bytes)];
        Part { total, at, pieces }
    }

    proptest! {
        #[test]
        fn what_was_cut_is_put_together_again(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..4),
            bytes_max in 1..50_usize,
            repeated in any::<prop::sample::Index>(),
        ) {
            let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let whole: Bytes = pieces.concat().into();
            let mut parts: Vec<Part> = cut(&pieces, bytes_max).collect();
            if let Some(last) = parts.len().checked_sub(2) {
                let again = repeated.index(last + 1);
                parts.insert(again, parts[again].clone());
            }
            let mut held = None;
            let mut found = None;
            for part in parts {
                prop_assert!(part.pieces.concat().len() <= bytes_max);
                prop_assert!(found.is_none());
                match take(&mut held, LEADER, (7, vote()), part) {
                    Taken::More(_) => {}
                    Taken::Whole(bytes) => found = Some(bytes),
                    Taken::Unfit => prop_assert!(false, "unfit"),
                }
            }
            prop_assert_eq!(found.unwrap_or_default(), whole);
            prop_assert!(held.is_none());
        }
    }

    #[test]
    fn what_does_not_follow_ends_it() {
        let two = vote();
        let unfit: [(NodeId, u64, Vote, Part); 8] = [
            (NodeId(2), 7, two, part(9, 3, b"def")),
            (LEADER, 8, two, part(9, 3, b"def")),
            (LEADER, 7, Vote::new_committed(4, 1), part(9, 3, b"def")),
            (LEADER, 7, two, part(10, 3, b"def")),
            (LEADER, 7, two, part(9, 4, b"def")),
            (LEADER, 7, two, part(9, 3, b"defghijk")),
            (LEADER, 7, two, part(9, 3, b"")),
            (LEADER, 7, two, part(9, u64::MAX, b"def")),
        ];
        for (from, number, vote, second) in unfit {
            let mut held = None;
            let first = take(&mut held, LEADER, (7, two), part(9, 0, b"abc"));
            assert_eq!(first, Taken::More(3));
            let said = format!("{second:?}");
            let taken = take(&mut held, from, (number, vote), second);
            assert_eq!(taken, Taken::Unfit, "{said}");
            assert!(held.is_none());
        }
        let mut held = None;
        let huge = part(CHECKPOINT_BYTES_MAX + 1, 0, b"abc");
        assert_eq!(take(&mut held, LEADER, (7, two), huge), Taken::Unfit);
    }

    #[test]
    fn an_offer_that_begins_anew_takes_the_place_of_another() {
        let mut held = None;
        take(&mut held, LEADER, (7, vote()), part(9, 0, b"abc"));
        let taken = take(&mut held, LEADER, (8, vote()), part(4, 0, b"xyz"));
        assert_eq!(taken, Taken::More(3));
        let taken = take(&mut held, LEADER, (8, vote()), part(4, 3, b"!"));
        assert_eq!(taken, Taken::Whole(Bytes::from_static(b"xyz!")));
    }
}
