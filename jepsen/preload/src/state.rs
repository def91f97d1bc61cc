//! [`Shared`]: what the library knows in a process, set up before `main`.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jepsen_control::control::{BYTES, MAGIC, VERSION, WORDS, Word};
use jepsen_control::names::Node;
use jepsen_control::ranges::Ranges;
use jepsen_control::side::Side;
use jepsen_control::{ENV_DIR, ENV_SIDE, FileId, log};

use crate::files::Tracked;
use crate::name_log::NameLog;
use crate::sys::{self, CWD, Errno, OwnFile};

/// Everything but the table of descriptors.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) side: Side,
    control: &'static [AtomicU64; WORDS],
    pub(crate) names: Mutex<NameLog>,
    /// By inode number.
    pub(crate) files: Mutex<HashMap<u64, &'static Tracked>>,
    /// Whether any sync has lied since the last honest one.
    pub(crate) has_lied: AtomicBool,
    /// Directories whose syncs were lies.
    pub(crate) lied_dirs: Mutex<Vec<String>>,
    pub(crate) sync_ticks: AtomicU64,
    pub(crate) write_ticks: AtomicU64,
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());

/// What the library knows, `None` in a process that is none of its business.
pub(crate) fn shared() -> Option<&'static Shared> {
    // SAFETY: null, or a leaked box that nobody ever frees or has a mutable reference to.
    unsafe { SHARED.load(Ordering::Acquire).as_ref() }
}

/// A lock that a panic elsewhere does not poison: there is none elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[used]
// SAFETY: the loader calls what stands in this section once, when libc is ready and before `main`.
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = init;

extern "C" fn init() {
    let (Some(dir), Some(side)) = (variable(ENV_DIR), variable(ENV_SIDE)) else {
        return;
    };
    match Shared::attach(dir, &Side::new(&side)) {
        Ok(shared) => SHARED.store(Box::into_raw(Box::new(shared)), Ordering::Release),
        Err(what) => {
            let message = format!("jepsen-preload: {what}\n");
            // SAFETY: the bytes live until the call returns; then the process ends, since a node
            // without faults would prove nothing.
            unsafe {
                libc::syscall(libc::SYS_write, 2, message.as_ptr(), message.len());
                libc::_exit(97);
            }
        }
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: nobody changes the environment before `main`; the value is copied at once.
    let value = unsafe {
        let value: *const c_char = libc::getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value)
    };
    Some(PathBuf::from(OsStr::from_bytes(value.to_bytes())))
}

impl Shared {
    fn attach(dir: PathBuf, side: &Side) -> Result<Shared, String> {
        let told = |what: &Path| {
            let what = what.display().to_string();
            move |errno: Errno| format!("{what}: error {errno}")
        };
        let control = map_control(&side.control())?;
        let path = side.names();
        let file = OwnFile::open(&path, libc::O_RDWR).map_err(told(&path))?;
        let mut text = vec![0; usize::try_from(file.len().map_err(told(&path))?).unwrap_or(0)];
        let len = file.read_at(&mut text, 0).map_err(told(&path))?;
        let replay = log::replay(&text[..len], |event| log::has_happened(&dir, event))
            .map_err(|error| error.to_string())?;
        for (position, fate) in &replay.settled {
            file.write_all_at(&[*fate as u8], *position)
                .map_err(told(&path))?;
        }
        file.set_len(replay.len).map_err(told(&path))?;
        let mut doubts: BTreeMap<FileId, Ranges> = BTreeMap::new();
        for (file, start, end, begins) in replay.doubts {
            let ranges = doubts.entry(file).or_default();
            if begins {
                ranges.add(start, end);
            } else {
                ranges.remove(start, end);
            }
        }
        let mut files = HashMap::new();
        let mut add = |path: &Path, file: FileId| -> Result<(), String> {
            let inode = sys::stat_path(path).map_err(told(path))?.inode;
            let doubtful = doubts.remove(&file).unwrap_or_default();
            files.insert(inode, Tracked::file(file, !replay.is_fresh, doubtful));
            Ok(())
        };
        for (path, node) in replay.names.walk() {
            if let Node::File(file) = node {
                add(&dir.join(path), file)?;
            }
        }
        for file in replay.names.unnamed() {
            add(&side.kept(file), file)?;
        }
        let mut names = NameLog::new(replay.names, file, replay.len);
        names
            .begin(&log::Event::Start, log::Fate::Done)
            .map_err(told(&path))?;
        control[Word::Process as usize].store(u64::from(std::process::id()), Ordering::SeqCst);
        control[Word::Starts as usize].fetch_add(1, Ordering::SeqCst);
        Ok(Shared {
            dir,
            side: side.clone(),
            control,
            names: Mutex::new(names),
            files: Mutex::new(files),
            has_lied: AtomicBool::new(false),
            lied_dirs: Mutex::new(Vec::new()),
            sync_ticks: AtomicU64::new(0),
            write_ticks: AtomicU64::new(0),
        })
    }

    /// What the harness has set.
    pub(crate) fn setting(&self, word: Word) -> u64 {
        self.control[word as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, word: Word) {
        self.count_many(word, 1);
    }

    pub(crate) fn count_many(&self, word: Word, many: u64) {
        self.control[word as usize].fetch_add(many, Ordering::Relaxed);
    }

    pub(crate) fn note(&self, word: Word, value: u64) {
        self.control[word as usize].store(value, Ordering::Relaxed);
    }

    /// Something this library cannot do, or met and does not know: the run proves nothing.
    pub(crate) fn trouble(&self, what: &str) {
        self.count(Word::Trouble);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
        if let Ok(file) = OwnFile::open(&self.side.trouble(), flags) {
            let line = format!("{what}\n");
            // SAFETY: the bytes live until the call returns. That it may fail does not matter: it is
            // counted above.
            unsafe { libc::syscall(libc::SYS_write, file.fd(), line.as_ptr(), line.len()) };
        }
    }

    /// The path below the data directory that a call is about; `None` outside of it.
    pub(crate) fn below(&self, dir_fd: c_int, path: &CStr) -> Option<String> {
        let path = path.to_bytes();
        let mut whole = Vec::new();
        if !path.starts_with(b"/") {
            let base = if dir_fd == CWD {
                sys::readlink(c"/proc/self/cwd")
            } else {
                std::ffi::CString::new(format!("/proc/self/fd/{dir_fd}"))
                    .map_err(|_| libc::EINVAL)
                    .and_then(|link| sys::readlink(&link))
            };
            whole = base.ok()?;
            whole.push(b'/');
        }
        whole.extend_from_slice(path);
        self.below_absolute(&whole)
    }

    /// The path below the data directory of an open directory.
    pub(crate) fn below_fd(&self, fd: c_int) -> Option<String> {
        let link = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).ok()?;
        self.below_absolute(&sys::readlink(&link).ok()?)
    }

    fn below_absolute(&self, path: &[u8]) -> Option<String> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let mut parts = parts.into_iter();
        let dir = self.dir.as_os_str().as_bytes();
        for part in dir
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
        {
            if parts.next() != Some(part) {
                return None;
            }
        }
        let below = parts.collect::<Vec<_>>().join(&b'/');
        match String::from_utf8(below) {
            Ok(below) if !below.contains(['\t', '\n']) => Some(below),
            _ => {
                self.trouble("a name is not UTF-8, or has a tab or an end of line in it");
                None
            }
        }
    }
}

fn map_control(path: &Path) -> Result<&'static [AtomicU64; WORDS], String> {
    let told = |errno: Errno| format!("{}: error {errno}", path.display());
    let file = OwnFile::open(path, libc::O_RDWR).map_err(told)?;
    if file.len().map_err(told)? < BYTES as u64 {
        return Err(format!("{}: too short", path.display()));
    }
    // SAFETY: a new shared mapping of a file that is long enough, which the harness never cuts.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut::<c_void>(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(told(sys::errno()));
    }
    // SAFETY: page-aligned, of this length, never unmapped; all who share it treat it as whole words.
    let words = unsafe { &*at.cast::<[AtomicU64; WORDS]>() };
    let is_ours = words[Word::Magic as usize].load(Ordering::SeqCst) == MAGIC;
    if !is_ours || words[Word::Version as usize].load(Ordering::SeqCst) != VERSION {
        return Err(format!(
            "{}: not a control file of this version",
            path.display()
        ));
    }
    Ok(words)
}
