//! An audit of the engine's journals before the engine itself reads them.
//!
//! The engine (fjall 3.1) replays a journal up to the first thing it does not understand and drops
//! the rest without a word; or it refuses to open at all, or panics, when the last batch is torn in
//! certain ways, which a power cut does to many nodes at the same moment. So this module walks
//! the journals first. Every batch carries the number of its commit:
//!
//! - a number missing within the journals, or a broken batch in any but the newest one, is a hole:
//!   acknowledged commits are gone although the newest ones are there;
//! - a broken batch in the newest journal is where that journal has to be cut. Whether anything
//!   acknowledged was lost that way, the mark tells;
//! - the last number in the journals is what the engine must say once it is open.
//!
//! The format is that of the pinned version of the engine; a test reads what it really writes.
#![expect(
    clippy::disallowed_types,
    reason = "adapters of the real disk may touch files"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

const TRAILER: [u8; 4] = *b"FJL\x03";
const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
/// Tag, kind, compression, keyspace, and the lengths of key, value and stored value.
const ITEM_HEADER_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;

/// Which keys of a batch matter to the audit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    /// Its value is the number of the commit.
    pub(super) sequence: &'a [u8],
    /// A batch that sets it may skip numbers: it records a loss that is known.
    pub(super) skip: &'a [u8],
}

/// What the journals of an engine look like.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Commits are missing in the middle.
    pub(super) hole: Option<String>,
    /// The newest journal has to be cut before the engine can be trusted to open.
    pub(super) tail: Option<Tail>,
    /// The last commit in the journals; none if everything is in tables.
    pub(super) last: Option<u64>,
}

/// The broken end of the newest journal.
#[derive(Debug)]
pub(super) struct Tail {
    /// The journal.
    pub(super) path: PathBuf,
    /// Where its last good batch ends.
    pub(super) good_bytes: u64,
    /// Some batch ends behind the broken place: more than one batch that broke off.
    pub(super) worth_saving: bool,
    /// What is wrong with the next one.
    pub(super) reason: &'static str,
}

/// Walks every journal in `engine`.
pub(super) fn audit(engine: &Path, keys: Keys<'_>) -> io::Result<Audit> {
    let mut audit = Audit::default();
    let journals = journals(engine)?;
    for (index, path) in journals.iter().enumerate() {
        let walk = Walk::new(path, keys)?.run(audit.last)?;
        audit.last = walk.last;
        audit.hole = audit.hole.or(walk.hole);
        let Some(reason) = walk.broken else { continue };
        if index + 1 < journals.len() {
            let at = walk.good_bytes;
            audit
                .hole
                .get_or_insert_with(|| format!("sealed journal, byte {at}: {reason}"));
        } else {
            let worth_saving = has_trailer_after(path, walk.good_bytes)?;
            let good_bytes = walk.good_bytes;
            audit.tail = Some(Tail {
                path: path.clone(),
                good_bytes,
                worth_saving,
                reason,
            });
        }
    }
    Ok(audit)
}

impl Tail {
    /// Saves the broken end to `copy`.
    pub(super) fn save(&self, copy: &Path) -> io::Result<()> {
        let mut journal = File::open(&self.path)?;
        journal.seek(SeekFrom::Start(self.good_bytes))?;
        let mut saved = OpenOptions::new().write(true).create_new(true).open(copy)?;
        io::copy(&mut journal, &mut saved)?;
        saved.sync_all()
    }

    /// Cuts it off.
    pub(super) fn cut(&self) -> io::Result<()> {
        let journal = OpenOptions::new().write(true).open(&self.path)?;
        journal.set_len(self.good_bytes)?;
        journal.sync_all()
    }
}

/// The journals, oldest first.
fn journals(engine: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(id) = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<u64>().ok())
        {
            journals.push((id, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// One pass over one journal.
struct Walk<'a> {
    reader: BufReader<File>,
    keys: Keys<'a>,
    at: u64,
    len: u64,
    item: Vec<u8>,
}

#[derive(Debug, Default)]
struct Walked {
    good_bytes: u64,
    last: Option<u64>,
    hole: Option<String>,
    broken: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Batch {
    sequence: Option<u64>,
    skips: bool,
}

impl<'a> Walk<'a> {
    fn new(path: &Path, keys: Keys<'a>) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let reader = BufReader::with_capacity(256 * 1024, file);
        Ok(Self {
            reader,
            keys,
            at: 0,
            len,
            item: Vec::new(),
        })
    }

    fn run(mut self, last: Option<u64>) -> io::Result<Walked> {
        let mut walked = Walked {
            last,
            ..Walked::default()
        };
        while self.at < self.len {
            match self.batch()? {
                Ok(batch) => {
                    let expected = walked.last.map(|last| last + 1);
                    if !batch.skips && expected.is_some_and(|next| batch.sequence != Some(next)) {
                        let found = batch.sequence;
                        let hole = || format!("commit {expected:?} is missing before {found:?}");
                        walked.hole.get_or_insert_with(hole);
                    }
                    walked.last = batch.sequence.or(walked.last);
                    walked.good_bytes = self.at;
                }
                // Journals are allocated ahead; zeros up to the end are no damage.
                Err(_) if self.rest_is_zero(walked.good_bytes)? => break,
                Err(reason) => {
                    walked.broken = Some(reason);
                    break;
                }
            }
        }
        Ok(walked)
    }

    fn batch(&mut self) -> io::Result<Result<Batch, &'static str>> {
        let Some([TAG_START, count @ ..]) = self.array::<13>()? else {
            return Ok(Err("no batch begins here"));
        };
        let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]);
        let mut batch = Batch::default();
        let mut hasher = Xxh3::new();
        for _ in 0..count {
            match self.tag()? {
                Some(TAG_ITEM) => {}
                Some(TAG_END) => return Ok(Err("a batch is short of items")),
                Some(_) | None => return Ok(Err("a batch breaks off")),
            }
            if !self.item(&mut batch)? {
                return Ok(Err("an item breaks off"));
            }
            hasher.update(&self.item);
        }
        let Some([TAG_END, rest @ ..]) = self.array::<13>()? else {
            return Ok(Err("a batch does not end"));
        };
        if rest[8..] != TRAILER {
            return Ok(Err("the end of a batch is torn"));
        }
        if rest[..8] != hasher.digest().to_le_bytes() {
            return Ok(Err("the checksum of a batch is wrong"));
        }
        Ok(Ok(batch))
    }

    /// Reads the item whose tag has just been read; false if the journal ends before it does.
    fn item(&mut self, batch: &mut Batch) -> io::Result<bool> {
        self.item.clear();
        self.item.push(TAG_ITEM);
        if !self.extend(ITEM_HEADER_BYTES - 1)? {
            return Ok(false);
        }
        let key_bytes = usize::from(u16::from_le_bytes([self.item[11], self.item[12]]));
        let stored = [self.item[17], self.item[18], self.item[19], self.item[20]];
        let value_bytes = usize::try_from(u32::from_le_bytes(stored)).unwrap_or(usize::MAX);
        if !self.extend(key_bytes)? || !self.extend(value_bytes)? {
            return Ok(false);
        }
        let (key, value) = self.item[ITEM_HEADER_BYTES..].split_at(key_bytes);
        if key == self.keys.sequence {
            batch.sequence = value.try_into().ok().map(u64::from_le_bytes);
        }
        batch.skips |= key == self.keys.skip;
        Ok(true)
    }

    fn tag(&mut self) -> io::Result<Option<u8>> {
        Ok(self.array::<1>()?.map(|[tag]| tag))
    }

    fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut array = [0; N];
        if self.len < self.at + N as u64 {
            return Ok(None);
        }
        self.reader.read_exact(&mut array)?;
        self.at += N as u64;
        Ok(Some(array))
    }

    /// Appends to the item; false if the journal is shorter, before anything is allocated.
    fn extend(&mut self, bytes: usize) -> io::Result<bool> {
        let end = self.at.saturating_add(bytes as u64);
        if self.len < end {
            return Ok(false);
        }
        let start = self.item.len();
        self.item.resize(start + bytes, 0);
        self.reader.read_exact(&mut self.item[start..])?;
        self.at = end;
        Ok(true)
    }

    fn rest_is_zero(&mut self, from: u64) -> io::Result<bool> {
        self.reader.seek(SeekFrom::Start(from))?;
        let mut block = vec![0; 64 * 1024];
        loop {
            let bytes = self.reader.read(&mut block)?;
            if bytes == 0 {
                return Ok(true);
            }
            if block[..bytes].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }
}

/// Whether some batch ends after `from`.
fn has_trailer_after(path: &Path, from: u64) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path)?);
    reader.seek(SeekFrom::Start(from))?;
    let mut window = [0; TRAILER.len()];
    for byte in reader.bytes() {
        window.rotate_left(1);
        window[TRAILER.len() - 1] = byte?;
        if window == TRAILER {
            return Ok(true);
        }
    }
    Ok(false)
}
