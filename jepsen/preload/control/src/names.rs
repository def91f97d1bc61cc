//! [`Names`]: directories as a node sees them, as the platter holds them, and the changes in
//! between, which a power cut keeps or loses.
//!
//! The same assumptions as `storage::disk::SimDisk` makes: a change is durable once its directory is
//! synced; a file that moved between directories drags along what was done to its name before.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Event;
use crate::{Draw, FileId};

type DirectoryId = u64;

const ROOT: DirectoryId = 0;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory(u64),
    /// A file.
    File(FileId),
}

#[derive(Debug, Default)]
struct Directory {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Change {
    Link { place: Place, node: Node },
    Unlink { place: Place },
    Rename { from: Place, to: Place, node: Node },
}

#[derive(Debug, Clone)]
struct Place {
    directory: DirectoryId,
    name: String,
}

/// All names of one data directory.
#[derive(Debug)]
pub struct Names {
    directories: BTreeMap<DirectoryId, Directory>,
    /// Changes that no sync has covered, each with its position in the log.
    pending: Vec<(u64, Change)>,
    next_directory: DirectoryId,
    next_file: FileId,
    /// Files without a live name, which a power cut may give one again.
    unnamed: BTreeSet<FileId>,
}

impl Default for Names {
    fn default() -> Names {
        Names::new()
    }
}

impl Names {
    /// An empty data directory.
    #[must_use]
    pub fn new() -> Names {
        Names {
            directories: BTreeMap::from([(ROOT, Directory::default())]),
            pending: Vec::new(),
            next_directory: ROOT + 1,
            next_file: 1,
            unnamed: BTreeSet::new(),
        }
    }

    /// The id for the next file.
    #[must_use]
    pub fn next_file(&self) -> FileId {
        self.next_file
    }

    /// What a path leads to, `None` when nothing.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Node> {
        let mut node = Node::Directory(ROOT);
        for name in parts(path) {
            let Node::Directory(directory) = node else {
                return None;
            };
            node = *self.directories.get(&directory)?.live.get(name)?;
        }
        Some(node)
    }

    /// Takes up an event that has happened; `position` is its place in the log, and rises. False
    /// when it cannot have happened to these names.
    pub fn apply(&mut self, position: u64, event: &Event) -> bool {
        self.try_apply(position, event).is_some()
    }

    fn try_apply(&mut self, position: u64, event: &Event) -> Option<()> {
        match event {
            Event::HasFile { file, path } => {
                let place = self.place(path)?;
                self.next_file = self.next_file.max(file + 1);
                let change = Change::Link {
                    place,
                    node: Node::File(*file),
                };
                self.settle(&change);
                self.live(&change);
            }
            Event::HasDirectory { path } => {
                let place = self.place(path)?;
                let change = Change::Link {
                    place,
                    node: Node::Directory(self.new_directory()),
                };
                self.settle(&change);
                self.live(&change);
            }
            Event::Create { file, path } => {
                let place = self.place(path)?;
                self.next_file = self.next_file.max(file + 1);
                self.change(
                    position,
                    Change::Link {
                        place,
                        node: Node::File(*file),
                    },
                );
            }
            Event::MakeDirectory { path } => {
                let place = self.place(path)?;
                let node = Node::Directory(self.new_directory());
                self.change(position, Change::Link { place, node });
            }
            Event::Rename { from, to } => {
                let node = self.find(from)?;
                let replaced = self.find(to);
                let (from, to) = (self.place(from)?, self.place(to)?);
                if let Some(Node::File(file)) = replaced
                    && replaced != Some(node)
                {
                    self.unnamed.insert(file);
                }
                self.change(position, Change::Rename { from, to, node });
            }
            Event::Remove { path } => {
                let Some(Node::File(file)) = self.find(path) else {
                    return None;
                };
                let place = self.place(path)?;
                self.unnamed.insert(file);
                self.change(position, Change::Unlink { place });
            }
            Event::RemoveDirectory { path } => {
                let Some(Node::Directory(_)) = self.find(path) else {
                    return None;
                };
                let place = self.place(path)?;
                self.change(position, Change::Unlink { place });
            }
            Event::SyncDirectory { path } => self.sync(self.directory(path)?, position),
            Event::SyncAll => {
                for (at, change) in std::mem::take(&mut self.pending) {
                    if at < position {
                        self.settle(&change);
                    } else {
                        self.pending.push((at, change));
                    }
                }
            }
            Event::Start | Event::Doubt { .. } | Event::Trust { .. } => {}
        }
        Some(())
    }

    /// The directory at a path, by an id that outlives renames.
    #[must_use]
    pub fn directory(&self, path: &str) -> Option<u64> {
        match self.find(path) {
            Some(Node::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    /// Makes the changes in a directory durable that were made before `position` in the log.
    pub fn sync(&mut self, directory: u64, position: u64) {
        let before = self
            .pending
            .iter()
            .take_while(|(at, _)| *at < position)
            .count();
        let all_before = self.pending[..before]
            .iter()
            .rposition(|(_, change)| {
                matches!(change, Change::Rename { from, to, .. }
                    if from.directory != to.directory
                        && (from.directory == directory || to.directory == directory))
            })
            .map_or(0, |index| index + 1);
        let pending = std::mem::take(&mut self.pending);
        for (index, (at, change)) in pending.into_iter().enumerate() {
            if index < before && (index < all_before || change.touches(directory)) {
                self.settle(&change);
            } else {
                self.pending.push((at, change));
            }
        }
    }

    /// Takes out the files that have no name and will never have one again.
    pub fn forget_unnamed(&mut self) -> Vec<FileId> {
        if self.unnamed.is_empty() {
            return Vec::new();
        }
        self.forget_unreachable();
        let mut needed = BTreeSet::new();
        let mut need = |node: &Node| {
            if let Node::File(file) = node {
                needed.insert(*file);
            }
        };
        for directory in self.directories.values() {
            directory.durable.values().for_each(&mut need);
        }
        for (_, change) in &self.pending {
            if let Change::Link { node, .. } | Change::Rename { node, .. } = change {
                need(node);
            }
        }
        let gone: Vec<FileId> = self.unnamed.difference(&needed).copied().collect();
        for file in &gone {
            self.unnamed.remove(file);
        }
        gone
    }

    /// Drops directories that no name leads to or may lead to again, with the changes in them.
    fn forget_unreachable(&mut self) {
        let mut stack = vec![ROOT];
        for (_, change) in &self.pending {
            if let Change::Link { node, .. } | Change::Rename { node, .. } = change
                && let Node::Directory(directory) = node
            {
                stack.push(*directory);
            }
        }
        let mut reachable = BTreeSet::new();
        while let Some(id) = stack.pop() {
            if !reachable.insert(id) {
                continue;
            }
            let Some(directory) = self.directories.get(&id) else {
                continue;
            };
            for node in directory.live.values().chain(directory.durable.values()) {
                if let Node::Directory(child) = node {
                    stack.push(*child);
                }
            }
        }
        self.directories.retain(|id, _| reachable.contains(id));
        self.pending
            .retain(|(_, change)| reachable.iter().any(|id| change.touches(*id)));
    }

    /// The files without a live name that a power cut may bring back.
    #[must_use]
    pub fn unnamed(&self) -> Vec<FileId> {
        self.unnamed.iter().copied().collect()
    }

    /// Every live name below the root with what it leads to, parents first.
    #[must_use]
    pub fn walk(&self) -> Vec<(String, Node)> {
        let mut found = Vec::new();
        let mut stack = vec![(String::new(), ROOT)];
        while let Some((path, directory)) = stack.pop() {
            let Some(directory) = self.directories.get(&directory) else {
                continue;
            };
            for (name, node) in &directory.live {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                if let Node::Directory(id) = node {
                    stack.push((path.clone(), *id));
                }
                found.push((path, *node));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// How many changes no sync has covered.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Power is lost: of the changes not synced, all up to some point are kept, or each by chance.
    /// Returns how many were kept and lost.
    pub fn crash(&mut self, draw: &mut Draw<'_>) -> (usize, usize) {
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len();
        let in_order = draw(2) == 0;
        let up_to = draw(count as u64 + 1);
        let mut kept = 0;
        for (index, (_, change)) in pending.into_iter().enumerate() {
            let keeps = if in_order {
                (index as u64) < up_to
            } else {
                draw(2) == 0
            };
            if keeps && self.can_settle(&change) {
                self.settle(&change);
                kept += 1;
            }
        }
        for directory in self.directories.values_mut() {
            directory.live = directory.durable.clone();
        }
        (kept, count - kept)
    }

    /// No file has two names, whatever is kept of the changes before: a rename does not count when
    /// the platter has the file under another name than the one it had then.
    fn can_settle(&self, change: &Change) -> bool {
        let Change::Rename { from, node, .. } = change else {
            return true;
        };
        let is_at_from = self
            .directories
            .get(&from.directory)
            .is_some_and(|directory| directory.durable.get(&from.name) == Some(node));
        let mut everywhere = self.directories.values();
        is_at_from || !everywhere.any(|directory| directory.durable.values().any(|at| at == node))
    }

    fn new_directory(&mut self) -> DirectoryId {
        let id = self.next_directory;
        self.next_directory += 1;
        self.directories.insert(id, Directory::default());
        id
    }

    fn place(&self, path: &str) -> Option<Place> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        (!name.is_empty()).then_some(())?;
        Some(Place {
            directory: self.directory(parent)?,
            name: name.to_owned(),
        })
    }

    fn change(&mut self, position: u64, change: Change) {
        self.live(&change);
        self.pending.push((position, change));
    }

    fn live(&mut self, change: &Change) {
        change.apply(&mut self.directories, |directory| &mut directory.live);
    }

    fn settle(&mut self, change: &Change) {
        change.apply(&mut self.directories, |directory| &mut directory.durable);
    }
}

impl Change {
    fn touches(&self, directory: DirectoryId) -> bool {
        match self {
            Change::Link { place, .. } | Change::Unlink { place } => place.directory == directory,
            Change::Rename { from, to, .. } => {
                from.directory == directory || to.directory == directory
            }
        }
    }

    fn apply(
        &self,
        directories: &mut BTreeMap<DirectoryId, Directory>,
        side: impl Fn(&mut Directory) -> &mut BTreeMap<String, Node>,
    ) {
        let mut set = |place: &Place, node: Option<Node>| {
            if let Some(directory) = directories.get_mut(&place.directory) {
                match node {
                    Some(node) => side(directory).insert(place.name.clone(), node),
                    None => side(directory).remove(&place.name),
                };
            }
        };
        match self {
            Change::Link { place, node } => set(place, Some(*node)),
            Change::Unlink { place } => set(place, None),
            Change::Rename { from, to, node } => {
                set(from, None);
                set(to, Some(*node));
            }
        }
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(file: FileId, path: &str) -> Event {
        Event::Create {
            file,
            path: path.to_owned(),
        }
    }

    fn sync(path: &str) -> Event {
        Event::SyncDirectory {
            path: path.to_owned(),
        }
    }

    fn rename(from: &str, to: &str) -> Event {
        Event::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    fn after(events: &[Event], mut draw: impl FnMut(u64) -> u64) -> Vec<String> {
        let mut names = Names::new();
        for (position, event) in events.iter().enumerate() {
            assert!(names.apply(position as u64, event), "{event:?}");
        }
        names.crash(&mut draw);
        names.walk().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_name_is_durable_once_its_directory_is_synced_and_no_sooner() {
        let events = [create(1, "a"), sync(""), create(2, "b")];
        assert_eq!(after(&events, |_| 0), ["a"]);
        assert_eq!(after(&events, |limit| limit - 1), ["a"]);
        let mut first = true;
        let all = after(&events, |limit| {
            if std::mem::take(&mut first) {
                0
            } else {
                limit - 1
            }
        });
        assert_eq!(all, ["a", "b"]);
    }

    #[test]
    fn a_rename_that_is_lost_leaves_the_old_name_and_the_replaced_file() {
        let events = [create(1, "a"), create(2, "b"), sync(""), rename("a", "b")];
        let mut names = Names::new();
        for (position, event) in events.iter().enumerate() {
            assert!(names.apply(position as u64, event));
        }
        assert_eq!(names.unnamed(), [2]);
        assert_eq!(names.forget_unnamed(), []);
        names.crash(&mut |_| 0);
        assert_eq!(
            names.walk(),
            [
                ("a".to_owned(), Node::File(1)),
                ("b".to_owned(), Node::File(2))
            ]
        );
    }

    #[test]
    fn no_file_has_two_names_whatever_is_kept() {
        let events = [
            create(1, "a"),
            create(2, "c"),
            sync(""),
            rename("a", "b"),
            rename("b", "c"),
        ];
        // Each by chance: the first rename is lost, the second kept.
        let mut draws = [1, 0, 1, 0].into_iter();
        let names = after(&events, |_| draws.next().expect("four numbers"));
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn a_replaced_file_is_forgotten_once_the_rename_is_durable() {
        let mut names = Names::new();
        for (position, event) in [
            create(1, "a"),
            create(2, "b"),
            sync(""),
            rename("a", "b"),
            sync(""),
        ]
        .iter()
        .enumerate()
        {
            assert!(names.apply(position as u64, event));
        }
        assert_eq!(names.forget_unnamed(), [2]);
        assert_eq!(names.walk(), [("b".to_owned(), Node::File(1))]);
    }

    #[test]
    fn files_of_a_directory_that_is_gone_for_good_are_forgotten() {
        let mut names = Names::new();
        let remove = |path: &str| Event::Remove {
            path: path.to_owned(),
        };
        for (position, event) in [
            Event::MakeDirectory {
                path: "d".to_owned(),
            },
            create(1, "d/a"),
            sync("d"),
            sync(""),
            remove("d/a"),
            Event::RemoveDirectory {
                path: "d".to_owned(),
            },
        ]
        .iter()
        .enumerate()
        {
            assert!(names.apply(position as u64, event));
        }
        assert_eq!(names.forget_unnamed(), []);
        assert!(names.apply(10, &sync("")));
        assert_eq!(names.forget_unnamed(), [1]);
        assert_eq!(names.pending(), 0);
    }

    #[test]
    fn a_sync_covers_only_what_was_done_before_it_began() {
        let mut names = Names::new();
        assert!(names.apply(0, &create(1, "a")));
        assert!(names.apply(20, &create(2, "b")));
        names.sync(ROOT, 10);
        assert_eq!(names.pending(), 1);
        names.crash(&mut |_| 0);
        assert_eq!(names.walk(), [("a".to_owned(), Node::File(1))]);
    }

    #[test]
    fn what_cannot_have_happened_is_told() {
        let mut names = Names::new();
        assert!(!names.apply(0, &rename("a", "b")));
        assert!(!names.apply(0, &create(1, "missing/a")));
        assert!(!names.apply(0, &sync("missing")));
    }
}
