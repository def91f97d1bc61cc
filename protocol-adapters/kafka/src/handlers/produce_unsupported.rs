//! Produce, key 0, versions 0–2: refused with `UNSUPPORTED_VERSION`, in their own format.
//!
//! These versions carry message sets of formats before v2, which nobody stores any more, but they
//! are advertised (see [`crate::api_versions`]). The protocol crate does not know them, so that the
//! few fields of the answer are written by hand.
//!
//! ```text
//! request  acks:i16 timeout:i32 [topic:string [partition:i32 records:bytes]]
//! answer   [topic:string [partition:i32 error:i16 base offset:i64 (v2: append time:i64)]]
//!          (v1, v2: throttle time:i32)
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::{Call, RequestError};
use crate::codec::{self, FrameError};
use crate::session::Outcome;
use crate::shape;

pub(super) fn answer(call: Call, mut body: Bytes) -> Result<Outcome, RequestError> {
    shape::check(call.spec, call.version, &body).map_err(FrameError::from)?;
    // The shape holds, so that every read below finds its bytes.
    let acks = body.get_i16();
    let _timeout_ms = body.get_i32();
    if acks == 0 {
        return Ok(Outcome::Close); // there is no answer that could carry the error
    }
    let mut buf = codec::begin_answer(call.spec, call.version, call.correlation_id, 256);
    copy_array(&mut body, &mut buf, |body, buf| {
        let name = body.get_i16();
        buf.put_i16(name);
        buf.put(body.split_to(usize::try_from(name).unwrap_or(0)));
        copy_array(body, buf, |body, buf| {
            buf.put_i32(body.get_i32());
            let records = usize::try_from(body.get_i32()).unwrap_or(0);
            body.advance(records);
            buf.put_i16(ResponseError::UnsupportedVersion.code());
            buf.put_i64(-1); // base offset
            if call.version >= 2 {
                buf.put_i64(-1); // append time
            }
        });
    });
    if call.version >= 1 {
        buf.put_i32(0); // throttle time
    }
    Ok(call.finish(buf, Vec::new()))
}

/// Writes one element for each that is read. A null array becomes an empty one.
fn copy_array(body: &mut Bytes, buf: &mut BytesMut, element: impl Fn(&mut Bytes, &mut BytesMut)) {
    let count = body.get_i32().max(0);
    buf.put_i32(count);
    for _ in 0..count {
        element(body, buf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_versions::ApiSpec;

    fn request(acks: i16) -> Bytes {
        let mut body = BytesMut::new();
        body.put_i16(acks);
        body.put_i32(1_000);
        body.put_i32(1);
        body.put_i16(1);
        body.put_slice(b"t");
        body.put_i32(2);
        for partition in [0, 7] {
            body.put_i32(partition);
            body.put_i32(3);
            body.put_slice(b"abc");
        }
        body.freeze()
    }

    fn call(version: i16) -> Call {
        Call {
            spec: ApiSpec::of_key(0).unwrap(),
            version,
            correlation_id: 5,
        }
    }

    #[test]
    fn every_partition_is_refused_in_the_format_of_its_version() {
        for version in 0..=2 {
            let Outcome::Answer(frame) = answer(call(version), request(-1)).unwrap() else {
                panic!("version {version} is not answered")
            };
            let mut frame = Bytes::from(frame.concat());
            assert_eq!(usize::try_from(frame.get_i32()).unwrap(), frame.len());
            assert_eq!(frame.get_i32(), 5);
            assert_eq!((frame.get_i32(), frame.get_i16()), (1, 1));
            assert_eq!(frame.split_to(1), "t");
            assert_eq!(frame.get_i32(), 2);
            for partition in [0, 7] {
                assert_eq!((frame.get_i32(), frame.get_i16()), (partition, 35));
                assert_eq!(frame.get_i64(), -1);
                if version >= 2 {
                    assert_eq!(frame.get_i64(), -1);
                }
            }
            if version >= 1 {
                assert_eq!(frame.get_i32(), 0);
            }
            assert!(frame.is_empty());
        }
    }

    #[test]
    fn without_acks_the_connection_is_closed() {
        assert_eq!(answer(call(2), request(0)).unwrap(), Outcome::Close);
    }

    #[test]
    fn every_cut_is_refused() {
        let whole = request(1);
        for cut in 0..whole.len() {
            assert!(answer(call(1), whole.slice(..cut)).is_err(), "{cut}");
        }
    }

    #[test]
    fn null_names_arrays_and_records_are_survived() {
        let mut body = BytesMut::new();
        body.put_i16(1);
        body.put_i32(0);
        body.put_i32(1);
        body.put_i16(-1);
        body.put_i32(1);
        body.put_i32(0);
        body.put_i32(-1);
        assert!(matches!(
            answer(call(0), body.freeze()),
            Ok(Outcome::Answer(_))
        ));
    }
}
