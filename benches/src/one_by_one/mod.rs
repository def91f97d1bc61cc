//! Clients of brokers of another kind, with one record on its way: `one-by-one redis|nats ADDRESS
//! SECONDS WARM_UP_SECONDS` writes records of 100 bytes, waits for the answer to each, and prints
//! one JSON object in the form of `braidlog bench`.
//!
//! A blocking socket and nothing around it: no client of the broker could be faster, so that a
//! comparison with what `braidlog bench` measures, which has a runtime, is not in our favour.

mod nats;
mod redis;
mod wire;

use std::time::Duration;

use load::latency::{Figures, Latencies};
use serde_json::{Value, json};
use storage::clock::Clock;

/// Of a record's value, as the row of `braidlog bench` that stands beside has it.
const VALUE_BYTES: usize = 100;
/// Fewer say nothing of a tail.
const SAMPLES_MIN: u64 = 1_000;
/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A broker that takes one record after the other.
trait OneByOne: Sized {
    /// Connects, and makes a place for records that is new.
    fn open(address: &str, name: &str) -> Result<Self, String>;
    /// Writes the record of this number, from 0, and waits until it is acknowledged.
    fn write(&mut self, number: u64, value: &[u8]) -> Result<(), String>;
    /// Looks whether exactly `count` records are there, and removes them.
    fn close(self, count: u64) -> Result<(), String>;
}

pub(crate) fn run(arguments: &[String]) -> Result<Value, String> {
    let usage = "one-by-one redis|nats ADDRESS SECONDS WARM_UP_SECONDS";
    let [kind, address, seconds, warm_up] = arguments else {
        return Err(usage.to_owned());
    };
    let number = |text: &String| match text.parse::<i64>() {
        Ok(seconds @ 0..=600) => Ok(seconds),
        _ => Err(format!("0 to 600 seconds, not {text}")),
    };
    let (seconds, warm_up) = (number(seconds)?, number(warm_up)?);
    match kind.as_str() {
        "redis" => measure::<redis::Stream>(address, seconds, warm_up),
        "nats" => measure::<nats::Stream>(address, seconds, warm_up),
        _ => Err(usage.to_owned()),
    }
}

fn measure<B: OneByOne>(address: &str, seconds: i64, warm_up: i64) -> Result<Value, String> {
    let clock = Clock::system();
    let name = format!("bench-{}-{}", std::process::id(), clock.wall_ms());
    let mut broker = B::open(address, &name)?;
    let (warm_up_us, end_us) = (warm_up * 1_000_000, (warm_up + seconds) * 1_000_000);
    let began_us = clock.monotonic_us();
    let mut latencies = Latencies::default();
    let (mut count, mut now_us) = (0_u64, 0);
    while now_us < end_us {
        broker.write(count, &value(count))?;
        let then_us = clock.monotonic_us() - began_us;
        if now_us >= warm_up_us {
            latencies.record(then_us - now_us);
        }
        (count, now_us) = (count + 1, then_us);
    }
    broker.close(count)?;
    let figures = latencies.figures();
    let figures = figures.filter(|figures| figures.samples >= SAMPLES_MIN);
    let figures = figures.ok_or_else(|| format!("too few samples: {count} records"))?;
    Ok(told(&figures, now_us - warm_up_us, count))
}

fn told(figures: &Figures, us: i64, checked: u64) -> Value {
    let seconds = Value::from(us).as_f64().unwrap_or(0.0) / 1e6;
    let samples = Value::from(figures.samples).as_f64().unwrap_or(0.0);
    json!({
        "mode": "one-by-one",
        "ok": true,
        "problems": [],
        "settings": { "loop": "closed", "size_bytes": VALUE_BYTES, "in_flight": 1, "clients": 1 },
        "checked_records": checked,
        "figures": {
            "records": figures.samples,
            "seconds": seconds,
            "records_per_second": samples / seconds.max(1e-9),
            "latency_us": {
                "samples": figures.samples,
                "p50": figures.p50_us,
                "p90": figures.p90_us,
                "p99": figures.p99_us,
                "p99_9": figures.p999_us,
                "max": figures.max_us,
            },
        },
    })
}

/// A record of this number: it comes first, so that it can be known again.
fn value(number: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b'v'; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}
