//! Once everything is healed, each partition takes writes again within its time.
//!
//! The time runs from phase `healed`, or `heal` where that is missing, to the acknowledgement of a
//! send that began after it. Where nobody tried, or the history ends before the time is over, that
//! is unknown.

use super::findings::Findings;
use super::limits::Limits;
use super::run::{KeyId, Run, Send, Sent};
use super::verdict::{Anomaly, AnomalyName};

pub(crate) fn check(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    let Some(healed) = run.phase("healed").or_else(|| run.phase("heal")) else {
        if limits.whole_run {
            findings.unknown("nothing was healed: there is no phase `heal`");
        }
        return;
    };
    let from_us = run.time_us(healed);
    let until_us = from_us.saturating_add(limits.heal_us_max);
    let mut keys: Vec<Option<Tries<'_>>> = vec![None; run.keys.len()];
    for send in &run.sends {
        let tries = keys[send.key].get_or_insert_default();
        if send.invoked < healed {
            continue;
        }
        tries.last = Some(*send);
        if let (Sent::Ok(_), Some(completed)) = (send.outcome, send.completed) {
            let time_us = run.time_us(completed);
            if tries
                .first_ok
                .is_none_or(|(earliest, _)| time_us < earliest)
            {
                tries.first_ok = Some((time_us, completed));
            }
        }
    }
    let end_us = run.events.last().map_or(0, |event| event.time_us);
    for (key, tries) in keys
        .into_iter()
        .enumerate()
        .filter(|(key, _)| run.stays(*key))
    {
        let Some(tries) = tries else { continue };
        match (tries.first_ok, tries.last) {
            (Some((time_us, _)), _) if time_us <= until_us => {}
            (None, None) => {
                if limits.whole_run {
                    findings.unknown(format!("nobody wrote to {} after healing", run.keys[key]));
                }
            }
            (None, Some(_)) if end_us < until_us => {
                let key = run.keys[key];
                findings.unknown(format!("the run ended before {key} had its time to heal"));
            }
            (first_ok, last) => {
                let late = first_ok.map(|(time_us, at)| (time_us - from_us, at));
                not_live(run, key, healed, late, last, findings);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Tries<'a> {
    first_ok: Option<(u64, usize)>,
    last: Option<Send<'a>>,
}

fn not_live(
    run: &Run<'_>,
    key: KeyId,
    healed: usize,
    late: Option<(u64, usize)>,
    last: Option<Send<'_>>,
    findings: &mut Findings,
) {
    findings.add(AnomalyName::NotLive, || {
        let key = run.keys[key];
        let what = match late {
            Some((after_us, _)) => {
                format!(
                    "{key}: the first write after healing took {} ms",
                    after_us / 1000
                )
            }
            None => format!("{key}: no write was acknowledged after healing"),
        };
        let tried = late.map(|(_, at)| at as u64).into_iter();
        let tried = tried.chain(last.into_iter().flat_map(|send| run.events_of(&send)));
        Anomaly::new(AnomalyName::NotLive, what)
            .of_key(key)
            .shown_by(tried.chain([healed as u64]))
    });
}
