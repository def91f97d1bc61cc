//! `braidlog debug segment`: what segment files hold and whether they are intact. Reads only.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};
use storage::batch::BatchHeader;
use storage::disk::Disk;
use storage::verify::{
    DumpedBatch, IndexReport, SegmentReport, dump_segment, segment_files, verify_segment,
};

use super::Context;
use super::failure::{Failure, Kind};
use super::output::{Format, Table};
use super::time::format_utc;

/// A data directory is `partitions/<partition>/<segment>`.
const DIRECTORY_DEPTH_MAX: usize = 3;

#[derive(Debug, Subcommand)]
pub(super) enum SegmentCommand {
    /// Print every batch
    Dump {
        /// A segment, or a directory of them
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
    },
    /// Check every batch and index; exit code 1 when anything is damaged
    Verify {
        /// A segment, or a directory of them
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
    },
}

pub(super) fn run(command: &SegmentCommand, context: &mut Context) -> Result<(), Failure> {
    match command {
        SegmentCommand::Dump { path } => dump(&files(path)?, context),
        SegmentCommand::Verify { path } => verify(&files(path)?, context),
    }
}

/// The segments at a path, or below it.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Failed,
        };
        Failure::new(kind, format!("cannot read {}: {error}", path.display()))
    };
    if !Disk::Real.exists(path).map_err(unreadable)? {
        return Err(unreadable(std::io::ErrorKind::NotFound.into())
            .help("partition logs are in the directory `partitions` of a data directory"));
    }
    let mut found = Vec::new();
    collect(path, DIRECTORY_DEPTH_MAX, &mut found).map_err(unreadable)?;
    if found.is_empty() {
        return Err(
            Failure::new(Kind::NotFound, format!("no segments in {}", path.display()))
                .help("partition logs are in the directory `partitions` of a data directory"),
        );
    }
    Ok(found)
}

fn collect(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    found.extend(segment_files(&Disk::Real, path)?);
    if depth > 0 {
        for entry in Disk::Real
            .read_dir(path)?
            .iter()
            .filter(|entry| entry.is_dir)
        {
            collect(&path.join(&entry.name), depth - 1, found)?;
        }
    }
    Ok(())
}

fn dump(files: &[PathBuf], context: &mut Context) -> Result<(), Failure> {
    let mut damaged = None;
    for file in files {
        let mut written = Ok(());
        if context.output.format() == Format::Table {
            context.output.line(&format!("{}", file.display()))?;
            context.output.line(DUMP_HEADINGS)?;
        }
        let output = &mut context.output;
        let result = dump_segment(&Disk::Real, file, &mut |batch| {
            if written.is_ok() {
                written = match output.format() {
                    Format::Table => output.line(&batch_line(&batch)),
                    Format::Json => output.json(&batch_json(file, &batch)),
                };
            }
        });
        written?;
        if let Err(error) = result {
            damaged.get_or_insert(Failure::new(Kind::Failed, error.to_string()));
        }
    }
    damaged.map_or(Ok(()), Err)
}

const DUMP_HEADINGS: &str = "  POSITION      OFFSET  RECORDS   BYTES  EPOCH  CODEC   PRODUCER      \
                             SEQUENCE  CRC  MAX TIMESTAMP";

fn batch_line(batch: &DumpedBatch) -> String {
    let header = &batch.header;
    let producer = match header.producer_id {
        -1 => "-".to_owned(),
        id => format!("{id}/{}", header.producer_epoch),
    };
    let sequence = match header.base_sequence {
        -1 => "-".to_owned(),
        sequence => sequence.to_string(),
    };
    format!(
        "{:>10}  {:>10}  {:>7}  {:>6}  {:>5}  {:<6}  {producer:<12}  {sequence:>8}  {:<3}  {}{}",
        batch.position,
        header.base_offset,
        header.record_count,
        header.total_bytes(),
        header.partition_leader_epoch,
        codec(header),
        if batch.crc_matches { "ok" } else { "BAD" },
        format_utc(header.max_timestamp),
        flags(header)
            .iter()
            .map(|flag| format!(" {flag}"))
            .collect::<String>(),
    )
}

fn batch_json(file: &Path, batch: &DumpedBatch) -> Value {
    let header = &batch.header;
    json!({
        "file": file,
        "position": batch.position,
        "bytes": header.total_bytes(),
        "base_offset": header.base_offset,
        "last_offset": header.base_offset.saturating_add(i64::from(header.last_offset_delta)),
        "records": header.record_count,
        "leader_epoch": header.partition_leader_epoch,
        "codec": codec(header),
        "base_timestamp_ms": header.base_timestamp,
        "max_timestamp_ms": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "flags": flags(header),
        "crc": header.crc,
        "crc_ok": batch.crc_matches,
    })
}

fn codec(header: &BatchHeader) -> &'static str {
    use storage::batch::Compression;
    match header.compression() {
        Ok(Compression::None) => "none",
        Ok(Compression::Gzip) => "gzip",
        Ok(Compression::Snappy) => "snappy",
        Ok(Compression::Lz4) => "lz4",
        Ok(Compression::Zstd) => "zstd",
        Err(_) => "?",
    }
}

fn flags(header: &BatchHeader) -> Vec<&'static str> {
    use storage::batch::TimestampType;
    [
        (header.is_transactional(), "transactional"),
        (header.is_control(), "control"),
        (
            header.timestamp_type() == TimestampType::LogAppendTime,
            "log-append-time",
        ),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn verify(files: &[PathBuf], context: &mut Context) -> Result<(), Failure> {
    let mut damaged = 0;
    let mut table = Table::new(&[
        "FILE", "BATCHES", "RECORDS", "OFFSETS", "BYTES", "INDEX", "STATE",
    ]);
    for file in files {
        let report = verify_segment(&Disk::Real, file)
            .map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
        damaged += usize::from(report.damage.is_some());
        match context.output.format() {
            Format::Json => context.output.json(&report_json(&report))?,
            Format::Table => table.row(vec![
                file.display().to_string(),
                report.batches.to_string(),
                report.records.to_string(),
                format!("{}..{}", report.base, report.end),
                report.file_bytes.to_string(),
                index(&report.index),
                report.damage.as_ref().map_or("ok".to_owned(), |damage| {
                    format!(
                        "DAMAGED at byte {}: expected {}, found {}",
                        damage.position, damage.expected, damage.found
                    )
                }),
            ]),
        }
    }
    if context.output.format() == Format::Table {
        context.output.table(&table)?;
    }
    if damaged == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Failed,
        format!("{damaged} of {} segments are damaged", files.len()),
    )
    .help(
        "what a crash cut off the end of the newest segment is restored from the journal when \
             the node starts; damage anywhere else is not",
    ))
}

fn index(report: &IndexReport) -> String {
    match report {
        IndexReport::Missing => "none".to_owned(),
        IndexReport::Intact { entries, .. } => format!("ok ({entries})"),
        IndexReport::Damaged { .. } => "to be rebuilt".to_owned(),
    }
}

fn report_json(report: &SegmentReport) -> Value {
    json!({
        "file": report.file,
        "base_offset": report.base.0,
        "end_offset": report.end.0,
        "file_bytes": report.file_bytes,
        "intact_bytes": report.bytes,
        "batches": report.batches,
        "records": report.records,
        "max_timestamp_ms": report.max_timestamp,
        "index": match &report.index {
            IndexReport::Missing => "missing",
            IndexReport::Intact { .. } => "intact",
            IndexReport::Damaged { .. } => "damaged",
        },
        "ok": report.damage.is_none(),
        "damage": report.damage.as_ref().map(|damage| json!({
            "position": damage.position,
            "expected": damage.expected,
            "found": damage.found,
        })),
    })
}
