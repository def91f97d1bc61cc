//! Walks the shape of a request body before anything is decoded from it. Pure.
//!
//! kafka-protocol 0.18 reserves memory for as many elements as the peer declares, so that a body of
//! four bytes can abort the process. Here every declared count and length is held against the bytes
//! that remain, and the number of elements of a whole request is bounded, before the decoder sees a
//! byte. Nothing is allocated, nesting is fixed by the tables in [`requests`], and what passes is
//! read by the decoder in the same places. Whether values make sense is not decided here.

mod requests;

use crate::api_versions::ApiSpec;

/// Most array elements and tagged fields in one request: several times the partitions that a node
/// carries. The decoder spends at most some 130 bytes on each.
const ELEMENTS_MAX: usize = 500_000;
/// Most tagged fields in one place. Kafka's own messages have four at most.
const TAGS_MAX: usize = 64;

/// What stands in a place.
#[derive(Debug)]
enum Kind {
    /// A value of this many bytes.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// An array, null or not.
    Array(&'static Kind),
    /// Fields one after another, then tagged fields in flexible versions.
    Struct(&'static [Field]),
    /// A byte that says whether a struct follows (1) or not.
    OptionStruct(&'static [Field]),
}

/// A field of a struct, present in versions `first..=last`.
#[derive(Debug)]
struct Field {
    kind: Kind,
    first: i16,
    last: i16,
    tag: Option<u32>, // in the tagged section instead of in its place
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShapeError {
    /// The bytes end before the message does.
    #[error("the message is cut off")]
    Truncated,
    /// A length below -1.
    #[error("negative length {0}")]
    NegativeLength(i64),
    /// A varint that does not fit 32 bits.
    #[error("malformed varint")]
    Varint,
    /// An array that declares more elements than the remaining bytes can hold.
    #[error("{declared} elements declared where {remaining} bytes remain")]
    CountTooLarge {
        /// What the peer declared.
        declared: usize,
        /// What is there.
        remaining: usize,
    },
    /// More elements in the whole request than are allowed.
    #[error("more than {ELEMENTS_MAX} elements in one request")]
    TooManyElements,
    /// More tagged fields in one place than are allowed.
    #[error("{0} tagged fields in one place, at most {TAGS_MAX} are allowed")]
    TooManyTags(usize),
    /// A tagged field whose declared size is not the size of its value.
    #[error("the size of tagged field {0} is wrong")]
    TagSize(u32),
}

/// Checks that `body` can be decoded as a request of this API and version without reserving more
/// than its size warrants. Bytes after the message are let be, as Kafka does.
pub(crate) fn check(spec: &ApiSpec, version: i16, body: &[u8]) -> Result<(), ShapeError> {
    let mut elements_left = ELEMENTS_MAX;
    let mut walk = Walk {
        bytes: body,
        version,
        flexible: spec.is_flexible(version),
        elements_left: &mut elements_left,
    };
    walk.fields(requests::fields(spec.api))
}

/// Checks the tagged fields at the front of `bytes` and returns what follows them.
pub(crate) fn skip_tagged_fields(bytes: &[u8]) -> Result<&[u8], ShapeError> {
    let mut elements_left = TAGS_MAX;
    let mut walk = Walk {
        bytes,
        version: 0,
        flexible: true,
        elements_left: &mut elements_left,
    };
    walk.tagged_fields(&[])?;
    Ok(walk.bytes)
}

/// A place in a message.
struct Walk<'a, 'e> {
    bytes: &'a [u8], // what remains
    version: i16,
    flexible: bool,
    elements_left: &'e mut usize,
}

impl<'a> Walk<'a, '_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), ShapeError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible {
            self.tagged_fields(fields)
        } else {
            Ok(())
        }
    }

    fn value(&mut self, kind: &'static Kind) -> Result<(), ShapeError> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes).map(drop),
            Kind::Text => {
                let len = if self.flexible {
                    self.compact_length()?
                } else {
                    self.length16()?
                };
                self.skip(len.unwrap_or(0)).map(drop)
            }
            Kind::Blob => {
                let len = if self.flexible {
                    self.compact_length()?
                } else {
                    self.length32()?
                };
                self.skip(len.unwrap_or(0)).map(drop)
            }
            Kind::Array(element) => {
                let count = if self.flexible {
                    self.compact_length()?
                } else {
                    self.length32()?
                };
                let count = count.unwrap_or(0);
                self.reserve(count, self.bytes_min(element))?;
                for _ in 0..count {
                    self.value(element)?;
                }
                Ok(())
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::OptionStruct(fields) => match self.skip(1)? {
                [1] => self.fields(fields),
                _ => Ok(()),
            },
        }
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), ShapeError> {
        let count = self.varint()? as usize;
        if count > TAGS_MAX {
            return Err(ShapeError::TooManyTags(count));
        }
        self.reserve(count, 2)?; // a tag and a size
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let value = self.skip(size)?;
            let known = fields
                .iter()
                .find(|f| f.tag == Some(tag) && f.is_in(self.version));
            if let Some(field) = known {
                // The decoder takes the value by its kind and never looks at the size.
                let mut inside = Walk {
                    bytes: value,
                    elements_left: self.elements_left,
                    ..*self
                };
                inside.value(&field.kind)?;
                if !inside.bytes.is_empty() {
                    return Err(ShapeError::TagSize(tag));
                }
            }
        }
        Ok(())
    }

    /// Spends `count` elements of at least `bytes_min` bytes each.
    fn reserve(&mut self, count: usize, bytes_min: usize) -> Result<(), ShapeError> {
        let remaining = self.bytes.len();
        if count.saturating_mul(bytes_min) > remaining {
            return Err(ShapeError::CountTooLarge {
                declared: count,
                remaining,
            });
        }
        *self.elements_left = self
            .elements_left
            .checked_sub(count)
            .ok_or(ShapeError::TooManyElements)?;
        Ok(())
    }

    /// The fewest bytes that a value takes in this version.
    fn bytes_min(&self, kind: &'static Kind) -> usize {
        match kind {
            Kind::Fixed(bytes) => *bytes,
            Kind::Text => {
                if self.flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Blob | Kind::Array(_) => {
                if self.flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(fields) => {
                let present = fields
                    .iter()
                    .filter(|f| f.tag.is_none() && f.is_in(self.version));
                let fields: usize = present.map(|field| self.bytes_min(&field.kind)).sum();
                fields + usize::from(self.flexible)
            }
            Kind::OptionStruct(_) => 1,
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<&'a [u8], ShapeError> {
        let (skipped, rest) = self
            .bytes
            .split_at_checked(bytes)
            .ok_or(ShapeError::Truncated)?;
        self.bytes = rest;
        Ok(skipped)
    }

    fn length16(&mut self) -> Result<Option<usize>, ShapeError> {
        let (length, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(ShapeError::Truncated)?;
        self.bytes = rest;
        nullable_length(i64::from(i16::from_be_bytes(*length)))
    }

    fn length32(&mut self) -> Result<Option<usize>, ShapeError> {
        let (length, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(ShapeError::Truncated)?;
        self.bytes = rest;
        nullable_length(i64::from(i32::from_be_bytes(*length)))
    }

    /// A length plus one, 0 for null.
    fn compact_length(&mut self) -> Result<Option<usize>, ShapeError> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    fn varint(&mut self) -> Result<u32, ShapeError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = self.bytes.split_first().ok_or(ShapeError::Truncated)?;
            self.bytes = rest;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return Err(ShapeError::Varint);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ShapeError::Varint)
    }
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

fn nullable_length(length: i64) -> Result<Option<usize>, ShapeError> {
    match length {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(ShapeError::NegativeLength(length)),
        },
    }
}

#[cfg(test)]
mod tests;
