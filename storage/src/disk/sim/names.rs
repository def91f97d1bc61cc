//! The names of a simulated disk: directories as readers see them, as the platter holds them, and
//! the changes in between, which a power cut keeps or loses.
#![expect(
    clippy::cast_possible_truncation,
    reason = "what is counted here lies in memory, so it fits a usize"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Component, Path};

use super::random::Random;

pub(super) type Inode = u64;

const ROOT: Inode = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory(Inode),
    File(Inode),
}

#[derive(Debug, Default)]
struct Directory {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// A change of names that no directory sync has covered yet.
#[derive(Debug, Clone)]
enum Change {
    Link {
        directory: Inode,
        name: String,
        node: Node,
    },
    Unlink {
        directory: Inode,
        name: String,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
        node: Node,
    },
}

#[derive(Debug)]
pub(super) struct Names {
    directories: HashMap<Inode, Directory>,
    pending: Vec<Change>,
    next_inode: Inode,
}

impl Names {
    pub(super) fn new() -> Names {
        Names {
            directories: HashMap::from([(ROOT, Directory::default())]),
            pending: Vec::new(),
            next_inode: ROOT + 1,
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Option<Node>> {
        let mut node = Node::Directory(ROOT);
        for name in parts(path) {
            let Node::Directory(inode) = node else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            match self.directories[&inode].live.get(&name) {
                Some(child) => node = *child,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    pub(super) fn find_directory(&self, path: &Path) -> io::Result<Inode> {
        match self.find(path)? {
            Some(Node::Directory(inode)) => Ok(inode),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn entries(&self, path: &Path) -> io::Result<Vec<(String, Node)>> {
        let inode = self.find_directory(path)?;
        Ok(self.directories[&inode]
            .live
            .iter()
            .map(|(name, node)| (name.clone(), *node))
            .collect())
    }

    /// Names a new file; the name is free and its directory exists.
    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Inode> {
        let (directory, name) = self.place(path)?;
        let inode = self.new_inode();
        self.change(Change::Link {
            directory,
            name,
            node: Node::File(inode),
        });
        Ok(inode)
    }

    /// Makes the directory and those above it.
    pub(super) fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let mut directory = ROOT;
        for name in parts(path) {
            directory = match self.directories[&directory].live.get(&name) {
                Some(Node::Directory(inode)) => *inode,
                Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    let inode = self.new_inode();
                    self.directories.insert(inode, Directory::default());
                    self.change(Change::Link {
                        directory,
                        name,
                        node: Node::Directory(inode),
                    });
                    inode
                }
            };
        }
        Ok(())
    }

    /// Moves a name; returns the file it replaced.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Option<Inode>> {
        let node = self.find(from)?.ok_or(io::ErrorKind::NotFound)?;
        let replaced = match self.find(to)? {
            Some(Node::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(inode)) if node != Node::File(inode) => Some(inode),
            _ => None,
        };
        let (from, to) = (self.place(from)?, self.place(to)?);
        self.change(Change::Rename { from, to, node });
        Ok(replaced)
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<Inode> {
        let inode = match self.find(path)? {
            Some(Node::File(inode)) => inode,
            Some(Node::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let (directory, name) = self.place(path)?;
        self.change(Change::Unlink { directory, name });
        Ok(inode)
    }

    /// Removes a directory with all below; returns the files that lost their name.
    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<Vec<Inode>> {
        let inode = self.find_directory(path)?;
        let mut files = Vec::new();
        let mut stack = vec![inode];
        while let Some(directory) = stack.pop() {
            for (name, node) in self.directories[&directory].live.clone() {
                match node {
                    Node::Directory(inode) => stack.push(inode),
                    Node::File(inode) => files.push(inode),
                }
                self.change(Change::Unlink { directory, name });
            }
        }
        let (directory, name) = self.place(path)?;
        self.change(Change::Unlink { directory, name });
        Ok(files)
    }

    /// Makes the names of one directory durable.
    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find_directory(path)?;
        // A file that moved between directories drags along what was done to its name before.
        let all_before = self
            .pending
            .iter()
            .rposition(|change| {
                matches!(change, Change::Rename { from, to, .. }
                    if from.0 != to.0 && (from.0 == inode || to.0 == inode))
            })
            .map_or(0, |position| position + 1);
        let pending = std::mem::take(&mut self.pending);
        for (position, change) in pending.into_iter().enumerate() {
            if position < all_before || change.touches(inode) {
                change.apply(&mut self.directories, |directory| &mut directory.durable);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    /// Power is lost: changes not synced are kept up to some point, or each by chance. Returns the
    /// files that still have a name.
    pub(super) fn crash(&mut self, random: &mut Random) -> HashSet<Inode> {
        let pending = std::mem::take(&mut self.pending);
        let in_order = random.chance(1, 2);
        let kept = random.below(pending.len() as u64 + 1) as usize;
        for (position, change) in pending.into_iter().enumerate() {
            if if in_order {
                position < kept
            } else {
                random.chance(1, 2)
            } {
                change.apply(&mut self.directories, |directory| &mut directory.durable);
            }
        }
        let (mut files, mut stack) = (HashSet::new(), vec![ROOT]);
        let mut directories = HashMap::new();
        while let Some(inode) = stack.pop() {
            let Some(mut directory) = self.directories.remove(&inode) else {
                continue;
            };
            for node in directory.durable.values() {
                match node {
                    Node::Directory(inode) => stack.push(*inode),
                    Node::File(inode) => drop(files.insert(*inode)),
                }
            }
            directory.live = directory.durable.clone();
            directories.insert(inode, directory);
        }
        self.directories = directories;
        files
    }

    /// Whether no change waits for a directory sync.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.next_inode
    }

    fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let mut names = parts(path);
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = self.find_directory(path.parent().unwrap_or(Path::new("")))?;
        Ok((directory, name))
    }

    fn change(&mut self, change: Change) {
        change
            .clone()
            .apply(&mut self.directories, |directory| &mut directory.live);
        self.pending.push(change);
    }
}

impl Change {
    fn touches(&self, inode: Inode) -> bool {
        match self {
            Change::Link { directory, .. } | Change::Unlink { directory, .. } => {
                *directory == inode
            }
            Change::Rename { from, to, .. } => from.0 == inode || to.0 == inode,
        }
    }

    fn apply(
        self,
        directories: &mut HashMap<Inode, Directory>,
        side: impl Fn(&mut Directory) -> &mut BTreeMap<String, Node>,
    ) {
        let mut set = |directory: Inode, name: String, node: Option<Node>| {
            if let Some(directory) = directories.get_mut(&directory) {
                match node {
                    Some(node) => side(directory).insert(name, node),
                    None => side(directory).remove(&name),
                };
            }
        };
        match self {
            Change::Link {
                directory,
                name,
                node,
            } => set(directory, name, Some(node)),
            Change::Unlink { directory, name } => set(directory, name, None),
            Change::Rename { from, to, node } => {
                set(from.0, from.1, None);
                set(to.0, to.1, Some(node));
            }
        }
    }
}

fn parts(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}
