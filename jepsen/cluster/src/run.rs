//! [`run`]: a cluster from its first start to its end.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::error::ClusterError;
use crate::isolate::Net;
use crate::node::Problem;
use crate::settings::ClusterSettings;
use crate::world::ClusterWorld;

/// What is known of the nodes beside what clients saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// What nobody meant.
    pub problems: Vec<Problem>,
}

/// Starts a cluster, calls `body` with it once it is healthy, and takes everything away.
///
/// `body` runs on a thread of its own, where clients are, in a current-thread runtime: the sockets
/// that it opens there, and those of tasks and threads that it starts, reach the nodes.
///
/// # Errors
///
/// When the harness could not do its part. Nothing it returns speaks against what is tested.
///
/// # Panics
///
/// When `body` does.
pub fn run<T: Send>(
    settings: &ClusterSettings,
    body: impl AsyncFnOnce(&ClusterWorld) -> T + Send,
) -> Result<(T, Aftermath), ClusterError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("clients".to_owned());
        let thread = thread.spawn_scoped(scope, || run_here(settings, body));
        match thread.map_err(ClusterError::Runtime)?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn run_here<T>(
    settings: &ClusterSettings,
    body: impl AsyncFnOnce(&ClusterWorld) -> T,
) -> Result<(T, Aftermath), ClusterError> {
    std::fs::create_dir_all(&settings.out).map_err(ClusterError::file(&settings.out))?;
    // Nodes and the preloaded library take paths from the root on.
    let out = settings.out.canonicalize();
    let binary = settings.binary.canonicalize();
    let settings = &ClusterSettings {
        out: out.map_err(ClusterError::file(&settings.out))?,
        binary: binary.map_err(ClusterError::file(&settings.binary))?,
        ..settings.clone()
    };
    let net = Net::make(settings.isolate, settings.clients, settings.seed);
    let net = net.map_err(ClusterError::Isolate)?;
    net.enter().map_err(ClusterError::Isolate)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClusterError::Runtime)?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ClusterError::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ClusterError::Runtime)?;
        let world = ClusterWorld::new(settings, net);
        let all = async {
            world.found(settings.nodes).await?;
            let done = body(&world).await;
            let problems = world.problems();
            Ok((done, Aftermath { problems }))
        };
        tokio::select! {
            done = all => done,
            () = world.watch() => Err(ClusterError::Interrupted),
            _ = interrupt.recv() => Err(ClusterError::Interrupted),
            _ = terminate.recv() => Err(ClusterError::Interrupted),
        }
    })
}
