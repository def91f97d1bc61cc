//! A follower's side of taking over a leader's checkpoint: fetch what it names, then install it.
//!
//! The fetching runs on the ambient runtime, beside everything the shard does; only when all of it
//! is on disk does openraft hear of the checkpoint, and installing then takes milliseconds. One
//! staging a shard: a newer offer replaces the one that runs, the same offer joins it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage::{LogIndex, NodeId};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::AbortHandle;

use crate::claims::check_offered;
use crate::group::GroupRaft;
use crate::message::{Answer, Part};
use crate::parts::{self, Incoming, Taken};
use crate::peer::CallError;
use crate::snapshot::{Checkpoint, Manifest};
use crate::status::Status;
use crate::types::{LogId, Snapshot, Vote};
use crate::{Apply, Stage, StageProgress};

/// A poll is answered after so long when there is no news.
const NEWS_MAX: Duration = Duration::from_millis(300);
/// The leader is taken to have given up when it has not asked for so long.
const ABANDONED_MAX: Duration = Duration::from_secs(20);

/// A shard's stagings.
pub(crate) struct Staging<A: Apply> {
    pub(crate) raft: GroupRaft<A>,
    pub(crate) status: Arc<Status>,
    pub(crate) stage: Option<Arc<dyn Stage>>,
    /// Where stagings run.
    pub(crate) ambient: Handle,
    current: Mutex<Option<Current>>,
    /// What has come of an offer in parts.
    incoming: Arc<Mutex<Option<Incoming>>>,
    /// Held from before files are staged until the checkpoint that names them is installed.
    turn: Arc<AsyncMutex<()>>,
}

/// The staging that runs, or ran last.
struct Current {
    from: NodeId,
    number: u64,
    vote: Vote,
    last: Option<LogId>,
    /// How it ended, once it has.
    end: watch::Receiver<Option<End>>,
    /// Rises with every question of the leader.
    asked: watch::Sender<u64>,
    task: AbortHandle,
}

impl Current {
    /// Whether it may be joined: it runs or has succeeded. One whose task panicked has no end and
    /// nobody left to tell one.
    fn stands(&self) -> bool {
        match &*self.end.borrow() {
            Some(End::Installed { .. }) => true,
            Some(End::Failed { .. }) => false,
            None => self.end.has_changed().is_ok(),
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Clone)]
enum End {
    Installed { vote: Vote },
    Failed { sentence: String },
}

impl End {
    fn answer(&self) -> Answer {
        match self {
            End::Installed { vote } => Answer::Installed { vote: *vote },
            End::Failed { sentence } => Answer::Failed {
                sentence: sentence.clone(),
            },
        }
    }
}

impl<A: Apply> Staging<A> {
    pub(crate) fn new(
        raft: GroupRaft<A>,
        status: Arc<Status>,
        stage: Option<Arc<dyn Stage>>,
        ambient: Handle,
    ) -> Staging<A> {
        Staging {
            raft,
            status,
            stage,
            ambient,
            current: Mutex::new(None),
            incoming: Arc::default(),
            turn: Arc::default(),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part of an offer; with the last one, the offer.
    pub(crate) async fn part(
        &self,
        from: NodeId,
        number: u64,
        vote: Vote,
        part: Part,
    ) -> Result<Answer, CallError> {
        let known = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let known = known.map_err(|_| CallError::Closed)?;
        if known > vote {
            return Ok(Answer::Installed { vote: known });
        }
        let taken = parts::take(&mut lock(&self.incoming), from, (number, vote), part);
        match taken {
            Taken::More(bytes) => {
                self.forget_later(from, number, bytes);
                Ok(Answer::More)
            }
            Taken::Whole(whole) => {
                let checkpoint = Checkpoint::decode(whole).map_err(|_| CallError::Malformed)?;
                check_offered(&vote, &checkpoint).map_err(|_| CallError::Malformed)?;
                self.offered(from, number, vote, checkpoint).await
            }
            // The answer to the last part may have been lost: then it is known.
            Taken::Unfit => Ok(self.polled(from, number).await),
        }
    }

    /// Forgets an offer of which no further part comes.
    fn forget_later(&self, from: NodeId, number: u64, bytes: u64) {
        let incoming = Arc::clone(&self.incoming);
        self.ambient.spawn(async move {
            tokio::time::sleep(ABANDONED_MAX).await;
            let is_same = |held: &mut Incoming| held.is_of(from, number) && held.bytes() == bytes;
            lock(&incoming).take_if(is_same);
        });
    }

    /// Begins to take over what is offered, unless a newer leader is known.
    pub(crate) async fn offered(
        &self,
        from: NodeId,
        number: u64,
        vote: Vote,
        checkpoint: Checkpoint,
    ) -> Result<Answer, CallError> {
        let known = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let known = known.map_err(|_| CallError::Closed)?;
        if known > vote {
            // An answer with a higher vote makes the old leader step down.
            return Ok(Answer::Installed { vote: known });
        }
        let last = checkpoint.meta.last_log_id;
        {
            let mut current = self.current();
            let joined = current.as_mut().filter(|held| {
                held.from == from && held.vote == vote && held.last == last && held.stands()
            });
            if let Some(held) = joined {
                held.number = number;
            } else {
                // The old one is aborted as it goes.
                *current = None;
                *current = Some(self.begin(from, number, vote, checkpoint));
            }
        }
        Ok(self.polled(from, number).await)
    }

    fn begin(&self, from: NodeId, number: u64, vote: Vote, checkpoint: Checkpoint) -> Current {
        let (ended, end) = watch::channel(None);
        let (asked, questions) = watch::channel(0);
        let last = checkpoint.meta.last_log_id;
        let work = {
            let (raft, status) = (self.raft.clone(), Arc::clone(&self.status));
            let (stage, turn) = (self.stage.clone(), Arc::clone(&self.turn));
            async move {
                let staged = stage_checkpoint(&status, stage, from, checkpoint);
                in_turn(turn, staged, move |(snapshot, hold)| async move {
                    let end = install(raft, vote, snapshot).await;
                    drop(hold);
                    end
                })
                .await
            }
        };
        let task = self.ambient.spawn(async move {
            let end = tokio::select! {
                end = work => end,
                () = abandoned(questions) => End::Failed {
                    sentence: "the leader asked no more".to_owned(),
                },
            };
            ended.send_replace(Some(end));
        });
        Current {
            from,
            number,
            vote,
            last,
            end,
            asked,
            task: task.abort_handle(),
        }
    }

    /// Says how far the offer of that number is; waits a little for news.
    pub(crate) async fn polled(&self, from: NodeId, number: u64) -> Answer {
        let mut end = {
            let current = self.current();
            match current.as_ref() {
                Some(held) if held.from == from && held.number == number => {
                    held.asked.send_modify(|count| *count += 1);
                    held.end.clone()
                }
                _ => return Answer::UnknownOffer,
            }
        };
        match tokio::time::timeout(NEWS_MAX, end.wait_for(Option::is_some)).await {
            Ok(Ok(end)) => end.as_ref().map_or(Answer::UnknownOffer, End::answer),
            // Replaced meanwhile, or its task panicked.
            Ok(Err(_)) => Answer::UnknownOffer,
            Err(_) => Answer::Staging(self.progress()),
        }
    }

    fn progress(&self) -> StageProgress {
        self.stage
            .as_ref()
            .map(|stage| stage.progress())
            .unwrap_or_default()
    }

    /// The leader gave up.
    pub(crate) fn withdrawn(&self, from: NodeId, number: u64) -> Answer {
        let mut current = self.current();
        let is_held = current
            .as_ref()
            .is_some_and(|held| held.from == from && held.number == number);
        if is_held {
            *current = None;
        }
        lock(&self.incoming).take_if(|held| held.is_of(from, number));
        Answer::UnknownOffer
    }
}

fn lock(incoming: &Mutex<Option<Incoming>>) -> MutexGuard<'_, Option<Incoming>> {
    incoming.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns when nobody has asked for long.
async fn abandoned(mut questions: watch::Receiver<u64>) {
    while let Ok(Ok(())) = tokio::time::timeout(ABANDONED_MAX, questions.changed()).await {}
}

/// Stages when it is its turn, then installs. The turn ends when both are done, or when staging is
/// given up; installing goes on then, for a new staging must not drop the files that it takes in.
async fn in_turn<S, I>(
    turn: Arc<AsyncMutex<()>>,
    stage: impl Future<Output = Result<S, End>>,
    install: impl FnOnce(S) -> I,
) -> End
where
    I: Future<Output = End> + Send + 'static,
{
    let turn = turn.lock_owned().await;
    let staged = match stage.await {
        Ok(staged) => staged,
        Err(end) => return end,
    };
    let installing = install(staged);
    let installed = tokio::spawn(async move {
        let _turn = turn;
        installing.await
    });
    installed.await.unwrap_or_else(|error| End::Failed {
        sentence: error.to_string(),
    })
}

/// The checkpoint with everything that it names on this node's disk.
async fn stage_checkpoint(
    status: &Status,
    stage: Option<Arc<dyn Stage>>,
    from: NodeId,
    checkpoint: Checkpoint,
) -> Result<(Snapshot, Box<dyn Send>), End> {
    let Checkpoint { meta, manifest } = checkpoint;
    let applied = status.last_applied().map(|at| at.index);
    let is_news = meta.last_log_id.map(|id| LogIndex(id.index)) > applied;
    let hold = stage
        .as_ref()
        .map_or_else(|| Box::new(()) as Box<dyn Send>, |stage| stage.hold());
    let bytes = match stage {
        Some(stage) if is_news => {
            let staged = stage.stage(from, manifest.bytes).await;
            staged.map_err(|error| End::Failed {
                sentence: sentence(&error),
            })?
        }
        _ => manifest.bytes,
    };
    let snapshot = Snapshot {
        meta,
        snapshot: Manifest {
            time_ms: manifest.time_ms,
            bytes,
        },
    };
    Ok((snapshot, hold))
}

async fn install<A: Apply>(raft: GroupRaft<A>, vote: Vote, snapshot: Snapshot) -> End {
    match raft.install_full_snapshot(vote, snapshot).await {
        Ok(response) => End::Installed {
            vote: response.vote,
        },
        Err(error) => End::Failed {
            sentence: error.to_string(),
        },
    }
}

/// An error with its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_new_staging_waits_for_an_installation_that_nobody_waits_for_any_more() {
        let turn = Arc::new(AsyncMutex::new(()));
        let (begun, begins) = oneshot::channel();
        let (done, finish) = oneshot::channel();
        let old = tokio::spawn(in_turn(
            Arc::clone(&turn),
            async { Ok(()) },
            move |()| async move {
                begun.send(()).unwrap();
                finish.await.unwrap();
                End::Installed {
                    vote: Vote::new(1, 1),
                }
            },
        ));
        begins.await.unwrap();
        old.abort();
        assert!(old.await.unwrap_err().is_cancelled());
        let refused = async {
            Err::<(), End>(End::Failed {
                sentence: "staged".to_owned(),
            })
        };
        let mut new = tokio::spawn(in_turn(turn, refused, |()| async { unreachable!() }));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut new).await;
        assert!(early.is_err(), "staged while the files are taken in");
        done.send(()).unwrap();
        let end = new.await.unwrap();
        assert!(matches!(end, End::Failed { sentence } if sentence == "staged"));
    }
}
