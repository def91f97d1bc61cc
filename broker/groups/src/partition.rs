//! Which partition of `__consumer_offsets` a group lives in, as Kafka and its tools compute it.

/// The partition of a group: Java's hash of its id, made positive, modulo the number of partitions.
#[must_use]
pub fn partition_of(group_id: &str, partitions: u16) -> u16 {
    let units = group_id.encode_utf16();
    let hash = units.fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    });
    // Java's way to make the smallest number positive is zero.
    let positive = hash.checked_abs().unwrap_or(0).unsigned_abs();
    let partition = positive % u32::from(partitions.max(1));
    u16::try_from(partition).expect("below a number of sixteen bits")
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn a_group_is_where_kafka_puts_it() {
        // "abc".hashCode() is 96354.
        assert_eq!(partition_of("abc", 50), 4);
        assert_eq!(partition_of("abc", 50_000), 46_354);
        assert_eq!(partition_of("", 50), 0);
        // The hash of this text is the smallest number there is.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // "ü".hashCode() is 252: units of UTF-16, not bytes.
        assert_eq!(partition_of("ü", 50), 2);
        for id in ["Braidlog group", "a much longer name of a group", "🦀"] {
            assert!(partition_of(id, 7) < 7);
        }
        assert_eq!(partition_of("abc", 0), 0);
    }
}
