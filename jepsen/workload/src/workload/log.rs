//! The workload `log`: clients send to partitions and poll them.
//!
//! A client is a row of processes, one after the other: after an outcome that is not known it goes
//! on as a new process with a new client, so that no process has two operations open.

use std::cell::RefCell;
use std::time::Duration;

use jepsen_check::history::{Key, Op, Process};
use tokio::time::{Instant, sleep};

use crate::book::Book;
use crate::client::{Client, ClientOptions, Polled, Sent};
use crate::generator::{Action, Generator};
use crate::random::Random;
use crate::run::Factory;
use crate::world::World;

/// One client of the workload, until `until`.
pub(crate) struct LogClient<'a, W> {
    /// Where it writes down what it does.
    pub book: &'a Book<'a, W>,
    /// Makes its clients.
    pub factory: &'a Factory<'a, W>,
    /// Says what it does.
    pub generator: &'a RefCell<Generator>,
    /// Which one it is.
    pub number: u32,
    /// Draws its pauses, and what its clients draw.
    pub random: Random,
    /// The mean of its pauses.
    pub pause: Duration,
}

/// A process with its client.
pub(crate) struct Session {
    pub process: Process,
    pub client: Client,
    pub idempotent: bool,
}

impl<W: World> LogClient<'_, W> {
    /// Works until then; an operation that is under way is finished.
    pub(crate) async fn work(mut self, until: Instant) {
        let mut session = self.session();
        loop {
            sleep(pause(&mut self.random, self.pause)).await;
            if Instant::now() >= until {
                return;
            }
            let addresses = self.book.world().kafka_addresses(self.number);
            session.client.set_addresses(addresses);
            let action = self.generator.borrow_mut().next(session.client.positions());
            let goes_on = match action {
                Action::Send { key, values } => {
                    let sent = send(self.book, &mut session, &key, values).await;
                    if let Some((values, offset)) = sent.acknowledged {
                        self.generator.borrow_mut().sent(&key, &values, offset);
                    }
                    sent.goes_on
                }
                Action::Poll => poll(self.book, &mut session, self.generator).await,
                Action::Assign(positions) => {
                    assign(self.book, &mut session, positions);
                    true
                }
                Action::Crash => {
                    self.book.invoke(session.process, Op::Crash);
                    let process = session.process;
                    session = Session {
                        process,
                        ..self.session()
                    };
                    self.book.ok(process, Op::Crash);
                    true
                }
            };
            if !goes_on {
                session = self.session();
            }
        }
    }

    fn session(&mut self) -> Session {
        let idempotent = self.random.chance(2, 3);
        let random = self.random.fork(2);
        let mut options = ClientOptions::of(self.factory.settings(), idempotent);
        if self.random.chance(1, 4) {
            let impatient_ms = self.random.pick(&[15, 50, 200]).copied().unwrap_or(50);
            options.patience = options.patience.min(Duration::from_millis(impatient_ms));
        }
        let client = self.factory.make(self.number, options, random);
        Session {
            process: self.book.process(),
            client,
            idempotent,
        }
    }
}

/// What came of a recorded send.
pub(crate) struct SendOutcome {
    /// The values and the offset of the first.
    pub acknowledged: Option<(Vec<u64>, i64)>,
    /// Whether the process may go on.
    pub goes_on: bool,
}

/// Sends new values, and writes it down.
pub(crate) async fn send<W: World>(
    book: &Book<'_, W>,
    session: &mut Session,
    key: &Key,
    count: usize,
) -> SendOutcome {
    let values = book.values(count.min(session.client.values_max()));
    let op = |offset| Op::Send {
        key: key.clone(),
        values: values.clone(),
        idempotent: session.idempotent,
        offset,
    };
    book.invoke(session.process, op(None));
    match session.client.send(key, &values).await {
        Sent::Ok(offset) => {
            book.ok(session.process, op(Some(offset)));
            SendOutcome {
                acknowledged: Some((values, offset)),
                goes_on: true,
            }
        }
        Sent::Fail(why) => {
            book.fail(session.process, op(None), why);
            SendOutcome {
                acknowledged: None,
                goes_on: true,
            }
        }
        Sent::Info(why) => {
            book.info(session.process, op(None), why);
            SendOutcome {
                acknowledged: None,
                goes_on: false,
            }
        }
    }
}

/// Polls, and writes it down. Answers whether the process may go on.
pub(crate) async fn poll<W: World>(
    book: &Book<'_, W>,
    session: &mut Session,
    generator: &RefCell<Generator>,
) -> bool {
    let nothing = Op::Poll { reads: Vec::new() };
    book.invoke(session.process, nothing.clone());
    match session.client.poll().await {
        Polled::Ok(reads) => {
            generator.borrow_mut().polled(&reads);
            book.ok(session.process, Op::Poll { reads });
            true
        }
        Polled::Fail(why) => {
            book.fail(session.process, nothing, why);
            true
        }
        Polled::Damaged(why) => {
            book.info(session.process, nothing, format!("damaged: {why}"));
            false
        }
    }
}

/// Assigns, and writes it down.
pub(crate) fn assign<W: World>(
    book: &Book<'_, W>,
    session: &mut Session,
    positions: Vec<(Key, i64)>,
) {
    book.invoke(
        session.process,
        Op::Assign {
            positions: positions.clone(),
        },
    );
    session.client.assign(&positions);
    book.ok(session.process, Op::Assign { positions });
}

/// A pause of this mean.
pub(crate) fn pause(random: &mut Random, mean: Duration) -> Duration {
    let most_us = u64::try_from(mean.as_micros() * 2)
        .unwrap_or(u64::MAX)
        .max(1);
    Duration::from_micros(random.below(most_us))
}
