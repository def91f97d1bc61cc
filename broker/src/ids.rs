//! Ids that nobody had before: topics, the cluster. Seeded per node, so that simulated runs repeat.

use storage::TopicId;

/// Makes ids from a seed (xoshiro256**; Blackman and Vigna, 2018).
#[derive(Debug)]
pub(crate) struct Ids {
    state: [u64; 4],
}

impl Ids {
    /// A generator for this seed; an all-zero seed is as good as any other.
    pub(crate) fn new(seed: [u64; 4]) -> Ids {
        // Two rounds, so that every word of the seed shows in every word of the state.
        let mut mixed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut mix = |word: u64| {
            mixed = mixed.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= z ^ (z >> 31);
            mixed
        };
        let state = seed.map(&mut mix).map(&mut mix);
        Ids {
            state: if state == [0; 4] { [1, 2, 3, 4] } else { state },
        }
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// 128 random bits as a version-4 UUID (RFC 9562); never one that Kafka reserves.
    pub(crate) fn uuid(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }

    /// A topic id.
    pub(crate) fn topic_id(&mut self) -> TopicId {
        TopicId(self.uuid())
    }

    /// A cluster id: a UUID in URL-safe base64 without padding, 22 characters, as Kafka writes it.
    pub(crate) fn cluster_id(&mut self) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.uuid());
        let digit = |n: u32| {
            let shift = 122_u32.checked_sub(6 * n);
            let six = shift.map_or(bits << 4, |shift| bits >> shift) & 0x3f;
            char::from(DIGITS[usize::try_from(six).expect("six bits")])
        };
        (0..22).map(digit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_repeat_and_different_seeds_differ() {
        let mut a = Ids::new([0; 4]);
        let mut b = Ids::new([0; 4]);
        let mut c = Ids::new([0, 0, 0, 1]);
        let (a, b, c) = (a.uuid(), b.uuid(), c.uuid());
        assert_eq!(a, b);
        assert_ne!(a, c);
    }

    #[test]
    fn cluster_ids_are_22_characters_of_url_safe_base64() {
        let id = Ids::new([3, 1, 4, 1]).cluster_id();
        assert_eq!(id.len(), 22);
        assert!(
            id.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }
}
