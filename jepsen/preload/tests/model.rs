//! Random work on files with kills, power cuts, failing and lying syncs, against a model in memory:
//! after a power cut each sector, length and name is one that the disk may have kept.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test: it looks at real files, and ends where something is wrong"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use jepsen_control::control::Word;
use jepsen_control::crash;
use jepsen_control::names::Node as Leaf;
use support::{Machine, Node, draws, filled};

const DIRS: [&str; 3] = ["", "a", "b"];

/// Files of one directory have these names.
const NAMES: [&str; 4] = ["w", "x", "y", "z"];

#[derive(Debug, Clone, Default)]
struct Bytes {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    doubtful: BTreeSet<usize>,
    is_lied: bool,
}

impl Bytes {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[position..end].copy_from_slice(bytes);
        self.touch(position, end);
    }

    fn set_len(&mut self, len: usize) {
        let before = self.live.len();
        self.live.resize(len, 0);
        if len < before {
            self.touch(len, before);
        }
    }

    fn touch(&mut self, start: usize, end: usize) {
        for sector in start / 512..end.div_ceil(512) {
            self.dirty.insert(sector);
            self.doubtful.remove(&sector);
        }
    }

    fn sync(&mut self) {
        self.is_lied = false;
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let ours = sector_of(&self.live, sector).to_vec();
            let start = sector * 512;
            let end = (start + 512).min(self.durable.len());
            if start < end {
                self.durable[start..end].copy_from_slice(&ours[..end - start]);
            }
        }
    }

    fn fail(&mut self) {
        self.doubtful.append(&mut self.dirty);
    }

    /// What a power cut left must be made of these two; it is what there is from now on.
    fn check(&mut self, seen: Vec<u8>, what: &str, seen_kinds: &mut [u64; 2]) {
        let (short, long) = (
            self.live.len().min(self.durable.len()),
            self.live.len().max(self.durable.len()),
        );
        assert!(
            (short..=long).contains(&seen.len()),
            "{what}: length {}",
            seen.len()
        );
        for sector in 0..seen.len().div_ceil(512) {
            let end = seen.len().min(sector * 512 + 512) - sector * 512;
            let its = &sector_of(&seen, sector)[..end];
            let (live, durable) = (
                sector_of(&self.live, sector)[..end].to_vec(),
                sector_of(&self.durable, sector)[..end].to_vec(),
            );
            let in_flight = self.dirty.contains(&sector) || self.doubtful.contains(&sector);
            assert!(
                its == durable || (in_flight && its == live),
                "{what}: sector {sector} of {}, {} live, {} durable; in flight: {in_flight}; differs \
                 from live at {:?}, from durable at {:?}, is zero: {}",
                seen.len(),
                self.live.len(),
                self.durable.len(),
                its.iter().zip(&live).position(|(a, b)| a != b),
                its.iter().zip(&durable).position(|(a, b)| a != b),
                its.iter().all(|byte| *byte == 0),
            );
            if live != durable {
                seen_kinds[usize::from(its == live)] += 1;
            }
        }
        *self = Bytes {
            live: seen.clone(),
            durable: seen,
            ..Bytes::default()
        };
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> [u8; 512] {
    let mut whole = [0; 512];
    let start = (sector * 512).min(bytes.len());
    let end = (start + 512).min(bytes.len());
    whole[..end - start].copy_from_slice(&bytes[start..end]);
    whole
}

/// What a name has led to since its directory was last synced; the last is now.
type History = Vec<Option<u64>>;

struct Model {
    names: BTreeMap<String, History>,
    bytes: BTreeMap<u64, Bytes>,
    next: u64,
    lied_dirs: BTreeSet<&'static str>,
    has_lied: bool,
}

impl Model {
    fn now(&self, path: &str) -> Option<u64> {
        self.names.get(path).and_then(|history| *history.last()?)
    }

    fn change(&mut self, path: &str, to: Option<u64>) {
        let history = self
            .names
            .entry(path.to_owned())
            .or_insert_with(|| vec![None]);
        history.push(to);
    }

    fn sync_dir(&mut self, dir: &str) {
        for (path, history) in &mut self.names {
            if dir_of(path) == dir {
                history.drain(..history.len() - 1);
            }
        }
    }

    fn settle_lies(&mut self) {
        if !std::mem::take(&mut self.has_lied) {
            return;
        }
        for bytes in self.bytes.values_mut().filter(|bytes| bytes.is_lied) {
            bytes.sync();
        }
        for dir in std::mem::take(&mut self.lied_dirs) {
            self.sync_dir(dir);
        }
    }
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn path_in(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

fn start(machine: &Machine, model: &mut Model) -> Node {
    // A lie is forgotten with its process; what it was about stays unsynced.
    model.has_lied = false;
    model.lied_dirs.clear();
    for bytes in model.bytes.values_mut() {
        bytes.is_lied = false;
    }
    machine.start()
}

#[test]
fn what_a_power_cut_leaves_is_what_a_disk_may_have_kept() {
    let mut kinds = [0; 2];
    let mut names_changed = 0;
    for seed in 0..4 {
        run(seed, &mut kinds, &mut names_changed);
    }
    assert!(kinds[0] > 100 && kinds[1] > 100, "lost, kept: {kinds:?}");
    assert!(names_changed > 5);
}

fn run(seed: u64, kinds: &mut [u64; 2], names_changed: &mut u64) {
    let mut draw = draws(seed);
    let machine = Machine::new();
    let mut model = Model {
        names: BTreeMap::new(),
        bytes: BTreeMap::new(),
        next: 1,
        lied_dirs: BTreeSet::new(),
        has_lied: false,
    };
    let mut node = machine.start();
    for command in ["mkdir a", "mkdir b", "syncdir ."] {
        node.ok(command);
    }
    for step in 0..350_u64 {
        for path in model.names.keys() {
            let live = model.now(path).map(|file| &model.bytes[&file].live);
            assert!(
                machine.read(path).as_ref() == live,
                "{seed}, {step}: {path}"
            );
        }
        let pick =
            |limit: u64, draw: &mut dyn FnMut(u64) -> u64| usize::try_from(draw(limit)).unwrap();
        let dir = DIRS[pick(3, &mut draw)];
        let path = path_in(dir, NAMES[pick(4, &mut draw)]);
        let now = model.now(&path);
        match draw(100) {
            0..45 => {
                let file = now.unwrap_or_else(|| {
                    let file = model.next;
                    model.next += 1;
                    model.bytes.insert(file, Bytes::default());
                    model.change(&path, Some(file));
                    file
                });
                node.ok(&format!("open {path}"));
                let (position, len) = (draw(20_000), 1 + draw(5000));
                let bytes = filled(len, step);
                let command = if draw(2) == 0 { "writeall" } else { "writev" };
                node.ok(&format!("{command} {path} {position} {len} {step}"));
                let model = model.bytes.get_mut(&file).unwrap();
                model.write(usize::try_from(position).unwrap(), &bytes);
                node.ok(&format!("close {path}"));
            }
            45..65 => {
                let Some(file) = now else { continue };
                node.ok(&format!("open {path}"));
                let fault = draw(6);
                let word = [1, 2, 0, 0, 0, 0][usize::try_from(fault).unwrap()];
                machine.set(Word::SyncFault, word);
                let result = node.run(&format!("sync {path}"));
                machine.set(Word::SyncFault, 0);
                match word {
                    1 => {
                        assert_eq!(result, Err(5));
                        model.bytes.get_mut(&file).unwrap().fail();
                    }
                    2 => {
                        assert!(result.is_ok());
                        model.bytes.get_mut(&file).unwrap().is_lied = true;
                        model.has_lied = true;
                    }
                    _ => {
                        assert!(result.is_ok());
                        model.settle_lies();
                        model.bytes.get_mut(&file).unwrap().sync();
                    }
                }
                node.ok(&format!("close {path}"));
            }
            65..72 => {
                let lies = draw(5) == 0;
                machine.set(Word::SyncFault, if lies { 2 } else { 0 });
                node.ok(&format!(
                    "syncdir {}",
                    if dir.is_empty() { "." } else { dir }
                ));
                machine.set(Word::SyncFault, 0);
                if lies {
                    model.lied_dirs.insert(dir);
                    model.has_lied = true;
                } else {
                    model.settle_lies();
                    model.sync_dir(dir);
                }
            }
            72..78 => {
                let Some(file) = now else { continue };
                let len = draw(25_000);
                node.ok(&format!("open {path}"));
                node.ok(&format!("setlen {path} {len}"));
                node.ok(&format!("close {path}"));
                let bytes = model.bytes.get_mut(&file).unwrap();
                bytes.set_len(usize::try_from(len).unwrap());
            }
            78..84 => {
                let to = path_in(DIRS[pick(3, &mut draw)], NAMES[pick(4, &mut draw)]);
                let Some(file) = now.filter(|_| to != path) else {
                    continue;
                };
                node.ok(&format!("rename {path} {to}"));
                model.change(&path, None);
                model.change(&to, Some(file));
            }
            84..89 => {
                if now.is_none() {
                    continue;
                }
                node.ok(&format!("remove {path}"));
                model.change(&path, None);
            }
            89..91 => {
                node.ok("syncall");
                model.settle_lies();
                for dir in DIRS {
                    model.sync_dir(dir);
                }
                model.bytes.values_mut().for_each(Bytes::sync);
            }
            91..95 => {
                drop(node);
                node = start(&machine, &mut model);
            }
            _ => {
                machine.cut(node, &mut draw);
                check(&machine, &mut model, (seed, step), kinds, names_changed);
                node = start(&machine, &mut model);
            }
        }
    }
    machine.check();
}

fn check(
    machine: &Machine,
    model: &mut Model,
    at: (u64, u64),
    kinds: &mut [u64; 2],
    names_changed: &mut u64,
) {
    let names = crash::read_log(&machine.data, &machine.side).unwrap().names;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for (path, leaf) in names.walk() {
        match leaf {
            Leaf::File(file) => drop(seen.insert(path, file)),
            Leaf::Directory(_) => assert!(DIRS.contains(&path.as_str())),
        }
    }
    for dir in DIRS {
        assert!(machine.data.join(dir).is_dir());
    }
    for (path, history) in &model.names {
        let its = seen.get(path).copied();
        assert!(
            history.contains(&its),
            "{at:?}: {path} leads to {its:?}, {history:?}"
        );
        *names_changed += u64::from(history.last() != Some(&its));
    }
    let mut files = BTreeMap::new();
    for (path, file) in &seen {
        let mut bytes = model.bytes.remove(file).expect("a file that was made");
        let what = format!("{at:?}: {path}, file {file}");
        bytes.check(machine.read(path).unwrap(), &what, kinds);
        assert!(files.insert(*file, bytes).is_none(), "{what} has two names");
    }
    model.bytes = files;
    model.names = seen
        .into_iter()
        .map(|(path, file)| (path, vec![Some(file)]))
        .collect();
    // Ids of files that are gone are given again.
    model.next = names.next_file();
}
