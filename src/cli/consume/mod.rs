//! `braidlog consume`: reads a topic from a place on, until told to stop; alone, or as a member of a
//! group.

mod grouped;
mod member;
mod printer;
mod range;
mod reader;

use std::collections::BTreeMap;

use super::Context;
use super::failure::Failure;
use super::output::Format;
use super::position::Position;
use super::session::{ServerArguments, Session};
use super::topic::{counted, only_partition};

use printer::Printer;
use reader::Reader;

#[derive(Debug, clap::Args)]
pub(super) struct ConsumeArguments {
    /// The topic
    topic: String,
    /// Where to begin: start, end, an offset, or @TIME; in a group, where nothing is committed
    #[arg(long, value_name = "POSITION", default_value = "end")]
    from: Position,
    /// Share the partitions with the other members of this group, go on where it was, and commit
    /// what was printed
    #[arg(
        short,
        long,
        value_name = "GROUP",
        conflicts_with = "partition",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    group: Option<String>,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Read this partition only
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Stop at the end as it is now, instead of waiting for more
    #[arg(short, long)]
    exit_at_end: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: ConsumeArguments, context: &mut Context) -> Result<(), Failure> {
    let mut printer = Printer::new(&arguments.topic, arguments.count);
    let result = match &arguments.group {
        Some(group) => grouped::read(&arguments, group, &mut printer, context).await,
        // Dropping the reading half-way is safe: what is lost is only a question on its way.
        None => tokio::select! {
            result = read(&arguments, &mut printer, context) => result,
            signal = tokio::signal::ctrl_c() => signal.map_err(Failure::from),
        },
    };
    context.output.flush()?;
    result?;
    if context.output.format() == Format::Table {
        eprint_line(&counted(printer.printed(), "record"));
    }
    Ok(())
}

/// Something the reader of the records should know.
fn note(text: &str) {
    eprint_line(&format!("note: {text}"));
}

/// Writes to standard error; results stay alone on standard output.
fn eprint_line(line: &str) {
    use std::io::Write;
    // Nothing depends on it being read.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

async fn read(
    arguments: &ConsumeArguments,
    printer: &mut Printer,
    context: &mut Context,
) -> Result<(), Failure> {
    if printer.is_done() {
        return Ok(());
    }
    let mut session = Session::open(&arguments.server, &context.clock).await?;
    let topic = session.led_topic(&arguments.topic).await?;
    let topic = only_partition(&session, topic, arguments.partition)?;
    let mut reader = Reader::begin(
        &mut session,
        topic,
        &BTreeMap::new(),
        arguments.from,
        arguments.exit_at_end,
    )
    .await?;
    printer.heading(&mut context.output)?;
    context.output.flush()?;
    while !printer.is_done() && !reader.is_at_end() {
        for fetched in reader.fetch(&mut session).await? {
            reader.take(&session, &fetched, printer, &mut context.output)?;
        }
        context.output.flush()?;
    }
    Ok(())
}
