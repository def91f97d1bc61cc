//! A data directory with its side directory, and a process with the library in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use jepsen_control::control::{ControlFile, Word};
use jepsen_control::crash::{self, Lost};
use jepsen_control::side::Side;
use jepsen_control::{ENV_DIR, ENV_SIDE};

/// A machine's disk; gone with the value.
pub(crate) struct Machine {
    root: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) side: Side,
    pub(crate) control: ControlFile,
}

/// The process on it; killed with the value.
pub(crate) struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir()
            .canonicalize()
            .unwrap()
            .join(format!("jepsen-preload-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (data, side) = (root.join("data"), Side::new(&root.join("side")));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(side.root()).unwrap();
        fs::write(side.boot_id(), "boot-0\n").unwrap();
        let control = ControlFile::open(&side.control()).unwrap();
        crash::begin(&data, &side).unwrap();
        Machine {
            root,
            data,
            side,
            control,
        }
    }

    pub(crate) fn start(&self) -> Node {
        let probe = Path::new(env!("CARGO_BIN_EXE_disk-probe"));
        let beside = probe.parent().unwrap();
        let library = [beside.join("deps"), beside.to_owned()]
            .map(|dir| dir.join("libjepsen_preload.so"))
            .into_iter()
            .find(|path| path.exists())
            .expect("the library is built with its tests");
        let starts = self.get(Word::Starts);
        let mut child = Command::new(probe)
            .arg(&self.data)
            .env("LD_PRELOAD", library)
            .env(ENV_DIR, &self.data)
            .env(ENV_SIDE, self.side.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut node = Node {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        node.ok("bootid");
        assert_eq!(self.get(Word::Starts), starts + 1);
        node
    }

    pub(crate) fn get(&self, word: Word) -> u64 {
        self.control.get(word).unwrap()
    }

    pub(crate) fn set(&self, word: Word, value: u64) {
        self.control.set(word, value).unwrap();
    }

    /// Kills the process and takes away what was not synced.
    pub(crate) fn cut(&self, node: Node, draw: &mut dyn FnMut(u64) -> u64) -> Lost {
        drop(node);
        self.check();
        crash::cut(&self.data, &self.side, draw).unwrap()
    }

    /// The library met nothing that it does not know.
    pub(crate) fn check(&self) {
        let trouble = fs::read_to_string(self.side.trouble()).unwrap_or_default();
        assert_eq!((self.get(Word::Trouble), trouble.as_str()), (0, ""));
    }

    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.data.join(name)).ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Node {
    pub(crate) fn run(&mut self, command: &str) -> Result<String, i32> {
        writeln!(self.input, "{command}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        let mut words = answer.trim_end().splitn(3, ' ');
        match words.next() {
            Some("ok") => Ok(words.collect::<Vec<_>>().join(" ")),
            Some("err") => Err(words.next().unwrap().parse().unwrap()),
            _ => panic!("{command}: {answer}"),
        }
    }

    pub(crate) fn ok(&mut self, command: &str) -> String {
        match self.run(command) {
            Ok(answer) => answer,
            Err(errno) => panic!("{command}: error {errno}"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes that the probe writes.
pub(crate) fn filled(len: u64, seed: u64) -> Vec<u8> {
    let step = |at: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at).wrapping_mul(0xbf58_476d);
    (0..len).map(|at| step(at).to_be_bytes()[2] | 1).collect()
}

/// Numbers that follow from a seed (splitmix64).
pub(crate) fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |limit| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
