//! Bytes and frames: where a request ends, its header, and the frame of an answer. Pure.
//!
//! ```text
//! request   0        4        6         8                12             14
//!           | length | key:i16| ver:i16 | correlation:i32 | client id length:i16, -1 null |
//!           | client id | tagged fields (flexible versions) | body ...
//! answer    0        4                8
//!           | length | correlation:i32 | tagged fields (flexible versions, never ApiVersions) | body
//! ```
//!
//! All integers are big-endian; `length` counts what follows it. The client id keeps its plain
//! 16-bit length in every version. A length that is negative or over the limit is refused as soon
//! as its four bytes are there, and memory is reserved only for bytes that have come.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::api_versions::ApiSpec;
use crate::shape::{self, ShapeError};

/// Size of the length in front of a frame.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Why a connection's bytes cannot be read on. Nothing after it can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A length below zero.
    #[error("negative frame length {0}")]
    NegativeLength(i32),
    /// A frame over the limit.
    #[error("frame of {length} bytes is over the limit of {max}")]
    TooLong {
        /// What the peer announced.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// Too short for a request header, or a header that contradicts itself.
    #[error("malformed request header")]
    Header,
    /// A malformed header or body.
    #[error("malformed request: {0}")]
    Shape(#[from] ShapeError),
}

/// Takes the next whole frame from the front of `buf`, without its length; `None` when more bytes
/// must come first.
pub(crate) fn take_frame(
    buf: &mut BytesMut,
    frame_bytes_max: usize,
) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = buf.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let length = usize::try_from(length).map_err(|_| FrameError::NegativeLength(length))?;
    if length > frame_bytes_max {
        return Err(FrameError::TooLong {
            length,
            max: frame_bytes_max,
        });
    }
    if buf.len() - LENGTH_BYTES < length {
        return Ok(None);
    }
    buf.advance(LENGTH_BYTES);
    Ok(Some(buf.split_to(length).freeze()))
}

/// How many bytes of the frame at the front of `buf` have not come yet, as far as its length tells;
/// 0 when the length itself is missing or out of bounds.
pub(crate) fn missing_bytes(buf: &[u8], frame_bytes_max: usize) -> usize {
    let Some(length) = buf.first_chunk::<LENGTH_BYTES>() else {
        return 0;
    };
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) if length <= frame_bytes_max => {
            (LENGTH_BYTES + length).saturating_sub(buf.len())
        }
        _ => 0,
    }
}

/// The part of a request's header that is the same in every version of every API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestStart {
    /// Which API.
    pub(crate) api_key: i16,
    /// Which version of it.
    pub(crate) version: i16,
    /// Comes back in the answer; may be negative.
    pub(crate) correlation_id: i32,
}

impl RequestStart {
    /// Reads it from the front of a frame, which it leaves at what follows.
    pub(crate) fn take(frame: &mut Bytes) -> Result<RequestStart, FrameError> {
        if frame.len() < 8 {
            return Err(FrameError::Header);
        }
        Ok(RequestStart {
            api_key: frame.get_i16(),
            version: frame.get_i16(),
            correlation_id: frame.get_i32(),
        })
    }
}

/// Reads what is left of a request's header, and leaves `frame` at the body. Answers the client id,
/// which need not be UTF-8.
pub(crate) fn take_client_id(
    frame: &mut Bytes,
    spec: &ApiSpec,
    version: i16,
) -> Result<Option<Bytes>, FrameError> {
    if frame.len() < 2 {
        return Err(FrameError::Header);
    }
    let client_id = match frame.get_i16() {
        -1 => None,
        length => {
            let length = usize::try_from(length).map_err(|_| FrameError::Header)?;
            if frame.len() < length {
                return Err(FrameError::Header);
            }
            Some(frame.split_to(length))
        }
    };
    if spec.is_flexible(version) {
        let rest = shape::skip_tagged_fields(frame)?.len();
        frame.advance(frame.len() - rest);
    }
    Ok(client_id)
}

/// An answer as it goes out: pieces of bytes, one after another, the length in front.
pub(crate) type Frame = Vec<Bytes>;

/// Starts an answer: leaves room for the length and writes the header. The body follows.
pub(crate) fn begin_answer(
    spec: &ApiSpec,
    version: i16,
    correlation_id: i32,
    body_bytes: usize,
) -> BytesMut {
    let mut buf = BytesMut::with_capacity(LENGTH_BYTES + 4 + 1 + body_bytes);
    buf.put_i32(0);
    buf.put_i32(correlation_id);
    if spec.has_flexible_response_header(version) {
        buf.put_u8(0); // no tagged fields
    }
    buf
}

/// Ends an answer: `head` is what [`begin_answer`] began, `rest` are the pieces after it. `None`
/// when it is too long for its length to be written.
pub(crate) fn end_answer(mut head: BytesMut, rest: Vec<Bytes>) -> Option<Frame> {
    let length = head.len() - LENGTH_BYTES + rest.iter().map(Bytes::len).sum::<usize>();
    let length = i32::try_from(length).ok()?;
    head[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    let mut frame = Vec::with_capacity(1 + rest.len());
    frame.push(head.freeze());
    frame.extend(rest);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, RequestHeader};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;
    use crate::api_versions::{APIS, Api};

    const MAX: usize = 1 << 20;

    fn spec(api: Api) -> &'static ApiSpec {
        ApiSpec::of_key(api.key()).unwrap()
    }

    #[test]
    fn a_negative_length_is_refused_at_once() {
        let mut buf = BytesMut::from(&(-5i32).to_be_bytes()[..]);
        assert_eq!(
            take_frame(&mut buf, MAX),
            Err(FrameError::NegativeLength(-5))
        );
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_has_come() {
        let mut buf = BytesMut::from(&i32::MAX.to_be_bytes()[..]);
        let length = i32::MAX as usize;
        assert_eq!(
            take_frame(&mut buf, MAX),
            Err(FrameError::TooLong { length, max: MAX })
        );
        let mut buf = BytesMut::from(&[0, 0, 0, 2, 7, 7][..]);
        assert_eq!(
            take_frame(&mut buf, 2),
            Ok(Some(Bytes::from_static(&[7, 7])))
        );
    }

    #[test]
    fn a_correlation_id_may_be_negative() {
        let mut frame = Bytes::from_static(&[0, 3, 0, 1, 0xff, 0xff, 0xff, 0xfe]);
        let start = RequestStart::take(&mut frame).unwrap();
        assert_eq!(
            start,
            RequestStart {
                api_key: 3,
                version: 1,
                correlation_id: -2
            }
        );
    }

    #[test]
    fn the_client_id_keeps_its_16_bit_length_in_flexible_headers() {
        for spec in &APIS {
            for version in spec.served_min..=spec.max {
                for client_id in [None, Some(""), Some("kcat")] {
                    check_header(spec, version, client_id);
                }
            }
        }
    }

    fn check_header(spec: &ApiSpec, version: i16, client_id: Option<&'static str>) {
        let header = RequestHeader::default()
            .with_request_api_key(spec.api.key())
            .with_request_api_version(version)
            .with_correlation_id(i32::MIN)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        let key = ApiKey::try_from(spec.api.key()).unwrap();
        let mut buf = BytesMut::new();
        header
            .encode(&mut buf, key.request_header_version(version))
            .unwrap();
        buf.put_slice(b"body");
        let mut frame = buf.freeze();
        let whole = frame.clone();
        let start = RequestStart::take(&mut frame).unwrap();
        assert_eq!(start.correlation_id, i32::MIN);
        let read = take_client_id(&mut frame, spec, version).unwrap();
        assert_eq!(read.as_deref(), client_id.map(str::as_bytes));
        assert_eq!(&frame[..], b"body");
        for cut in 8..whole.len() - 4 {
            let mut frame = whole.slice(8..cut);
            assert!(
                take_client_id(&mut frame, spec, version).is_err(),
                "{spec:?} {version} {cut}"
            );
        }
    }

    #[test]
    fn tagged_fields_of_a_header_are_skipped() {
        // Null client id; two tagged fields: 0 of two bytes, 300 of none.
        let mut frame = Bytes::from_static(&[0xff, 0xff, 2, 0, 2, 9, 9, 0xac, 0x02, 0, b'x']);
        assert_eq!(take_client_id(&mut frame, spec(Api::Produce), 9), Ok(None));
        assert_eq!(&frame[..], b"x");
    }

    #[test]
    fn a_header_of_many_tagged_fields_is_refused() {
        let mut bytes = vec![0xff, 0xff, 0x80, 0x80, 0x80, 0x05]; // ten million
        bytes.extend(std::iter::repeat_n(0, 1_000));
        let mut frame = Bytes::from(bytes);
        let refused = take_client_id(&mut frame, spec(Api::Produce), 9);
        assert_eq!(
            refused,
            Err(FrameError::Shape(ShapeError::TooManyTags(10_485_760)))
        );
    }

    #[test]
    fn api_versions_is_answered_without_tagged_fields_in_the_header() {
        let answer = |api, version| begin_answer(spec(api), version, 7, 0).len();
        assert_eq!(answer(Api::ApiVersions, 3), 8);
        assert_eq!(answer(Api::ApiVersions, 0), 8);
        assert_eq!(answer(Api::Metadata, 8), 8);
        assert_eq!(answer(Api::Metadata, 9), 9);
    }

    #[test]
    fn the_length_of_an_answer_counts_every_piece() {
        let head = begin_answer(spec(Api::Fetch), 11, 1, 0);
        let frame = end_answer(head, vec![Bytes::from_static(b"abc"), Bytes::new()]).unwrap();
        assert_eq!(
            &frame.concat()[..],
            &[0, 0, 0, 7, 0, 0, 0, 1, b'a', b'b', b'c']
        );
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
            piece in 1usize..50,
        ) {
            let mut wire = Vec::new();
            for body in &bodies {
                wire.extend(i32::try_from(body.len()).unwrap().to_be_bytes());
                wire.extend(body);
            }
            let mut buf = BytesMut::new();
            let mut read = Vec::new();
            for piece in wire.chunks(piece) {
                buf.extend_from_slice(piece);
                while let Some(frame) = take_frame(&mut buf, MAX).unwrap() {
                    read.push(frame.to_vec());
                }
            }
            prop_assert_eq!(read, bodies);
            prop_assert!(buf.is_empty());
        }

        #[test]
        fn no_bytes_make_a_header_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), api in 0..APIS.len()) {
            let spec = &APIS[api];
            let mut frame = Bytes::from(bytes);
            if RequestStart::take(&mut frame).is_ok() {
                let _ = take_client_id(&mut frame, spec, spec.max);
            }
        }
    }
}
