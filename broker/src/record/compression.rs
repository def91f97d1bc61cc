//! The codecs, both ways. Decompression streams and stops at the caller's limit.
//!
//! Snappy comes in two shapes: one raw block (librdkafka, Go), or Java's xerial framing, which is
//! also what is written here since every client reads it:
//!
//! ```text
//! 0x82 "SNAPPY" 0x00 | version i32 = 1 | oldest reader i32 = 1 | { length i32 | raw block }...
//! ```

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::{Compression, RecordError};

const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\x00";
const XERIAL_HEADER_BYTES: usize = 16;
/// Uncompressed bytes in one xerial block, as Java writes them.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy turns 3 bytes into at most 64, so a block claiming more than this is damaged.
const SNAPPY_RATIO_MAX: usize = 22;
/// Output is taken in steps of this many bytes.
const STEP_BYTES: usize = 64 * 1024;
/// RFC 8878 asks every reader to support windows of 8 MiB.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// zstd's own limit for readers.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Compresses `body`.
pub(super) fn compress(compression: Compression, body: &[u8]) -> Vec<u8> {
    const IN_MEMORY: &str = "writing to memory does not fail";
    match compression {
        Compression::None => body.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Compression::Snappy => compress_xerial(body),
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(body).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Compression::Zstd => {
            zstd::stream::encode_all(body, zstd::DEFAULT_COMPRESSION_LEVEL).expect(IN_MEMORY)
        }
    }
}

fn compress_xerial(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + body.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in body.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder
            .compress_vec(block)
            .expect("a block of 32 KiB can be compressed");
        let len = u32::try_from(block.len()).expect("a compressed block of 32 KiB is small");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

/// Decompresses `body`, to at most `bytes_max` bytes.
pub(super) fn decompress(
    compression: Compression,
    body: &Bytes,
    bytes_max: usize,
) -> Result<Bytes, RecordError> {
    let out = match compression {
        Compression::None if body.len() > bytes_max => {
            return Err(RecordError::TooLarge { max: bytes_max });
        }
        Compression::None => return Ok(body.clone()),
        Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&body[..]), bytes_max)?,
        Compression::Snappy if body.starts_with(XERIAL_MAGIC) => {
            decompress_xerial(body, bytes_max)?
        }
        Compression::Snappy => {
            let mut out = Vec::new();
            decompress_snappy(body, bytes_max, &mut out)?;
            out
        }
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&body[..]), bytes_max)?,
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(damaged)?;
            let window = usize::BITS - bytes_max.saturating_sub(1).leading_zeros();
            decoder
                .window_log_max(window.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX))
                .map_err(damaged)?;
            read_bounded(decoder, bytes_max)?
        }
    };
    Ok(Bytes::from(out))
}

fn read_bounded(mut reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, RecordError> {
    let mut out = Vec::new();
    loop {
        // One byte more than allowed, so that the end and the limit can be told apart.
        let room = (bytes_max - out.len()).saturating_add(1).min(STEP_BYTES);
        let filled = out.len();
        out.resize(filled + room, 0);
        let count = loop {
            match reader.read(&mut out[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(damaged)?,
            }
        };
        out.truncate(filled + count);
        if count == 0 {
            return Ok(out);
        }
        if out.len() > bytes_max {
            return Err(RecordError::TooLarge { max: bytes_max });
        }
    }
}

fn decompress_xerial(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, RecordError> {
    const CUT: RecordError = RecordError::Malformed("the xerial framing is cut short");
    let mut rest = body.get(XERIAL_HEADER_BYTES..).ok_or(CUT)?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| CUT)?;
        let block = after.get(..len).ok_or(CUT)?;
        decompress_snappy(block, bytes_max - out.len(), &mut out).map_err(|error| match error {
            RecordError::TooLarge { .. } => RecordError::TooLarge { max: bytes_max },
            other => other,
        })?;
        rest = &after[len..];
    }
    Ok(out)
}

/// Appends one raw block, decompressed, to `out`.
fn decompress_snappy(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let len = snap::raw::decompress_len(block).map_err(damaged)?;
    if len > bytes_max {
        return Err(RecordError::TooLarge { max: bytes_max });
    }
    if len > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(RecordError::Malformed(
            "a snappy block claims more than it can hold",
        ));
    }
    let filled = out.len();
    out.resize(filled + len, 0);
    let count = snap::raw::Decoder::new()
        .decompress(block, &mut out[filled..])
        .map_err(damaged)?;
    out.truncate(filled + count);
    Ok(())
}

fn damaged(error: impl std::fmt::Display) -> RecordError {
    RecordError::Decompress(error.to_string())
}
