//! The node's fetch sessions as its connections use them: behind a lock that is held only to take a
//! session out or to put it back, never while something is read or waited for.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::ResponseError;

use super::cache::Lease;
use super::{
    CacheLimits, EPOCH_FIRST, EPOCH_LAST, FetchSession, NO_SESSION, News, PartitionKey,
    SessionCache, Wanted,
};

/// The fetch sessions of a node. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct FetchSessions {
    cache: Arc<Mutex<SessionCache>>,
}

/// How a fetch names the session that it continues, begins or ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionName {
    /// The session's id, [`NO_SESSION`] for none.
    pub(crate) id: i32,
    /// [`EPOCH_FIRST`] and [`EPOCH_LAST`] end the session and fetch what the request names, to begin
    /// a new session and without one; any other continues the session.
    pub(crate) epoch: i32,
    /// Whether the request names topics by id.
    pub(crate) by_id: bool,
}

/// How a fetch that is to be answered stands to a session.
#[derive(Debug)]
pub(crate) enum Continuity {
    /// It wants none, or has none left.
    Alone,
    /// It would begin one.
    Beginning {
        /// Where it would be.
        sessions: FetchSessions,
        /// Whether it would name topics by id.
        by_id: bool,
    },
    /// It continues one.
    Continuing(InUse),
}

/// A session that a fetch has. Dropped, the session ends: its client got no answer.
#[derive(Debug)]
pub(crate) struct InUse {
    sessions: FetchSessions,
    lease: Lease,
    session: Option<FetchSession>, // `None` once it is put back
}

impl FetchSessions {
    pub(crate) fn new(limits: CacheLimits) -> FetchSessions {
        let seed = RandomState::new().hash_one(limits.sessions_max);
        FetchSessions {
            cache: Arc::new(Mutex::new(SessionCache::new(limits, seed))),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.cache().len()
    }

    /// About what they take of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.cache().bytes()
    }

    /// Begins to answer a fetch that names these partitions and those that its session shall
    /// forget: gives what it reads, in this order. Errors are of the whole fetch. A session without
    /// partitions ends, and so does one that there is no more room for.
    pub(crate) fn open(
        &self,
        name: SessionName,
        wanted: Vec<Wanted>,
        forgotten: &[PartitionKey],
        now_ms: i64,
    ) -> Result<(Vec<Wanted>, Continuity), ResponseError> {
        let SessionName { id, epoch, by_id } = name;
        if epoch == EPOCH_FIRST || epoch == EPOCH_LAST {
            if id != NO_SESSION {
                self.cache().remove(id);
            }
            let sessions = self.clone();
            let continuity = match epoch == EPOCH_FIRST {
                true => Continuity::Beginning { sessions, by_id },
                false => Continuity::Alone,
            };
            return Ok((wanted, continuity));
        }
        let (lease, mut session) = self.cache().take(id, epoch, by_id, now_ms)?;
        session.update(&wanted, forgotten);
        let has_room = self.cache().resize(lease, &session, now_ms);
        let in_use = InUse {
            sessions: self.clone(),
            lease,
            session: Some(session),
        };
        if !has_room {
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        let wanted = in_use.session().wanted();
        if wanted.is_empty() {
            return Ok((wanted, Continuity::Alone));
        }
        Ok((wanted, Continuity::Continuing(in_use)))
    }

    fn cache(&self) -> MutexGuard<'_, SessionCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Continuity {
    /// What was found, one result for each partition that [`FetchSessions::open`] gave: the
    /// session's id for the answer, and which of the partitions are in it.
    pub(crate) fn finish(self, wanted: &[Wanted], news: &[News], now_ms: i64) -> (i32, Vec<bool>) {
        let all = vec![true; news.len()];
        match self {
            Continuity::Alone => (NO_SESSION, all),
            Continuity::Beginning { sessions, by_id } => {
                let Some(session) = FetchSession::begin(wanted, news) else {
                    return (NO_SESSION, all);
                };
                let mut cache = sessions.cache();
                let Some(lease) = cache.reserve(&session, by_id, now_ms) else {
                    return (NO_SESSION, all);
                };
                cache.put_back(lease, session, now_ms);
                (lease.id, all)
            }
            Continuity::Continuing(mut in_use) => {
                let mut session = in_use.session.take().expect("it is put back once");
                let told = session.tell(news);
                let mut cache = in_use.sessions.cache();
                cache.put_back(in_use.lease, session, now_ms);
                (in_use.lease.id, told)
            }
        }
    }
}

impl Continuity {
    /// The fetch is answered with nothing, whatever there is: the session's id for the answer. It
    /// goes on with the next fetch; one that would have begun does not.
    pub(crate) fn postpone(self, now_ms: i64) -> i32 {
        match self {
            Continuity::Alone | Continuity::Beginning { .. } => NO_SESSION,
            Continuity::Continuing(mut in_use) => {
                let session = in_use.session.take().expect("it is put back once");
                let mut cache = in_use.sessions.cache();
                cache.put_back(in_use.lease, session, now_ms);
                in_use.lease.id
            }
        }
    }
}

impl InUse {
    fn session(&self) -> &FetchSession {
        self.session.as_ref().expect("it is not put back")
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if self.session.is_some() {
            self.sessions.cache().end(self.lease);
        }
    }
}
