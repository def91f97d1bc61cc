//! `braidlog group`: consumer groups, how far they are, and moving them to another place.

mod delete;
mod describe;
mod list;
mod members;
mod progress;
mod seek;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use super::Context;
use super::failure::Failure;
use super::position::Position;
use super::session::{ServerArguments, Session};

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// List groups
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show a group's state, its members and what they are assigned, and how far it lags
    Describe {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        group: String,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Move a group without members to another place, by committing offsets for it
    #[command(group(clap::ArgGroup::new("target").required(true)))]
    Seek {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        group: String,
        /// Where it goes on: start, end, an offset, or @TIME
        #[arg(long, value_name = "POSITION", group = "target")]
        to: Option<Position>,
        /// So many records on, or back when negative; no further than start and end
        #[arg(
            long,
            value_name = "N",
            group = "target",
            allow_negative_numbers = true
        )]
        by: Option<i64>,
        /// Only these topics; all that it has offsets of when none is given
        #[arg(long, value_name = "TOPIC")]
        topic: Vec<String>,
        /// Only this partition of the topic
        #[arg(long, value_name = "N", requires = "topic")]
        partition: Option<i32>,
        /// Only show what would be committed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Delete groups without members, or a group's offsets of some topics
    Delete {
        /// Their names
        #[arg(required = true, value_parser = NonEmptyStringValueParser::new())]
        groups: Vec<String>,
        /// Only its offsets of this topic, which no member may be subscribed to
        #[arg(long, value_name = "TOPIC")]
        offsets: Vec<String>,
        #[command(flatten)]
        server: ServerArguments,
    },
}

pub(super) async fn run(command: GroupCommand, context: &mut Context) -> Result<(), Failure> {
    match command {
        GroupCommand::List { server } => {
            let mut session = Session::open(&server, &context.clock).await?;
            list::list(&mut session, context).await
        }
        GroupCommand::Describe { group, server } => {
            let mut session = Session::open(&server, &context.clock).await?;
            describe::describe(&mut session, &group, context).await
        }
        GroupCommand::Seek {
            group,
            to,
            by,
            topic,
            partition,
            dry_run,
            server,
        } => {
            let target = match (to, by) {
                (Some(position), _) => seek::Target::To(position),
                (None, by) => seek::Target::By(by.expect("clap wants one of both")),
            };
            let seek = seek::Seek {
                group,
                target,
                topics: topic,
                partition,
                dry_run,
            };
            let mut session = Session::open(&server, &context.clock).await?;
            seek::seek(&mut session, &seek, context).await
        }
        GroupCommand::Delete {
            groups,
            offsets,
            server,
        } => {
            let mut session = Session::open(&server, &context.clock).await?;
            match groups.as_slice() {
                groups if offsets.is_empty() => delete::groups(&mut session, groups, context).await,
                [group] => delete::offsets(&mut session, group, &offsets, context).await,
                _ => Err(delete::one_group_only()),
            }
        }
    }
}
