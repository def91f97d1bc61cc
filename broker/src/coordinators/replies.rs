//! Answers to commands, and why there is none.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

/// Why a coordinator did not answer a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// This node does not lead the coordinator's partition; definite: nothing was done. Ask who does.
    #[error("this node is not the coordinator")]
    NotCoordinator,
    /// This node leads it but has not replayed its log yet, or too many commands wait; definite:
    /// nothing was done. Try again here.
    #[error("the coordinator is loading or overloaded")]
    LoadInProgress,
    /// The coordinator's partition has no leader, or does not exist yet, or the disk has no room for
    /// what would be appended; definite: nothing was done.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// The leadership was lost, or an append failed, before the answer was certain. What was asked
    /// for may have happened or not. Ask who leads now.
    #[error("the coordinator resigned before it could answer")]
    Resigned,
    /// The node stops; definite: nothing was done.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// Where an answer goes.
pub(super) type Reply<R> = oneshot::Sender<Result<R, CoordinatorError>>;

/// An answer to come. Its command's place among those of the coordinator is fixed; dropping it does
/// not take the command back. Ends when the coordinator's leadership does, and when the node stops.
#[derive(Debug)]
#[must_use = "a command is answered only once its `PendingReply` resolves"]
pub struct PendingReply<R = groups::Response> {
    answer: oneshot::Receiver<Result<R, CoordinatorError>>,
}

impl<R> PendingReply<R> {
    pub(super) fn new(answer: oneshot::Receiver<Result<R, CoordinatorError>>) -> PendingReply<R> {
        PendingReply { answer }
    }
}

impl<R> Future for PendingReply<R> {
    type Output = Result<R, CoordinatorError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        // Whoever would have answered is gone.
        Poll::Ready(answer.unwrap_or(Err(CoordinatorError::Resigned)))
    }
}
