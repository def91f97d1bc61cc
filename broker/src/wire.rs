//! The plain encoding of everything this crate puts into a shard's log or checkpoint.
//!
//! Integers are big-endian; texts and byte strings carry a `u32` length. [`Reader`] checks every
//! length and count against the bytes that remain before anything is reserved.

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes do not hold what their kind and version promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {position}: {expected}")]
pub(crate) struct Malformed {
    /// What was being read.
    pub(crate) expected: &'static str,
    /// Where.
    pub(crate) position: usize,
}

/// Writes values one after another.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buf: BytesMut,
}

macro_rules! put {
    ($($name:ident: $type:ty => $put:ident;)*) => {
        $(pub(crate) fn $name(&mut self, value: $type) -> &mut Writer {
            self.buf.$put(value);
            self
        })*
    };
}

impl Writer {
    put! {
        u8: u8 => put_u8;
        u16: u16 => put_u16;
        u32: u32 => put_u32;
        u64: u64 => put_u64;
        i16: i16 => put_i16;
        i32: i32 => put_i32;
        i64: i64 => put_i64;
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Writer {
        self.buf.put_slice(bytes);
        self
    }

    /// A count of things that follow.
    pub(crate) fn count(&mut self, count: usize) -> &mut Writer {
        self.u32(u32::try_from(count).expect("counts are bounded far below 2^32"))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.count(bytes.len()).raw(bytes)
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Writer {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn finish(self) -> Bytes {
        self.buf.freeze()
    }
}

/// Reads values one after another.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    position: usize,
}

macro_rules! take {
    ($($name:ident: $type:ty;)*) => {
        $(pub(crate) fn $name(&mut self) -> Result<$type, Malformed> {
            const BYTES: usize = std::mem::size_of::<$type>();
            let bytes = self.raw(BYTES, stringify!($type))?;
            Ok(<$type>::from_be_bytes(bytes.as_ref().try_into().expect("length was taken")))
        })*
    };
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Reader {
        Reader { bytes, position: 0 }
    }

    take! {
        u8: u8;
        u16: u16;
        u32: u32;
        u64: u64;
        i16: i16;
        i32: i32;
        i64: i64;
    }

    pub(crate) fn raw(&mut self, len: usize, expected: &'static str) -> Result<Bytes, Malformed> {
        if self.bytes.len() - self.position < len {
            return Err(self.malformed(expected));
        }
        let bytes = self.bytes.slice(self.position..self.position + len);
        self.position += len;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.raw(N, "fixed bytes")?;
        Ok(bytes.as_ref().try_into().expect("length was taken"))
    }

    /// A count of things of which each takes at least `bytes_min` bytes.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).expect("usize holds 32 bits");
        if count.saturating_mul(bytes_min.max(1)) > self.bytes.len() - self.position {
            return Err(self.malformed("a count that fits the bytes"));
        }
        Ok(count)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let len = self.count(1)?;
        self.raw(len, "bytes")
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.malformed("UTF-8 text"))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.position..);
        self.position = self.bytes.len();
        rest
    }

    /// Everything must have been read.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.position == self.bytes.len() {
            Ok(())
        } else {
            Err(self.malformed("the end"))
        }
    }

    pub(crate) fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed {
            expected,
            position: self.position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer
            .u8(7)
            .i64(-3)
            .text("topic")
            .bytes(b"")
            .count(2)
            .u16(1)
            .u16(2);
        let mut reader = Reader::new(writer.finish());
        assert_eq!(reader.u8(), Ok(7));
        assert_eq!(reader.i64(), Ok(-3));
        assert_eq!(reader.text().as_deref(), Ok("topic"));
        assert_eq!(reader.bytes(), Ok(Bytes::new()));
        assert_eq!(reader.count(2), Ok(2));
        assert!(reader.end().is_err());
        assert_eq!((reader.u16(), reader.u16()), (Ok(1), Ok(2)));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1]));
        assert!(reader.count(1).is_err());
        let mut reader = Reader::new(Bytes::from_static(&[0, 0, 0, 9, 1]));
        assert!(reader.bytes().is_err());
    }
}
