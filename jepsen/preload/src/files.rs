//! [`Tracked`]: an open file of the data directory, and the table of descriptors that lead to one.

use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use jepsen_control::FileId;
use jepsen_control::ranges::Ranges;

/// A file of the data directory, or any directory in it. Never freed: descriptors lead to it, and a
/// node has some thousand files in its life.
pub(crate) struct Tracked {
    /// `None`: a directory.
    pub(crate) file: Option<FileId>,
    /// No name leads to it, nor will again: nothing of it need be kept.
    pub(crate) is_gone: AtomicBool,
    pub(crate) unsynced: Mutex<Unsynced>,
}

/// What a sync of a file has to bring to the platter.
#[derive(Default)]
pub(crate) struct Unsynced {
    /// Sectors written since the last good sync.
    pub(crate) dirty: Ranges,
    /// Sectors a failed sync left marked clean: no later sync writes them.
    pub(crate) doubtful: Ranges,
    /// Everything that is not doubtful may be dirty: another process wrote it.
    pub(crate) is_all_dirty: bool,
    /// A sync of it has lied.
    pub(crate) is_lied: bool,
}

static DIRECTORY: Tracked = Tracked {
    file: None,
    is_gone: AtomicBool::new(false),
    unsynced: Mutex::new(Unsynced {
        dirty: Ranges::new(),
        doubtful: Ranges::new(),
        is_all_dirty: false,
        is_lied: false,
    }),
};

impl Tracked {
    /// A file; `is_all_dirty` where it is not known what another process has written to it.
    pub(crate) fn file(file: FileId, is_all_dirty: bool, doubtful: Ranges) -> &'static Tracked {
        Box::leak(Box::new(Tracked {
            file: Some(file),
            is_gone: AtomicBool::new(false),
            unsynced: Mutex::new(Unsynced {
                doubtful,
                is_all_dirty,
                ..Unsynced::default()
            }),
        }))
    }

    /// What stands for every directory; which one it is the descriptor tells.
    pub(crate) fn directory() -> &'static Tracked {
        &DIRECTORY
    }
}

impl Unsynced {
    /// Takes out what a sync that begins now covers.
    pub(crate) fn take(&mut self, len: u64) -> Ranges {
        let mut taken = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.is_all_dirty) {
            taken.add(0, len);
            for (start, end) in self.doubtful.iter() {
                taken.remove(start, end);
            }
        }
        taken
    }
}

/// Descriptors above this are not looked at; a node has fewer.
const DESCRIPTORS_MAX: usize = 1 << 16;

static DESCRIPTORS: [AtomicPtr<Tracked>; DESCRIPTORS_MAX] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; DESCRIPTORS_MAX];

/// What a descriptor leads to; `None` for all that is not in the data directory.
pub(crate) fn tracked(fd: c_int) -> Option<&'static Tracked> {
    let slot = DESCRIPTORS.get(usize::try_from(fd).ok()?)?;
    // SAFETY: null, or a reference that lives for ever and is only shared.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}

/// Like [`tracked`], files only.
pub(crate) fn tracked_file(fd: c_int) -> Option<(&'static Tracked, FileId)> {
    let tracked = tracked(fd)?;
    Some((tracked, tracked.file?))
}

/// Notes what a descriptor leads to; false when there is no room for it.
pub(crate) fn set_descriptor(fd: c_int, tracked: Option<&'static Tracked>) -> bool {
    let slot = usize::try_from(fd).ok().and_then(|fd| DESCRIPTORS.get(fd));
    let Some(slot) = slot else {
        return tracked.is_none();
    };
    let pointer = tracked.map_or(std::ptr::null_mut(), |tracked| {
        std::ptr::from_ref(tracked).cast_mut()
    });
    slot.store(pointer, Ordering::Release);
    true
}
