//! The outcome of a run: a few lines for people, one JSON object for programs. Figures stand there
//! only when the run was sound.

use load::latency::Figures;
use load::{ProcessCost, Report};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::output::Format;

pub(super) fn print(
    mode: &str,
    settings: &Value,
    report: &Report,
    context: &mut Context,
) -> Result<(), Failure> {
    match context.output.format() {
        Format::Json => context.output.json(&object(mode, settings, report))?,
        Format::Table => context.output.text(&text(mode, settings, report))?,
    }
    Ok(())
}

fn object(mode: &str, settings: &Value, report: &Report) -> Value {
    let faults = report.faults;
    let settings = with_partitions(settings, report);
    let mut object = json!({
        "mode": mode,
        "version": env!("CARGO_PKG_VERSION"),
        "ok": report.is_ok(),
        "problems": report.problems,
        "settings": settings,
        "checked_records": report.checked,
        "lost": faults.lost,
        "duplicates": faults.duplicates,
        "disordered": faults.disordered,
        "damaged": faults.damaged,
        "figures": null,
    });
    if report.is_ok() {
        object["figures"] = json!({
            "records": report.records,
            "bytes": report.bytes,
            "seconds": report.seconds,
            "records_per_second": report.records_per_second(),
            "mb_per_second": report.mb_per_second(),
            "latency_us": report.latency.map(latency),
            "client": report.client.map(|cost| process(report, &cost)),
            "broker": report.broker.map(|cost| with_switches(report, &cost)),
        });
    }
    object
}

fn latency(figures: Figures) -> Value {
    json!({
        "samples": figures.samples,
        "p50": figures.p50_us,
        "p90": figures.p90_us,
        "p99": figures.p99_us,
        "p99_9": figures.p999_us,
        "max": figures.max_us,
    })
}

fn process(report: &Report, cost: &ProcessCost) -> Value {
    json!({
        "cpu_seconds": cost.cpu_seconds,
        "cpu_seconds_per_gb": report.cost(cost).cpu_seconds_per_gb,
        "resident_bytes": cost.resident_bytes,
    })
}

/// The threads of this process have ended with their counts; a broker's live on.
fn with_switches(report: &Report, cost: &ProcessCost) -> Value {
    let mut told = process(report, cost);
    told["voluntary_switches"] = cost.voluntary_switches.into();
    told["involuntary_switches"] = cost.involuntary_switches.into();
    told
}

fn text(mode: &str, settings: &Value, report: &Report) -> String {
    let told = with_partitions(settings, report);
    let mut lines = vec![format!("bench {mode}  {}", words(&told))];
    if report.is_ok() {
        lines.push(format!(
            "  records      {} in {:.2} s: {:.0} /s, {:.2} MB/s",
            report.records,
            report.seconds,
            report.records_per_second(),
            report.mb_per_second()
        ));
        if let Some(figures) = report.latency {
            let from = match (mode, &settings["loop"]) {
                ("e2e", kind) if kind == "open" => "due to received",
                ("e2e", _) => "made to received, closed-loop",
                (_, kind) if kind == "open" => "due to acknowledged",
                _ => "made to acknowledged, closed-loop",
            };
            let Figures {
                p50_us,
                p90_us,
                p99_us,
                p999_us,
                max_us,
                ..
            } = figures;
            let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(ms);
            lines.push(format!(
                "  latency ms   p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}  ({from})"
            ));
        }
        if let Some(cost) = &report.client {
            lines.push(format!("  client       {}", used(report, cost)));
        }
        if let Some(cost) = &report.broker {
            lines.push(format!(
                "  broker       {}, context switches: {} voluntary, {} involuntary",
                used(report, cost),
                cost.voluntary_switches,
                cost.involuntary_switches
            ));
        }
    }
    match report.checked {
        Some(checked) if report.is_ok() => lines.push(match mode {
            "raw" => format!("  checked      {checked} records appended, as many as acknowledged"),
            _ => format!(
                "  checked      {checked} records: none lost, twice, out of order or damaged"
            ),
        }),
        Some(checked) => lines.push(format!("  checked      {checked} records")),
        None => lines.push("  NOT CHECKED".to_owned()),
    }
    for problem in &report.problems {
        lines.push(format!("  FAILED       {problem}"));
    }
    lines.join("\n") + "\n"
}

/// The settings, with the number of partitions that there really are.
fn with_partitions(settings: &Value, report: &Report) -> Value {
    let mut settings = settings.clone();
    settings["partitions"] = report.partitions.into();
    settings
}

/// The settings as `name=value`, those that were not given left out.
fn words(settings: &Value) -> String {
    let fields = settings.as_object().into_iter().flatten();
    let told = fields.filter(|(_, value)| !value.is_null());
    let words: Vec<String> = told
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        })
        .collect();
    words.join(" ")
}

fn used(report: &Report, cost: &ProcessCost) -> String {
    format!(
        "{:.2} CPU-s/GB ({:.2} s), {} MB resident",
        report.cost(cost).cpu_seconds_per_gb,
        cost.cpu_seconds,
        cost.resident_bytes / 1_000_000
    )
}

/// Microseconds as milliseconds.
fn ms(us: u64) -> String {
    format!("{}.{:03}", us / 1_000, us % 1_000)
}

#[cfg(test)]
mod tests {
    use load::check::Faults;

    use super::*;

    fn report(problems: &[&str]) -> Report {
        Report {
            partitions: 3,
            records: 2_000,
            bytes: 2_000_000,
            seconds: 2.0,
            latency: Some(Figures {
                samples: 2_000,
                p50_us: 1_234,
                p90_us: 2_000,
                p99_us: 3_000,
                p999_us: 4_000,
                max_us: 5_005,
            }),
            client: None,
            broker: Some(ProcessCost {
                cpu_seconds: 0.01,
                resident_bytes: 40_000_000,
                voluntary_switches: 7,
                involuntary_switches: 8,
            }),
            checked: Some(2_100),
            faults: Faults::default(),
            problems: problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_sound_run_has_every_figure() {
        let settings = json!({ "loop": "open", "rate": 1_000, "keys": null });
        let text = text("produce", &settings, &report(&[]));
        for part in [
            "bench produce  loop=open partitions=3 rate=1000\n",
            "2000 in 2.00 s: 1000 /s, 1.00 MB/s",
            "p50 1.234  p90 2.000  p99 3.000  p99.9 4.000  max 5.005  (due to acknowledged)",
            "5.00 CPU-s/GB (0.01 s), 40 MB resident, context switches: 7 voluntary, 8 involuntary",
            "2100 records: none lost",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let object = object("produce", &settings, &report(&[]));
        assert_eq!(object["figures"]["latency_us"]["p99_9"], 4_000);
        assert_eq!(object["ok"], true);
    }

    #[test]
    fn a_run_that_is_not_sound_has_no_figures() {
        let settings = json!({ "loop": "open" });
        let report = report(&["3 records lost"]);
        let text = text("produce", &settings, &report);
        assert!(text.contains("FAILED       3 records lost"), "{text}");
        assert!(!text.contains("/s") && !text.contains("p50"), "{text}");
        let object = object("produce", &settings, &report);
        assert!(object["figures"].is_null() && object["ok"] == false);
    }
}
