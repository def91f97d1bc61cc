//! Ids of topics, and the values that ids of members are made of.

use std::fmt;

/// A UUID. The zero one stands for "none", as in Kafka.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl Uuid {
    /// No id.
    pub const ZERO: Self = Self(0);
}

/// With hyphens: `8-4-4-4-12` hexadecimal digits.
impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Uuid;

    #[test]
    fn text_has_hyphens() {
        let uuid = Uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(uuid.to_string(), "01234567-89ab-cdef-0011-223344556677");
    }
}
