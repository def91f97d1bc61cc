//! The instance that leads: one task that owns it, calls it, appends and answers.
//!
//! It begins as a copy of the follower's instance once that has replayed all that was committed when
//! the node began to serve, and ends when anything is not as it should be: another leader, an append
//! that was refused or whose end is not known, a log that somebody else has written to. Then everybody
//! who waits is told so, and if the node still leads another instance begins.
//!
//! While the disk has no room an instance is closed: what might append is refused at once, timers and
//! news wait, and what only reads is answered as ever. When there is room again the timers go on with
//! the time that they had left.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{Coordinator, Effects, ReplyId};
use raft::{Pending, ProposeError};
use storage::{Offset, PartitionId};
use tokio::sync::mpsc;

use super::batch::batch_of;
use super::desks::Asked;
use super::follower::Committed;
use super::reads::Reads;
use super::reign::Reign;
use super::replies::Reply;
use super::time::SteadyClock;
use super::timers::Timers;
use super::{Command, Context, CoordinatorError, Coordinators, Kind, Response};
use crate::Broker;
use crate::partition::machine::Outcome;
use crate::partition::op::PartitionOp;

/// Batches that may be on their way; nothing is called while there are more.
const IN_FLIGHT_MAX: usize = 256;
/// Bytes of them.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Pauses between instances that end early.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// An instance that has led for so long has not ended early.
const EARLY_MS_MAX: i64 = 10_000;
/// How often a closed instance looks whether the disk has room again.
const CLOSED_PAUSE: Duration = Duration::from_millis(500);
/// Pause before it is asked again whether the catalogue here is current.
const CURRENT_PAUSE: Duration = Duration::from_millis(500);
/// The longest sleep; a timer that is due later is looked at again.
const SLEEP_MS_MAX: i64 = 3_600_000;

/// Why an instance ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the node does not lead any more, or others have written to the log")]
    Over,
    #[error("an append was refused: {0}")]
    NotAppended(ProposeError),
    #[error("an append came to {0:?}")]
    Refused(Outcome),
    #[error("the leadership could not be confirmed: {0}")]
    Unconfirmed(ProposeError),
    #[error("the broker stops")]
    Stopped,
}

/// Leads the partition whenever this node does, until it is dropped.
pub(super) async fn lead_forever<K: Kind>(
    broker: Broker,
    all: Arc<Coordinators<K>>,
    id: PartitionId,
    committed: Arc<Committed<K::State>>,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let (reign, end) = broker.next_reign(id).await;
        let Some((state, next)) = caught_up(&broker, &reign, end, &committed).await else {
            tokio::time::sleep(PAUSE_MIN).await;
            continue;
        };
        let began_ms = broker.inner.clock.monotonic_ms();
        tracing::debug!(partition = %id, next = %next, "a coordinator leads");
        let ended = Leading::new(&broker, &all, reign, (state, next))
            .run()
            .await;
        tracing::info!(partition = %id, reason = %ended, "a coordinator resigned");
        let led_ms = broker.inner.clock.monotonic_ms().saturating_sub(began_ms);
        if led_ms > EARLY_MS_MAX {
            pause = PAUSE_MIN;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A copy of the follower's instance once it has come so far; `None` when the node does not lead any
/// more.
async fn caught_up<C: Coordinator>(
    broker: &Broker,
    reign: &Reign,
    end: Offset,
    committed: &Committed<C>,
) -> Option<(C, Offset)> {
    let mut place = committed.watch();
    let mut leadership = reign.watch();
    loop {
        let at = *place.borrow_and_update();
        leadership.borrow_and_update();
        if !broker.still_reigns(reign, Offset(i64::MAX)) {
            return None;
        }
        if at.log == Some(reign.log) && at.next >= end {
            let (state, at) = committed.copy();
            // It may have begun anew meanwhile.
            if at.log == Some(reign.log) && at.next >= end {
                return Some((state, at.next));
            }
        }
        tokio::select! {
            changed = place.changed() => changed.ok()?,
            changed = leadership.changed() => changed.ok()?,
            // A move changes neither.
            () = tokio::time::sleep(PAUSE_MAX) => {}
        }
    }
}

/// A batch on its way, and the answers that are sent when it is committed.
struct InFlight<R> {
    pending: Pending<Outcome>,
    bytes: usize,
    end: Offset,
    answers: Vec<(Reply<R>, R)>,
}

type Barrier = Pin<Box<dyn Future<Output = Result<(), ProposeError>> + Send>>;
type Current = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The instance and all that goes with it.
struct Leading<'a, K: Kind> {
    broker: &'a Broker,
    all: &'a Arc<Coordinators<K>>,
    reign: Reign,
    state: K::State,
    context: Arc<Context<K>>,
    clock: SteadyClock,
    timers: Timers<<K::State as Coordinator>::Timer>,
    replies: HashMap<ReplyId, Reply<Response<K>>>,
    next_reply: u64,
    in_flight: VecDeque<InFlight<Response<K>>>,
    in_flight_bytes: usize,
    /// Batches that were appended, and those of them that are committed.
    appended: u64,
    committed: u64,
    /// Where the log will end when everything in flight is committed.
    end: Offset,
    reads: Reads<Response<K>>,
    barrier: Option<Barrier>,
    /// Since when the disk has no room, as of the last look.
    closed_since_ms: Option<i64>,
}

/// What happened.
enum Event<K: Kind> {
    Asked(Option<Asked<K>>),
    TimerDue,
    Appended(Result<Outcome, ProposeError>),
    Confirmed(Result<(), ProposeError>),
    /// The catalogue is known to be current.
    Current,
    /// Something may be another than it was: who leads, the catalogue, the room on the disk.
    Changed,
    Gone,
}

impl<'a, K: Kind> Leading<'a, K> {
    fn new(
        broker: &'a Broker,
        all: &'a Arc<Coordinators<K>>,
        reign: Reign,
        (state, end): (K::State, Offset),
    ) -> Leading<'a, K> {
        Leading {
            broker,
            all,
            reign,
            state,
            context: all.kind.context(broker),
            clock: SteadyClock::new(broker.inner.clock.clone()),
            timers: Timers::new(),
            replies: HashMap::new(),
            next_reply: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            appended: 0,
            committed: 0,
            end,
            reads: Reads::new(),
            barrier: None,
            closed_since_ms: None,
        }
    }

    /// Leads until something is not as it should be. Everybody who waits then is told.
    async fn run(mut self) -> End {
        let (desk, mut handed_in) = self.all.open_desk(self.reign.log.partition);
        let Err(end) = self.lead(&mut handed_in).await;
        drop(desk);
        handed_in.close();
        while let Ok(asked) = handed_in.try_recv() {
            // Nobody has looked at it.
            let _ = asked.reply.send(Err(CoordinatorError::NotCoordinator));
        }
        // The rest of the replies say that it resigned when they are dropped.
        end
    }

    async fn lead(
        &mut self,
        handed_in: &mut mpsc::Receiver<Asked<K>>,
    ) -> Result<std::convert::Infallible, End> {
        let missing = self.all.kind.missing(&self.state, &self.context);
        self.call(|state, context, now_ms, effects| state.became_leader(context, now_ms, effects))
            .await?;
        let mut current = (!missing.is_empty()).then(|| catalogue_current(self.broker.clone()));
        let mut images = self.broker.inner.images.clone();
        let mut leadership = self.reign.watch();
        loop {
            self.look_for_room();
            let is_closed = self.is_closed();
            let sleep = self.until_timer().filter(|_| !is_closed);
            let has_room = self.has_room();
            let pending = self.in_flight.front_mut().map(|batch| &mut batch.pending);
            let event = tokio::select! {
                outcome = maybe(pending) => Event::Appended(outcome),
                passed = maybe(self.barrier.as_mut()) => Event::Confirmed(passed),
                asked = handed_in.recv(), if has_room => Event::Asked(asked),
                () = tokio::time::sleep(sleep.unwrap_or_default()), if has_room && sleep.is_some() => {
                    Event::TimerDue
                }
                changed = leadership.changed() => changed.map_or(Event::Gone, |()| Event::Changed),
                changed = images.changed() => changed.map_or(Event::Gone, |()| Event::Changed),
                () = tokio::time::sleep(CLOSED_PAUSE), if is_closed => Event::Changed,
                () = maybe(current.as_mut()), if !is_closed => Event::Current,
            };
            match event {
                Event::Asked(asked) => self.ask(asked.ok_or(End::Stopped)?).await?,
                Event::TimerDue => self.fire().await?,
                Event::Appended(outcome) => self.settle(outcome)?,
                Event::Confirmed(passed) => self.confirm(passed)?,
                Event::Current => {
                    current = None;
                    self.forget(&missing).await?;
                }
                Event::Changed => self.look().await?,
                Event::Gone => return Err(End::Stopped),
            }
            if self.barrier.is_none() && self.reads.begin() {
                let shard = self.reign.shard.shard.clone();
                self.barrier = Some(Box::pin(async move { shard.read_barrier().await }));
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// How long until the first timer is due.
    fn until_timer(&mut self) -> Option<Duration> {
        let at_ms = self.timers.next_at_ms()?;
        let left_ms = at_ms.saturating_sub(self.clock.now_ms());
        let left_ms = left_ms.clamp(0, SLEEP_MS_MAX).unsigned_abs();
        Some(Duration::from_millis(left_ms))
    }

    /// Whether the reign lasts, as far as can be seen without asking the others.
    fn check(&self) -> Result<(), End> {
        match self.broker.still_reigns(&self.reign, self.end) {
            true => Ok(()),
            false => Err(End::Over),
        }
    }

    /// Looks at what may have changed.
    async fn look(&mut self) -> Result<(), End> {
        self.check()?;
        match self.is_closed() {
            true => Ok(()),
            false => self.take_news().await,
        }
    }

    /// Looks whether the disk has room for what is appended.
    fn look_for_room(&mut self) {
        let shard = &self.reign.shard.shard;
        let has_room = shard.admits_data() && !self.broker.inner.logs.writer_stalled();
        let now_ms = self.clock.now_ms();
        match self.closed_since_ms {
            None if !has_room => self.closed_since_ms = Some(now_ms),
            Some(since_ms) if has_room => {
                self.closed_since_ms = None;
                self.timers.delay(now_ms.saturating_sub(since_ms));
            }
            _ => {}
        }
    }

    fn is_closed(&self) -> bool {
        self.closed_since_ms.is_some()
    }

    async fn take_news(&mut self) -> Result<(), End> {
        let now = self.all.kind.context(self.broker);
        if Arc::ptr_eq(&now, &self.context) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.context, now);
        for command in self.all.kind.news(&before, &self.context) {
            self.tell(command).await?;
        }
        Ok(())
    }

    async fn forget(&mut self, missing: &BTreeSet<String>) -> Result<(), End> {
        self.take_news().await?;
        match self.all.kind.forget(missing.clone(), &self.context) {
            Some(command) => self.tell(command).await,
            None => Ok(()),
        }
    }

    /// A command of the runtime's own; its answer is not waited for.
    async fn tell(&mut self, command: Command<K>) -> Result<(), End> {
        let reply = self.next_reply();
        self.call(|state, context, now_ms, effects| {
            state.handle(context, command, reply, now_ms, effects);
        })
        .await
    }

    async fn ask(&mut self, asked: Asked<K>) -> Result<(), End> {
        let Asked { command, reply } = asked;
        if let Err(end) = self.look().await {
            // Nobody has looked at it.
            let _ = reply.send(Err(CoordinatorError::NotCoordinator));
            return Err(end);
        }
        if self.is_closed() && K::may_append(&command) {
            let _ = reply.send(Err(CoordinatorError::NotAvailable));
            return Ok(());
        }
        let id = self.next_reply();
        self.replies.insert(id, reply);
        self.call(|state, context, now_ms, effects| {
            state.handle(context, command, id, now_ms, effects);
        })
        .await
    }

    fn next_reply(&mut self) -> ReplyId {
        self.next_reply += 1;
        ReplyId(self.next_reply)
    }

    async fn fire(&mut self) -> Result<(), End> {
        let now_ms = self.clock.now_ms();
        let Some(timer) = self.timers.take_due(now_ms) else {
            return Ok(());
        };
        self.call(|state, context, now_ms, effects| {
            state.timer_fired(context, timer, now_ms, effects);
        })
        .await
    }

    /// Calls the instance and does what it wants done. In the order of the calls everything is
    /// appended; nothing else is called before that.
    async fn call(
        &mut self,
        call: impl FnOnce(&mut K::State, &Context<K>, i64, &mut Effects<K::State>),
    ) -> Result<(), End> {
        let now_ms = self.clock.now_ms();
        let mut effects = Effects::new();
        call(&mut self.state, &self.context, now_ms, &mut effects);
        let (records, answers, timers) = effects.into_parts();
        for record in &records {
            self.state.replay(record);
        }
        self.timers.change(timers);
        let mut sent = Vec::with_capacity(answers.len());
        for (id, response) in answers {
            // The runtime's own commands have nobody who waits.
            if let Some(reply) = self.replies.remove(&id) {
                sent.push((reply, response));
            }
        }
        if records.is_empty() {
            for (reply, response) in sent {
                self.reads.push(self.appended, reply, response);
            }
            return Ok(());
        }
        self.append(&records, now_ms, sent).await
    }

    async fn append(
        &mut self,
        records: &[<K::State as Coordinator>::Record],
        now_ms: i64,
        answers: Vec<(Reply<Response<K>>, Response<K>)>,
    ) -> Result<(), End> {
        let batch = batch_of(records, now_ms);
        let bytes = batch.len();
        let at = self.end;
        let count = i64::try_from(records.len()).expect("a batch has fewer than 2^31 records");
        let op = PartitionOp::AppendAt {
            log: self.reign.log,
            at,
            batch,
        };
        let pending = self.reign.shard.shard.submit(op.encode()).await;
        let pending = pending.map_err(End::NotAppended)?;
        self.end = at.plus(count);
        self.appended += 1;
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight {
            pending,
            bytes,
            end: self.end,
            answers,
        });
        Ok(())
    }

    /// The first batch in flight has come to its end.
    fn settle(&mut self, outcome: Result<Outcome, ProposeError>) -> Result<(), End> {
        let outcome = outcome.map_err(End::NotAppended)?;
        if !matches!(outcome, Outcome::Appended(..)) {
            return Err(End::Refused(outcome));
        }
        let batch = self.in_flight.pop_front().expect("its end was waited for");
        debug_assert!(batch.end <= self.end, "batches end in their order");
        self.in_flight_bytes -= batch.bytes;
        self.committed += 1;
        for (reply, response) in batch.answers {
            // Whoever asked may not wait any more.
            let _ = reply.send(Ok(response));
        }
        self.reads.send(self.committed);
        Ok(())
    }

    /// A barrier has passed, or not.
    fn confirm(&mut self, passed: Result<(), ProposeError>) -> Result<(), End> {
        self.barrier = None;
        passed.map_err(End::Unconfirmed)?;
        // A majority took this node for its leader, and everything committed before is applied here:
        // what others had written in the meantime would be seen.
        self.check()?;
        self.reads.passed();
        self.reads.send(self.committed);
        Ok(())
    }
}

/// Returns when the catalogue here has had everything that was in it at the call.
fn catalogue_current(broker: Broker) -> Current {
    Box::pin(async move {
        while broker.catalogue_is_current().await.is_err() {
            tokio::time::sleep(CURRENT_PAUSE).await;
        }
    })
}

/// The future's output, if there is one; else it waits for ever.
async fn maybe<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
