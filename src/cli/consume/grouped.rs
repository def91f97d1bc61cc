//! Reading as a member of a group: what was printed is committed, so that no record is skipped; one
//! may come twice when a member goes between the two.

use std::time::Duration;

use super::ConsumeArguments;
use super::member::Member;
use super::printer::Printer;
use super::reader::Reader;
use crate::cli::Context;
use crate::cli::failure::{Failure, Kind};
use crate::cli::position::Position;
use crate::cli::session::Session;

/// Pause of a member that was assigned nothing, before it listens to its group again.
const IDLE_PAUSE: Duration = Duration::from_millis(200);

/// Joins, reads until told to stop, leaves.
pub(super) async fn read(
    arguments: &ConsumeArguments,
    group: &str,
    printer: &mut Printer,
    context: &mut Context,
) -> Result<(), Failure> {
    if matches!(arguments.from, Position::Offset(_)) {
        return Err(Failure::new(
            Kind::Usage,
            "a member of a group begins where the group was, not at an offset",
        )
        .help("move the group first with `braidlog group seek`"));
    }
    if printer.is_done() {
        return Ok(());
    }
    let mut session = Session::open(&arguments.server, &context.clock).await?;
    let mut member = Member::find(&mut session, group, &arguments.topic).await?;
    printer.heading(&mut context.output)?;
    context.output.flush()?;
    // What is dropped half-way was not committed, and the next member prints it again.
    let result = tokio::select! {
        result = take_part(arguments, &mut session, &mut member, printer, context) => result,
        signal = tokio::signal::ctrl_c() => signal.map_err(Failure::from),
    };
    member.leave(&mut session).await;
    result
}

async fn take_part(
    arguments: &ConsumeArguments,
    session: &mut Session,
    member: &mut Member,
    printer: &mut Printer,
    context: &mut Context,
) -> Result<(), Failure> {
    loop {
        let assigned = member.join(session).await?;
        let mut topic = session.led_topic(&arguments.topic).await?;
        let is_mine = |index: i32| assigned.contains(&index);
        topic
            .partitions
            .retain(|partition| is_mine(partition.index));
        let known = member.committed(session).await?;
        let (from, exit) = (arguments.from, arguments.exit_at_end);
        let mut reader = Reader::begin(session, topic, &known, from, exit).await?;
        // First of all where it begins, so that whoever comes next does not begin further on.
        while member.commit(session, reader.positions()).await? {
            if printer.is_done() || reader.is_at_end() {
                return Ok(());
            }
            if !member.stays(session).await? {
                break;
            }
            if reader.is_idle() {
                tokio::time::sleep(IDLE_PAUSE).await;
                continue;
            }
            for fetched in reader.fetch(session).await? {
                reader.take(session, &fetched, printer, &mut context.output)?;
            }
            context.output.flush()?;
        }
    }
}
