//! The first words on a connection, from both sides. Pure.
//!
//! ```text
//! both     magic "BRDL" | version u16 | length u16 (what follows)
//! hello    purpose u8 | from u32 | from's incarnation 16 | to u32 | to's incarnation 16
//!          | from's process 16 | cluster id
//! welcome  code u8 (0: come in) | node u32 | its incarnation 16 | sentence
//! ```
//! Little-endian, text in UTF-8. The common head and a welcome's fields keep their places in all
//! versions, so that a refusal for the version can be read.

use bytes::{Buf, BufMut};
use storage::NodeId;

use super::{Lane, Refusal, RefusedReason};

pub(super) const MAGIC: [u8; 4] = *b"BRDL";
/// Version of everything that peers say to each other on a connection.
pub(super) const VERSION: u16 = 1;
pub(super) const HEAD_BYTES: usize = 8;
/// A hello or welcome is never longer, in no version.
pub(super) const LENGTH_MAX: u16 = 4_096;
/// Longest cluster id and sentence.
const TEXT_BYTES_MAX: usize = 1_024;
const STRANGER: u8 = 3;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A link between members.
    Link(Lane),
    /// One question from somebody who need not be a member.
    Stranger,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) purpose: Purpose,
    pub(super) from: NodeId,
    pub(super) incarnation: [u8; 16],
    pub(super) to: NodeId,
    pub(super) to_incarnation: [u8; 16],
    /// Drawn by each process; tells two that run as one node apart.
    pub(super) instance: [u8; 16],
    pub(super) cluster_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Welcome {
    /// Who answers; zeros when it does not know.
    pub(super) node: NodeId,
    pub(super) incarnation: [u8; 16],
    pub(super) refusal: Option<Refusal>,
}

/// Bytes that are no hello or welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error("these are not the first words of a peer")]
    NotAPeer,
    #[error("these are the first words of TLS")]
    Tls,
    #[error("version {version} of the peer protocol, where {VERSION} is spoken")]
    Version { version: u16 },
}

/// The common head: version and length of the rest.
pub(super) fn decode_head(bytes: [u8; HEAD_BYTES]) -> Result<(u16, u16), HelloError> {
    let mut rest = bytes.as_slice();
    if bytes[..4] != MAGIC {
        // TLS records begin with their type, handshake or alert, and version 3.
        let tls = matches!(bytes[0], 0x15 | 0x16) && bytes[1] == 3;
        return Err(if tls {
            HelloError::Tls
        } else {
            HelloError::NotAPeer
        });
    }
    rest.advance(4);
    let (version, length) = (rest.get_u16_le(), rest.get_u16_le());
    if length > LENGTH_MAX {
        return Err(HelloError::NotAPeer);
    }
    Ok((version, length))
}

fn framed(rest: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u16_le(VERSION);
    bytes.put_u16_le(u16::try_from(rest.len()).expect("texts are cut to fit"));
    bytes.put_slice(rest);
    bytes
}

/// As much of the text as fits.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

impl Hello {
    pub(super) fn stranger() -> Hello {
        Hello {
            purpose: Purpose::Stranger,
            from: NodeId(0),
            incarnation: [0; 16],
            to: NodeId(0),
            to_incarnation: [0; 16],
            instance: [0; 16],
            cluster_id: String::new(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::with_capacity(64);
        rest.put_u8(match self.purpose {
            Purpose::Link(Lane::Control) => 0,
            Purpose::Link(Lane::Data) => 1,
            Purpose::Link(Lane::Bulk) => 2,
            Purpose::Stranger => STRANGER,
        });
        rest.put_u32_le(self.from.0);
        rest.put_slice(&self.incarnation);
        rest.put_u32_le(self.to.0);
        rest.put_slice(&self.to_incarnation);
        rest.put_slice(&self.instance);
        rest.put_slice(cut(&self.cluster_id).as_bytes());
        framed(&rest)
    }

    /// Reads what follows the head of a hello of `version`.
    pub(super) fn decode(version: u16, mut rest: &[u8]) -> Result<Hello, HelloError> {
        if version != VERSION {
            return Err(HelloError::Version { version });
        }
        if rest.len() < 57 {
            return Err(HelloError::NotAPeer);
        }
        let purpose = match rest.get_u8() {
            0 => Purpose::Link(Lane::Control),
            1 => Purpose::Link(Lane::Data),
            2 => Purpose::Link(Lane::Bulk),
            STRANGER => Purpose::Stranger,
            _ => return Err(HelloError::NotAPeer),
        };
        let from = NodeId(rest.get_u32_le());
        let incarnation = take_16(&mut rest);
        let to = NodeId(rest.get_u32_le());
        let to_incarnation = take_16(&mut rest);
        let instance = take_16(&mut rest);
        let cluster_id = std::str::from_utf8(rest).map_err(|_| HelloError::NotAPeer)?;
        Ok(Hello {
            purpose,
            from,
            incarnation,
            to,
            to_incarnation,
            instance,
            cluster_id: cluster_id.to_owned(),
        })
    }
}

impl Welcome {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::with_capacity(64);
        rest.put_u8(
            self.refusal
                .as_ref()
                .map_or(0, |refusal| code(refusal.reason)),
        );
        rest.put_u32_le(self.node.0);
        rest.put_slice(&self.incarnation);
        if let Some(refusal) = &self.refusal {
            rest.put_slice(cut(&refusal.sentence).as_bytes());
        }
        framed(&rest)
    }

    /// Reads what follows the head of a welcome of any version.
    pub(super) fn decode(version: u16, mut rest: &[u8]) -> Result<Welcome, HelloError> {
        if rest.len() < 21 {
            return Err(HelloError::NotAPeer);
        }
        let reason = reason(rest.get_u8());
        let node = NodeId(rest.get_u32_le());
        let incarnation = take_16(&mut rest);
        if reason.is_none() && version != VERSION {
            return Err(HelloError::Version { version });
        }
        let sentence = || String::from_utf8_lossy(rest).into_owned();
        let refusal = reason.map(|reason| Refusal {
            reason,
            sentence: sentence(),
        });
        Ok(Welcome {
            node,
            incarnation,
            refusal,
        })
    }
}

fn take_16(rest: &mut &[u8]) -> [u8; 16] {
    let mut taken = [0; 16];
    rest.copy_to_slice(&mut taken);
    taken
}

fn code(reason: RefusedReason) -> u8 {
    match reason {
        RefusedReason::WrongCluster => 1,
        RefusedReason::WrongVersion => 2,
        RefusedReason::UnknownNode => 3,
        RefusedReason::WrongIncarnation => 4,
        RefusedReason::NotThatNode => 5,
        RefusedReason::NotReady => 6,
        RefusedReason::Tls => 7,
        RefusedReason::NotAPeer => 8,
        RefusedReason::RunsTwice => 9,
    }
}

fn reason(code: u8) -> Option<RefusedReason> {
    Some(match code {
        0 => return None,
        1 => RefusedReason::WrongCluster,
        2 => RefusedReason::WrongVersion,
        3 => RefusedReason::UnknownNode,
        4 => RefusedReason::WrongIncarnation,
        5 => RefusedReason::NotThatNode,
        7 => RefusedReason::Tls,
        8 => RefusedReason::NotAPeer,
        9 => RefusedReason::RunsTwice,
        // 6, and whatever a later version has.
        _ => RefusedReason::NotReady,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(bytes: &[u8]) -> (u16, &[u8]) {
        let (version, length) = decode_head(*bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(bytes.len(), HEAD_BYTES + usize::from(length));
        (version, &bytes[HEAD_BYTES..])
    }

    proptest! {
        #[test]
        fn hellos_come_out_as_they_went_in(
            purpose in 0usize..4, from in any::<u32>(), to in any::<u32>(),
            incarnation in any::<[u8; 16]>(), to_incarnation in any::<[u8; 16]>(),
            instance in any::<[u8; 16]>(), cluster_id in "\\PC{0,40}",
        ) {
            let purposes = [Purpose::Link(Lane::Control), Purpose::Link(Lane::Data), Purpose::Link(Lane::Bulk), Purpose::Stranger];
            let (purpose, from, to) = (purposes[purpose], NodeId(from), NodeId(to));
            let hello = Hello { purpose, from, incarnation, to, to_incarnation, instance, cluster_id };
            let bytes = hello.encode();
            let (version, rest) = split(&bytes);
            prop_assert_eq!(Hello::decode(version, rest).unwrap(), hello);
        }

        #[test]
        fn welcomes_come_out_as_they_went_in(
            number in 0u8..10, node in any::<u32>(), incarnation in any::<[u8; 16]>(), sentence in "\\PC{0,2000}",
        ) {
            let refusal = reason(number).map(|reason| Refusal { reason, sentence: cut(&sentence).to_owned() });
            let welcome = Welcome { node: NodeId(node), incarnation, refusal };
            let bytes = welcome.encode();
            let (version, rest) = split(&bytes);
            prop_assert_eq!(Welcome::decode(version, rest).unwrap(), welcome);
        }

        #[test]
        fn no_bytes_panic(head in any::<[u8; 8]>(), version in 0u16..3, rest in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_head(head);
            let _ = Hello::decode(version, &rest);
            let _ = Welcome::decode(version, &rest);
        }
    }

    #[test]
    fn a_refusal_of_another_version_is_readable() {
        let refusal = Refusal {
            reason: RefusedReason::WrongVersion,
            sentence: "no".to_owned(),
        };
        let welcome = Welcome {
            node: NodeId(0),
            incarnation: [0; 16],
            refusal: Some(refusal),
        };
        let bytes = welcome.encode();
        assert_eq!(
            Welcome::decode(VERSION + 1, &bytes[HEAD_BYTES..]).unwrap(),
            welcome
        );
    }
}
