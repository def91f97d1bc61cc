//! What the nodes log, as lines of the trace: with virtual time and the node, so that it repeats.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::trace::Trace;

/// What nodes log by default, as `braidlog start` does.
const DIRECTIVES: &str = "info,openraft=error,openraft::core::heartbeat=off";

/// From now on every log line of the process goes to the trace. Once a process; false when there
/// was a log already.
pub(crate) fn start(trace: &Trace, directives: Option<&str>) -> bool {
    let filter = EnvFilter::new(directives.unwrap_or(DIRECTIVES));
    let layer = Lines {
        trace: trace.clone(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber).is_ok()
}

struct Lines {
    trace: Trace,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text(String::new());
        event.record(&mut text);
        self.trace.line(
            "log",
            format_args!("{} {}:{}", metadata.level(), metadata.target(), text.0),
        );
    }
}

/// The message first, then the fields.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
