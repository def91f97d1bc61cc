//! Names: each change is in the log before it is made, and settled in it afterwards.

use std::ffi::{CStr, c_int, c_uint};

use jepsen_control::FileId;
use jepsen_control::control::Word;
use jepsen_control::log::{Event, Fate};
use jepsen_control::names::{Names, Node};
use jepsen_control::ranges::Ranges;

use crate::files::Tracked;
use crate::state::{Shared, lock};
use crate::sys::{self, Errno, OwnFile};

/// The names as they are, and the log of how they came about.
pub(crate) struct NameLog {
    pub(crate) names: Names,
    file: OwnFile,
    len: u64,
}

impl NameLog {
    pub(crate) fn new(names: Names, file: OwnFile, len: u64) -> NameLog {
        NameLog { names, file, len }
    }

    /// Writes an event down; returns its position in the log.
    pub(crate) fn begin(&mut self, event: &Event, fate: Fate) -> Result<u64, Errno> {
        let position = self.len;
        let line = event.line(fate);
        self.file.write_all_at(line.as_bytes(), position)?;
        self.len += line.len() as u64;
        Ok(position)
    }

    /// Says what became of the event at `position`.
    pub(crate) fn finish(&mut self, position: u64, fate: Fate) -> Result<(), Errno> {
        self.file.write_all_at(&[fate as u8], position)
    }
}

impl Shared {
    /// Makes one change of names by `call`, which returns what libc's function does.
    fn change_names(
        &self,
        log: &mut NameLog,
        event: &Event,
        call: impl FnOnce() -> c_int,
    ) -> c_int {
        self.count(Word::NameChanges);
        let position = match log.begin(event, Fate::Open) {
            Ok(position) => position,
            Err(errno) => {
                self.trouble(&format!(
                    "{event:?} is not in the log of names: error {errno}"
                ));
                return call();
            }
        };
        let result = call();
        let errno = sys::errno();
        let fate = if result < 0 { Fate::Failed } else { Fate::Done };
        if let Err(errno) = log.finish(position, fate) {
            self.trouble(&format!("{event:?} is not settled: error {errno}"));
        }
        if result >= 0 && !log.names.apply(position, event) {
            self.trouble(&format!("{event:?} does not fit what is known"));
        }
        sys::set_errno(errno);
        result
    }

    /// Keeps a file that is about to lose its name.
    fn keep(&self, log: &NameLog, path: &str) {
        let Some(Node::File(file)) = log.names.find(path) else {
            return;
        };
        let kept = sys::c_path(&self.dir.join(path))
            .and_then(|path| Ok((path, sys::c_path(&self.side.kept(file))?)))
            .and_then(|(path, kept)| sys::link(&path, &kept));
        match kept {
            Ok(()) | Err(libc::EEXIST) => {}
            Err(errno) => self.trouble(&format!("{path} cannot be kept: error {errno}")),
        }
    }

    /// Opens a file of the data directory by `call`, which returns a descriptor.
    pub(crate) fn open(&self, path: String, flags: c_int, call: impl FnOnce() -> c_int) -> c_int {
        if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            self.trouble("a file without a name is opened");
            return call();
        }
        if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
            let fd = call();
            if fd >= 0 {
                self.follow(fd, &path);
            }
            return fd;
        }
        let mut log = lock(&self.names);
        let before = sys::stat_path(&self.dir.join(&path));
        if flags & libc::O_CREAT != 0 && before.err() == Some(libc::ENOENT) {
            let file = log.names.next_file();
            let event = Event::Create { file, path };
            let fd = self.change_names(&mut log, &event, call);
            if fd >= 0 {
                self.follow_new(fd, file, false);
            }
            return fd;
        }
        drop(log);
        let fd = call();
        if fd >= 0 {
            self.follow(fd, &path);
            if flags & libc::O_TRUNC != 0
                && let Some((tracked, _)) = crate::files::tracked_file(fd)
                && let Ok(before) = before
            {
                lock(&tracked.unsynced).dirty.add(0, before.len);
            }
        }
        fd
    }

    /// Notes what a new descriptor of an existing file leads to.
    fn follow(&self, fd: c_int, path: &str) {
        let Ok(stat) = sys::stat_fd(fd) else {
            self.trouble(&format!("{path} was opened and cannot be looked at"));
            return;
        };
        if stat.is_dir() {
            self.set_descriptor(fd, Tracked::directory());
            return;
        }
        if !stat.is_file() {
            self.trouble(&format!("{path} is neither a file nor a directory"));
            return;
        }
        let known = lock(&self.files).get(&stat.inode).copied();
        if let Some(tracked) = known {
            self.set_descriptor(fd, tracked);
            return;
        }
        self.trouble(&format!("{path} was made behind the library's back"));
        let mut log = lock(&self.names);
        let event = Event::Create {
            file: log.names.next_file(),
            path: path.to_owned(),
        };
        if let Event::Create { file, .. } = event
            && let Ok(position) = log.begin(&event, Fate::Done)
            && log.names.apply(position, &event)
        {
            self.follow_new(fd, file, true);
        }
    }

    fn follow_new(&self, fd: c_int, file: FileId, is_all_dirty: bool) {
        match sys::stat_fd(fd) {
            Ok(stat) => {
                let tracked = Tracked::file(file, is_all_dirty, Ranges::new());
                lock(&self.files).insert(stat.inode, tracked);
                self.set_descriptor(fd, tracked);
            }
            Err(errno) => self.trouble(&format!("a new file cannot be looked at: error {errno}")),
        }
    }

    fn set_descriptor(&self, fd: c_int, tracked: &'static Tracked) {
        if !crate::files::set_descriptor(fd, Some(tracked)) {
            self.trouble(&format!("descriptor {fd} is too high"));
        }
    }

    pub(crate) fn unlink(&self, path: String, call: impl FnOnce() -> c_int) -> c_int {
        let mut log = lock(&self.names);
        self.keep(&log, &path);
        self.change_names(&mut log, &Event::Remove { path }, call)
    }

    pub(crate) fn rmdir(&self, path: String, call: impl FnOnce() -> c_int) -> c_int {
        let mut log = lock(&self.names);
        self.change_names(&mut log, &Event::RemoveDirectory { path }, call)
    }

    pub(crate) fn mkdir(&self, path: String, call: impl FnOnce() -> c_int) -> c_int {
        let mut log = lock(&self.names);
        // One that is there would look like one that was made, if the process died right now.
        if log.names.find(&path).is_some() {
            return call();
        }
        self.change_names(&mut log, &Event::MakeDirectory { path }, call)
    }

    /// `None` for a side that is outside of the data directory.
    pub(crate) fn rename(
        &self,
        from: Option<String>,
        to: Option<String>,
        flags: c_uint,
        call: impl FnOnce() -> c_int,
    ) -> c_int {
        let (Some(from), Some(to)) = (from, to) else {
            self.trouble("something is moved into the data directory or out of it");
            return call();
        };
        if flags & !libc::RENAME_NOREPLACE != 0 {
            self.trouble("names are exchanged");
            return call();
        }
        let mut log = lock(&self.names);
        if from == to || log.names.find(&from).is_none() {
            return call();
        }
        self.keep(&log, &to);
        self.change_names(&mut log, &Event::Rename { from, to }, call)
    }

    /// Takes up that what was done before `position` in `directory` is durable.
    pub(crate) fn directory_is_synced(&self, directory: u64, position: u64) {
        let mut log = lock(&self.names);
        if let Err(errno) = log.finish(position, Fate::Done) {
            self.trouble(&format!("a sync is not settled: error {errno}"));
        }
        log.names.sync(directory, position);
        self.forget_unnamed(&mut log);
    }

    /// Lets go of files that no power cut can bring back.
    pub(crate) fn forget_unnamed(&self, log: &mut NameLog) {
        let gone = log.names.forget_unnamed();
        if gone.is_empty() {
            return;
        }
        lock(&self.files).retain(|_, tracked| {
            let is_gone = tracked.file.is_some_and(|file| gone.contains(&file));
            if is_gone {
                tracked
                    .is_gone
                    .store(true, std::sync::atomic::Ordering::Relaxed);
            }
            !is_gone
        });
        for file in gone {
            for path in [self.side.kept(file), self.side.platter(file)] {
                let removed = sys::c_path(&path).map(|path: std::ffi::CString| {
                    let path: &CStr = &path;
                    sys::unlinkat(sys::CWD, path, 0)
                });
                if removed != Ok(0) && sys::errno() != libc::ENOENT {
                    self.trouble(&format!("{}: cannot be removed", path.display()));
                }
            }
        }
    }
}
