//! Zigzag varints, as records use them (protobuf's `sint32` and `sint64`).

use bytes::{BufMut, BytesMut};

/// Appends a zigzag varint of at most ten bytes.
pub(super) fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8((rest & 0x7f) as u8);
}

/// Bytes that [`put_varlong`] would append.
pub(super) fn varlong_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = (64 - zigzag.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}

/// Reads a zigzag varint of up to 64 bits: the value and how many bytes it took. `None` when the
/// bytes end inside it or it does not fit.
pub(super) fn read_varlong(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let low = u64::from(byte & 0x7f);
        if at == 9 && low > 1 {
            return None;
        }
        value |= low << (7 * at);
        if byte & 0x80 == 0 {
            return Some((
                (value >> 1).cast_signed() ^ -(value & 1).cast_signed(),
                at + 1,
            ));
        }
    }
    None
}

/// Reads a zigzag varint of up to 32 bits.
pub(super) fn read_varint(bytes: &[u8]) -> Option<(i32, usize)> {
    let (value, len) = read_varlong(bytes)?;
    (len <= 5).then_some(())?;
    Some((i32::try_from(value).ok()?, len))
}
