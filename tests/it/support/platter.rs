//! What is on a disk for sure, what may be, and what a power cut can leave of it.
//!
//! As strict as POSIX allows: a sync of a file covers its bytes and its size, as they were when the
//! sync began; a name needs a sync of its directory. Of what is not covered a cut leaves any part: of a
//! file's pages each the old one, the new one, one between them, or sectors of both; any of its sizes;
//! of operations on names any subset, a rename within one directory being one operation.

mod file;
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use self::file::{Change, allocation, torn, write_sparse};
use super::{events::Random, trace::Operation};

/// Place of a file or directory in [`Platter::nodes`].
type Node = usize;

/// A file or a directory; the numbers order what is pending.
enum Content {
    File { durable: Vec<u8>, pending: Vec<(u64, Change)> },
    Dir { durable: Names, now: Names },
}

type Names = BTreeMap<String, Node>;

/// An operation on names: one change, or two of a rename.
struct NameChange {
    number: u64,
    parts: Vec<NamePart>,
}

struct NamePart {
    dir: Node,
    name: String,
    /// Absent: the name goes.
    node: Option<Node>,
}

/// A sync under way.
struct Sync {
    node: Node,
    number: u64,
}

/// The disk below one directory.
pub(crate) struct Platter {
    root: PathBuf,
    nodes: Vec<Content>,
    by_inode: HashMap<u64, Node>,
    names: Vec<NameChange>,
    syncs: HashMap<u64, Sync>,
    operations: u64,
}

const ROOT: Node = 0;

impl Platter {
    /// What is below this directory now is durable.
    pub(crate) fn of(root: &Path) -> Self {
        let mut platter = Self {
            root: root.to_owned(),
            nodes: Vec::new(),
            by_inode: HashMap::new(),
            names: Vec::new(),
            syncs: HashMap::new(),
            operations: 0,
        };
        platter.load(root);
        platter
    }

    /// The trace names this directory.
    pub(crate) fn is_at(&mut self, root: &Path) {
        root.clone_into(&mut self.root);
        self.by_inode.insert(fs::metadata(root).unwrap().ino(), ROOT);
    }

    fn load(&mut self, path: &Path) -> Node {
        let metadata = fs::metadata(path).unwrap();
        let file = |durable| Content::File { durable, pending: Vec::new() };
        let node = self.add(metadata.ino(), file(Vec::new()));
        if !metadata.is_dir() {
            self.nodes[node] = file(fs::read(path).unwrap());
            return node;
        }
        let mut names = Names::new();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let inode = entry.metadata().unwrap().ino();
            let known = self.by_inode.get(&inode).copied();
            names.insert(name, known.unwrap_or_else(|| self.load(&entry.path())));
        }
        self.nodes[node] = Content::Dir { durable: names.clone(), now: names };
        node
    }

    fn add(&mut self, inode: u64, content: Content) -> Node {
        self.nodes.push(content);
        let node = self.nodes.len() - 1;
        // The inode of a file that is gone is given out again.
        self.by_inode.insert(inode, node);
        node
    }

    fn node_of(&self, inode: u64) -> Node {
        *self.by_inode.get(&inode).unwrap_or_else(|| panic!("inode {inode} was never created"))
    }

    /// The directory that holds a path, and the name in it.
    fn place(&self, path: &Path) -> (Node, String) {
        let path = path.strip_prefix(&self.root).unwrap();
        let mut dir = ROOT;
        for part in path.parent().unwrap() {
            let Content::Dir { now, .. } = &self.nodes[dir] else { panic!("{}", path.display()) };
            dir = now[part.to_str().unwrap()];
        }
        (dir, path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn named(&self, path: &Path) -> Node {
        let (dir, name) = self.place(path);
        match &self.nodes[dir] {
            Content::Dir { now, .. } => now[&name],
            Content::File { .. } => panic!("{} is below a file", path.display()),
        }
    }

    fn part(&self, path: &Path, node: Option<Node>) -> NamePart {
        let (dir, name) = self.place(path);
        NamePart { dir, name, node }
    }

    /// Takes the next operation of the trace.
    pub(crate) fn apply(&mut self, operation: Operation) {
        self.operations += 1;
        match operation {
            Operation::Create { file, path } => {
                let content = Content::File { durable: Vec::new(), pending: Vec::new() };
                let node = self.add(file, content);
                self.rename(vec![self.part(&path, Some(node))]);
            }
            Operation::MakeDir { file, path } => {
                let content = Content::Dir { durable: Names::new(), now: Names::new() };
                let node = self.add(file, content);
                self.rename(vec![self.part(&path, Some(node))]);
            }
            Operation::Rename { from, to } => {
                let node = self.named(&from);
                self.rename(vec![self.part(&to, Some(node)), self.part(&from, None)]);
            }
            Operation::Link { from, to } => {
                let node = self.named(&from);
                self.rename(vec![self.part(&to, Some(node))]);
            }
            Operation::Unlink { path } | Operation::RemoveDir { path } => {
                self.rename(vec![self.part(&path, None)]);
            }
            Operation::Write { file, offset, data } => {
                let offset = usize::try_from(offset).unwrap();
                self.change(file, Change::Write { offset, data });
            }
            Operation::Truncate { file, size } => {
                self.change(file, Change::Size(usize::try_from(size).unwrap()));
            }
            Operation::Allocate { file, offset, length, mode } => {
                self.change(file, allocation(offset, length, mode));
            }
            Operation::SyncBegin { file, number } => {
                let sync = Sync { node: self.node_of(file), number: self.operations };
                self.syncs.insert(number, sync);
            }
            Operation::SyncEnd { number } => {
                let sync = self.syncs.remove(&number).unwrap();
                self.settle(sync.node, sync.number);
            }
            Operation::SyncFailed { number } => drop(self.syncs.remove(&number).unwrap()),
        }
    }

    fn change(&mut self, inode: u64, change: Change) {
        let node = self.node_of(inode);
        let number = self.operations;
        match &mut self.nodes[node] {
            Content::File { pending, .. } => pending.push((number, change)),
            Content::Dir { .. } => panic!("a write to a directory"),
        }
    }

    fn rename(&mut self, parts: Vec<NamePart>) {
        for part in &parts {
            match &mut self.nodes[part.dir] {
                Content::Dir { now, .. } => set(now, part),
                Content::File { .. } => panic!("`{}` is below a file", part.name),
            }
        }
        self.names.push(NameChange { number: self.operations, parts });
    }

    /// What was done to a file or directory before this operation is on the disk.
    fn settle(&mut self, node: Node, before: u64) {
        match &mut self.nodes[node] {
            Content::File { durable, pending } => {
                let covered = pending.partition_point(|(number, _)| *number < before);
                for (_, change) in pending.drain(..covered) {
                    change.apply(durable);
                }
            }
            Content::Dir { durable, .. } => {
                let mut durable = std::mem::take(durable);
                let mut elsewhere = Vec::new();
                for change in self.names.iter_mut().take_while(|it| it.number < before) {
                    let mine: Vec<_> = change.parts.extract_if(.., |it| it.dir == node).collect();
                    // A rename never loses the file: where the old name is gone the new one is there.
                    if mine.iter().any(|it| it.node.is_none()) {
                        elsewhere.append(&mut change.parts);
                    }
                    for part in &mine {
                        set(&mut durable, part);
                    }
                }
                self.names.retain(|it| !it.parts.is_empty());
                match &mut self.nodes[node] {
                    Content::Dir { durable: place, .. } => *place = durable,
                    Content::File { .. } => unreachable!("it is a directory"),
                }
                for part in elsewhere {
                    match &mut self.nodes[part.dir] {
                        Content::Dir { durable, .. } => set(durable, &part),
                        Content::File { .. } => unreachable!("it holds a name"),
                    }
                }
            }
        }
    }

    /// Writes into an empty directory what a power cut could leave now.
    pub(crate) fn cut(&self, random: &mut Random, into: &Path) {
        let mut names: BTreeMap<Node, Names> = BTreeMap::new();
        for (node, content) in self.nodes.iter().enumerate() {
            if let Content::Dir { durable, .. } = content {
                names.insert(node, durable.clone());
            }
        }
        // Half of the cuts as a journal leaves it, in order; half as POSIX allows.
        let in_order = random.below(2) == 0;
        let reached = random.below(self.names.len() as u64 + 1);
        for (index, change) in (0..).zip(&self.names) {
            let happened = if in_order { index < reached } else { random.below(2) == 0 };
            if !happened {
                continue;
            }
            let across = change.parts.len() == 2 && change.parts[0].dir != change.parts[1].dir;
            let kept = if across && random.below(2) == 0 { 1 } else { change.parts.len() };
            for part in &change.parts[..kept] {
                set(names.get_mut(&part.dir).unwrap(), part);
            }
        }
        self.write(&names, ROOT, into, &mut HashMap::new(), &mut |durable, pending| {
            torn(durable, pending, random)
        });
    }

    /// Writes into an empty directory everything that was done.
    pub(crate) fn replay(&self, into: &Path) {
        let mut names = BTreeMap::new();
        for (node, content) in self.nodes.iter().enumerate() {
            if let Content::Dir { now, .. } = content {
                names.insert(node, now.clone());
            }
        }
        self.write(&names, ROOT, into, &mut HashMap::new(), &mut |durable, pending| {
            let mut bytes = durable.to_vec();
            for (_, change) in pending {
                change.apply(&mut bytes);
            }
            bytes
        });
    }

    /// Writes one directory and what is below it; `written` has the files with several names.
    fn write(
        &self,
        names: &BTreeMap<Node, Names>,
        dir: Node,
        into: &Path,
        written: &mut HashMap<Node, PathBuf>,
        bytes_of: &mut impl FnMut(&[u8], &[(u64, Change)]) -> Vec<u8>,
    ) {
        for (name, node) in &names[&dir] {
            let path = into.join(name);
            match &self.nodes[*node] {
                Content::Dir { .. } => {
                    fs::create_dir(&path).unwrap();
                    self.write(names, *node, &path, written, bytes_of);
                }
                Content::File { durable, pending } => {
                    if let Some(other) = written.get(node) {
                        fs::hard_link(other, &path).unwrap();
                        continue;
                    }
                    write_sparse(&path, &bytes_of(durable, pending));
                    written.insert(*node, path);
                }
            }
        }
    }
}

fn set(names: &mut Names, part: &NamePart) {
    match part.node {
        Some(node) => names.insert(part.name.clone(), node),
        None => names.remove(&part.name),
    };
}
