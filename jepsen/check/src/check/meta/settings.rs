//! Each setting of each topic as a register: sets write it, describes read it.

use std::collections::BTreeMap;

use super::super::findings::Findings;
use super::super::verdict::{Anomaly, AnomalyName};
use super::register::{Read, Register, Write};
use super::{Looks, event_of, moment};
use crate::history::{Admin, Event, Kind, Op};

pub(super) fn check(looks: &Looks<'_, '_>, findings: &mut Findings) {
    let registers = registers(looks);
    for ((topic, setting), register) in &registers {
        for broken in register.judge() {
            findings.add(AnomalyName::ConfigNonlinearizable, || {
                let what = format!("{setting} of topic {topic}: {}", broken.what);
                Anomaly::new(AnomalyName::ConfigNonlinearizable, what)
                    .of_topic(topic)
                    .shown_by(broken.moments.iter().filter_map(|at| event_of(*at)))
            });
        }
    }
}

type Registers<'a> = BTreeMap<(&'a str, &'a str), Register<'a>>;

fn registers<'a>(looks: &Looks<'_, 'a>) -> Registers<'a> {
    let mut registers: Registers<'a> = BTreeMap::new();
    let mut by_topic: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let events: &'a [Event] = looks.run.events;
    for (at, event) in events.iter().enumerate() {
        let Op::Admin(Admin::SetConfig { topic, key, value }) = &event.op else {
            continue;
        };
        if event.kind != Kind::Invoke {
            continue;
        }
        let register = registers.entry((topic, key)).or_default();
        if register.is_empty() {
            by_topic.entry(topic).or_default().push(key);
        }
        let from = moment(at);
        register.write(match (looks.run.outcome(at), looks.run.partner[at]) {
            (Kind::Ok, Some(completed)) => Write::done(value, from, moment(completed)),
            (Kind::Fail, _) => Write::failed(value, from),
            _ => Write::unknown(value, from),
        });
    }
    // Settings that nobody sets may be shown as anything.
    for (at, event) in events.iter().enumerate() {
        let Op::Admin(Admin::Describe {
            topic,
            exists: Some(true),
            configs,
            ..
        }) = &event.op
        else {
            continue;
        };
        let (Kind::Ok, Some(invoked)) = (event.kind, looks.run.partner[at]) else {
            continue;
        };
        if configs.is_empty() {
            continue;
        }
        for setting in by_topic.get(topic.as_str()).into_iter().flatten().copied() {
            if let Some(register) = registers.get_mut(&(topic.as_str(), setting)) {
                let value = configs.get(setting).map(String::as_str);
                register.read(Read {
                    value,
                    from: looks.earliest(invoked),
                    to: moment(at),
                });
            }
        }
    }
    registers
}
