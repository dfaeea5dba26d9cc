//! Buckets: named sets of keys with their own quorums.
//!
//! The catalogue is a map of names to definitions. Each change is made on top of all before it and
//! agreed on as a decree, so that of two catalogues one is the other with more changes; they are
//! merged entry by entry, since the news may come before the decree. An id is a function of name
//! and generation, and never used again.
//!
//! Not decided here: when a change is proposed (`node::catalogue`), and who must have it before it
//! is confirmed (`coordinator::catalogue`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_client::wire::{BucketInfo, BucketOptions, ErrorBody, ErrorCode};
use quorate_ring::NodeId;
use serde::{Deserialize, Serialize};

use crate::message::BucketId;

/// Of buckets that had one name, one after the other, so many are remembered.
const GENERATIONS_MAX: u64 = 64;
/// Most buckets of a cluster, dropped ones included.
pub const BUCKETS_MAX: usize = 1_024;
/// Longest bucket name in bytes.
pub const BUCKET_NAME_BYTES_MAX: usize = 64;
/// The largest value size a bucket may allow.
pub const VALUE_BYTES_MAX: u32 = 4 << 20;
/// The bucket that exists from the start.
pub const DEFAULT_BUCKET: &str = "default";

const FORMAT: u16 = 1;
/// The mode in which the last write wins.
const LWW: &str = "lww";

/// A bucket's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Which keys are its own.
    pub id: BucketId,
    /// Settings, with its name.
    pub info: BucketInfo,
}

impl Bucket {
    /// True if the last write wins: concurrent writes are lost, not kept as siblings.
    #[must_use]
    pub fn is_lww(&self) -> bool {
        self.info.mode == LWW
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "s")]
    stamp: u64,
    #[serde(rename = "a")]
    author: u64,
    #[serde(rename = "d")]
    dropped: bool,
    #[serde(rename = "i")]
    info: BucketInfo,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    format: u16,
    entries: Vec<Entry>,
}

/// All buckets of the cluster as one node knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    entries: BTreeMap<String, Entry>,
    /// Buckets that are no more; follows from the entries.
    gone: BTreeSet<BucketId>,
}

/// Bytes that are not a catalogue, or not one this release can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a bucket catalogue this release can read")]
pub struct BadCatalogue;

fn default_info(name: &str) -> BucketInfo {
    BucketInfo {
        name: name.to_owned(),
        n: 3,
        r: 2,
        w: 2,
        pr: 0,
        pw: 0,
        sloppy: true,
        mode: "siblings".to_owned(),
        ttl_ms: 0,
        value_bytes_max: 1 << 20,
        siblings_warn: 25,
        siblings_max: 100,
    }
}

/// Gives `info` that many replicas, and majorities for its quorums.
fn fit(info: &mut BucketInfo, n: u8) {
    info.n = n;
    info.r = info.n / 2 + 1;
    info.w = info.n / 2 + 1;
}

fn bucket_id(name: &str, generation: u64) -> BucketId {
    let mut bytes = generation.to_be_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    BucketId(xxhash_rust::xxh3::xxh3_64(&bytes))
}

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

impl Catalogue {
    /// The catalogue of a new cluster whose keys may ever have `replicas_max` replicas: the bucket
    /// `default` and nothing else.
    #[must_use]
    pub fn founding(replicas_max: u8) -> Self {
        let mut info = default_info(DEFAULT_BUCKET);
        let n = info.n.min(replicas_max.max(1));
        fit(&mut info, n);
        let entry = Entry {
            generation: 0,
            stamp: 0,
            author: 0,
            dropped: false,
            info,
        };
        Self {
            entries: BTreeMap::from([(DEFAULT_BUCKET.to_owned(), entry)]),
            gone: BTreeSet::new(),
        }
    }

    /// The bucket of that name.
    ///
    /// # Errors
    ///
    /// `unknown_bucket`, saying how to make one.
    pub fn find(&self, name: &str) -> Result<Bucket, ErrorBody> {
        match self.entries.get(name) {
            Some(entry) if !entry.dropped => Ok(Bucket {
                id: bucket_id(name, entry.generation),
                info: entry.info.clone(),
            }),
            Some(_) | None => Err(ErrorBody::new(
                ErrorCode::UnknownBucket,
                format!(
                    "there is no bucket {:?}; make it with `quorate bucket create`",
                    shorten(name)
                ),
            )),
        }
    }

    /// True if the bucket was dropped: its keys are no more, whatever anybody still holds of them.
    /// Its id is never used again.
    #[must_use]
    pub fn is_dropped(&self, id: BucketId) -> bool {
        self.gone.contains(&id)
    }

    fn find_dropped(&mut self) {
        let entries = self.entries.iter();
        self.gone = entries
            .flat_map(|(name, entry)| {
                let last = entry.generation.saturating_sub(u64::from(!entry.dropped));
                let first = last.saturating_sub(GENERATIONS_MAX - 1).max(1);
                (first..=last).map(|generation| bucket_id(name, generation))
            })
            .collect();
    }

    /// How many replicas the keys of a bucket have; none if it is not known, or was dropped.
    #[must_use]
    pub fn replicas(&self, id: BucketId) -> Option<u8> {
        if self.is_dropped(id) {
            return None;
        }
        let mut entries = self.entries.iter();
        let found = entries.find(|(name, entry)| bucket_id(name, entry.generation) == id);
        found.map(|(_, entry)| entry.info.n)
    }

    /// The name of a bucket, also of one that has been dropped.
    #[must_use]
    pub fn name(&self, id: BucketId) -> Option<&str> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(name, entry)| bucket_id(name, entry.generation) == id);
        found.map(|(name, _)| name.as_str())
    }

    /// True if the last write wins in some bucket.
    #[must_use]
    pub fn has_lww(&self) -> bool {
        let mut live = self.entries.values().filter(|entry| !entry.dropped);
        live.any(|entry| entry.info.mode == LWW)
    }

    /// The values of n in use, also by buckets that have been dropped; ascending.
    #[must_use]
    pub fn replica_counts(&self) -> Vec<u8> {
        let counts: BTreeSet<u8> = self.entries.values().map(|entry| entry.info.n).collect();
        counts.into_iter().collect()
    }

    /// All buckets, in order of name.
    #[must_use]
    pub fn list(&self) -> Vec<BucketInfo> {
        let live = self.entries.values().filter(|entry| !entry.dropped);
        live.map(|entry| entry.info.clone()).collect()
    }

    /// Adds a bucket.
    ///
    /// # Errors
    ///
    /// If the name or a setting is out of range, or the bucket exists.
    pub fn create(
        &mut self,
        author: NodeId,
        name: &str,
        options: &BucketOptions,
        replicas_max: u8,
    ) -> Result<BucketInfo, ErrorBody> {
        check_name(name)?;
        let before = self.entries.get(name);
        if before.is_some_and(|entry| !entry.dropped) {
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                format!("bucket {name:?} exists; change it with `quorate bucket set`"),
            ));
        }
        if before.is_none() && BUCKETS_MAX <= self.entries.len() {
            let message = format!("a cluster has at most {BUCKETS_MAX} buckets");
            return Err(ErrorBody::overloaded("buckets", message));
        }
        let mut info = default_info(name);
        let n = options.n.unwrap_or_else(|| info.n.min(replicas_max));
        fit(&mut info, n);
        if let Some(mode) = &options.mode {
            check_mode(mode)?;
            info.mode.clone_from(mode);
        }
        apply(&mut info, options);
        check(&info, replicas_max)?;
        let (generation, stamp) = before.map_or((1, 1), |e| (e.generation + 1, e.stamp + 1));
        let entry = Entry {
            generation,
            stamp,
            author: author.get(),
            dropped: false,
            info: info.clone(),
        };
        self.entries.insert(name.to_owned(), entry);
        self.find_dropped();
        Ok(info)
    }

    /// Changes a bucket's settings.
    ///
    /// # Errors
    ///
    /// If there is no such bucket, a setting is out of range, or it is fixed at creation.
    pub fn set(
        &mut self,
        author: NodeId,
        name: &str,
        options: &BucketOptions,
        replicas_max: u8,
    ) -> Result<BucketInfo, ErrorBody> {
        let mut info = self.find(name)?.info;
        if options.n.is_some_and(|n| n != info.n) {
            return Err(invalid(format!(
                "n of a bucket is fixed at creation; {name:?} has n={}",
                info.n
            )));
        }
        if options.mode.as_ref().is_some_and(|mode| *mode != info.mode) {
            return Err(invalid(format!(
                "the mode of a bucket is fixed at creation; {name:?} has mode={}",
                info.mode
            )));
        }
        apply(&mut info, options);
        check(&info, replicas_max)?;
        self.replace(author, name, |entry| entry.info = info.clone());
        Ok(info)
    }

    /// Drops a bucket; its name may be created again and then means other keys.
    ///
    /// # Errors
    ///
    /// If there is no such bucket, or it is the default one.
    pub fn drop_bucket(&mut self, author: NodeId, name: &str) -> Result<BucketInfo, ErrorBody> {
        let info = self.find(name)?.info;
        if name == DEFAULT_BUCKET {
            return Err(invalid("the bucket \"default\" always exists"));
        }
        self.replace(author, name, |entry| entry.dropped = true);
        Ok(info)
    }

    fn replace(&mut self, author: NodeId, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(name) {
            change(entry);
            entry.stamp += 1;
            entry.author = author.get();
        }
        self.find_dropped();
    }

    /// Takes over every definition of `other` that is newer. True if anything changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (name, theirs) in &other.entries {
            let newer = self.entries.get(name).is_none_or(|ours| {
                // What was dropped stays dropped: its records may be gone already.
                let rank = |e: &Entry| (e.generation, e.dropped, e.stamp, e.author);
                rank(ours) < rank(theirs)
            });
            if newer {
                self.entries.insert(name.clone(), theirs.clone());
                changed = true;
            }
        }
        self.find_dropped();
        changed
    }

    /// Tells two catalogues apart.
    #[must_use]
    pub fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.to_bytes())
    }

    /// For disk and wire: MessagePack with named fields.
    ///
    /// # Panics
    ///
    /// Never: writing to memory cannot fail.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let encoded = Encoded {
            format: FORMAT,
            entries: self.entries.values().cloned().collect(),
        };
        rmp_serde::to_vec_named(&encoded)
            .expect("writing to memory cannot fail")
            .into()
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    ///
    /// If the bytes are damaged, too large, or of a newer format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadCatalogue> {
        let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
        decoder.set_max_depth(8);
        let encoded = Encoded::deserialize(&mut decoder).map_err(|_| BadCatalogue)?;
        if FORMAT < encoded.format || BUCKETS_MAX < encoded.entries.len() {
            return Err(BadCatalogue);
        }
        let mut entries = BTreeMap::new();
        for entry in encoded.entries {
            check_name(&entry.info.name).map_err(|_| BadCatalogue)?;
            check(&entry.info, u8::MAX).map_err(|_| BadCatalogue)?;
            entries.insert(entry.info.name.clone(), entry);
        }
        let mut catalogue = Self {
            entries,
            gone: BTreeSet::new(),
        };
        catalogue.find_dropped();
        Ok(catalogue)
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(BUCKET_NAME_BYTES_MAX).collect()
}

fn check_name(name: &str) -> Result<(), ErrorBody> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || BUCKET_NAME_BYTES_MAX < name.len() || !name.bytes().all(good) {
        return Err(invalid(format!(
            "a bucket's name is 1 to {BUCKET_NAME_BYTES_MAX} letters, digits, '.', '_' or '-'"
        )));
    }
    Ok(())
}

fn check_mode(mode: &str) -> Result<(), ErrorBody> {
    match mode {
        "siblings" | LWW => Ok(()),
        other => Err(invalid(format!(
            "mode is siblings or lww, not {:?}",
            shorten(other)
        ))),
    }
}

fn apply(info: &mut BucketInfo, options: &BucketOptions) {
    info.r = options.r.unwrap_or(info.r);
    info.w = options.w.unwrap_or(info.w);
    info.pr = options.pr.unwrap_or(info.pr);
    info.pw = options.pw.unwrap_or(info.pw);
    info.sloppy = options.sloppy.unwrap_or(info.sloppy);
    info.ttl_ms = options.ttl_ms.unwrap_or(info.ttl_ms);
    info.value_bytes_max = options.value_bytes_max.unwrap_or(info.value_bytes_max);
    info.siblings_warn = options.siblings_warn.unwrap_or(info.siblings_warn);
    info.siblings_max = options.siblings_max.unwrap_or(info.siblings_max);
}

fn check(info: &BucketInfo, replicas_max: u8) -> Result<(), ErrorBody> {
    let n = info.n;
    if n == 0 || replicas_max < n {
        return Err(invalid(format!(
            "n is 1 to {replicas_max} in this cluster, not {n}"
        )));
    }
    check_quorum("r", info.r, 1, n)?;
    check_quorum("w", info.w, 1, n)?;
    check_quorum("pr", info.pr, 0, n)?;
    check_quorum("pw", info.pw, 0, n)?;
    if info.value_bytes_max == 0 || VALUE_BYTES_MAX < info.value_bytes_max {
        return Err(invalid(format!(
            "value-bytes-max is 1 to {VALUE_BYTES_MAX}, not {}",
            info.value_bytes_max
        )));
    }
    if info.siblings_max == 0 || 1_000 < info.siblings_max {
        return Err(invalid(format!(
            "siblings-max is 1 to 1000, not {}",
            info.siblings_max
        )));
    }
    Ok(())
}

/// Checks one quorum against its range.
///
/// # Errors
///
/// `invalid_argument`, naming the range.
pub fn check_quorum(name: &str, value: u8, min: u8, n: u8) -> Result<(), ErrorBody> {
    if value < min || n < value {
        return Err(invalid(format!("{name} is {min} to {n} here, not {value}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId::new(1);
    const B: NodeId = NodeId::new(2);

    #[test]
    fn the_default_bucket_exists_from_the_start_and_stays() {
        let mut catalogue = Catalogue::founding(5);
        assert!(catalogue.find(DEFAULT_BUCKET).is_ok());
        assert!(catalogue.drop_bucket(A, DEFAULT_BUCKET).is_err());
    }

    #[test]
    fn the_mode_is_chosen_at_creation_and_stays() {
        let mut catalogue = Catalogue::founding(5);
        assert!(!catalogue.has_lww());
        let mode = |mode: &str| BucketOptions {
            mode: Some(mode.to_owned()),
            ..BucketOptions::default()
        };
        assert!(catalogue.create(A, "b", &mode("newest"), 5).is_err());
        catalogue.create(A, "b", &mode("lww"), 5).unwrap();
        assert!(catalogue.find("b").unwrap().is_lww() && catalogue.has_lww());
        assert!(catalogue.set(A, "b", &mode("siblings"), 5).is_err());
        assert!(!catalogue.find(DEFAULT_BUCKET).unwrap().is_lww());
    }

    #[test]
    fn a_name_created_again_means_other_keys() {
        let mut catalogue = Catalogue::founding(5);
        let options = BucketOptions::default();
        catalogue.create(A, "b", &options, 5).unwrap();
        let first = catalogue.find("b").unwrap().id;
        catalogue.drop_bucket(A, "b").unwrap();
        assert!(catalogue.find("b").is_err());
        catalogue.create(A, "b", &options, 5).unwrap();
        let second = catalogue.find("b").unwrap().id;
        assert_ne!(second, first);
        assert!(catalogue.is_dropped(first) && !catalogue.is_dropped(second));
        assert_eq!(catalogue.replicas(first), None);
        let read = Catalogue::from_bytes(&catalogue.to_bytes()).unwrap();
        assert!(read.is_dropped(first) && !read.is_dropped(second));
    }

    #[test]
    fn what_was_dropped_is_not_brought_back_by_a_setting_made_meanwhile() {
        let options = BucketOptions::default();
        let mut left = Catalogue::founding(5);
        left.create(A, "b", &options, 5).unwrap();
        let mut right = left.clone();
        left.drop_bucket(A, "b").unwrap();
        for _ in 0..3 {
            right.set(B, "b", &options, 5).unwrap();
        }
        let mut both = right.clone();
        both.merge(&left);
        left.merge(&right);
        assert_eq!(left, both);
        assert!(left.find("b").is_err());
    }

    #[test]
    fn merging_does_not_depend_on_the_order() {
        let options = BucketOptions::default();
        let mut left = Catalogue::founding(5);
        left.create(A, "b", &options, 5).unwrap();
        let mut right = Catalogue::founding(5);
        right.create(B, "b", &options, 5).unwrap();
        right.create(B, "c", &options, 5).unwrap();
        let (mut one, mut two) = (left.clone(), right.clone());
        one.merge(&right);
        two.merge(&left);
        assert_eq!(one, two);
        assert_eq!(left.find("b").unwrap().id, right.find("b").unwrap().id);
        assert!(!one.merge(&two));
    }

    #[test]
    fn as_many_buckets_as_may_be_fit_into_a_decree() {
        let mut catalogue = Catalogue::founding(5);
        for at in 1..BUCKETS_MAX {
            let name = format!("{at:0>64}");
            let options = BucketOptions {
                ttl_ms: Some(1 << 40),
                ..BucketOptions::default()
            };
            catalogue.create(A, &name, &options, 5).unwrap();
        }
        assert!(catalogue.to_bytes().len() <= quorate_ring::BUCKETS_BYTES_MAX);
        let bytes = catalogue.to_bytes();
        assert_eq!(Catalogue::from_bytes(&bytes), Ok(catalogue));
    }

    #[test]
    fn bytes_come_back_and_damage_is_refused() {
        let mut catalogue = Catalogue::founding(5);
        catalogue
            .create(A, "b", &BucketOptions::default(), 5)
            .unwrap();
        let bytes = catalogue.to_bytes();
        assert_eq!(Catalogue::from_bytes(&bytes), Ok(catalogue));
        assert!(Catalogue::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Catalogue::from_bytes(b"").is_err());
    }

    #[test]
    fn quorums_out_of_range_are_refused() {
        let mut catalogue = Catalogue::founding(5);
        let options = BucketOptions {
            r: Some(4),
            ..BucketOptions::default()
        };
        assert!(catalogue.create(A, "b", &options, 5).is_err());
        let options = BucketOptions {
            n: Some(6),
            ..BucketOptions::default()
        };
        assert!(catalogue.create(A, "b", &options, 5).is_err());
        let options = BucketOptions {
            pw: Some(3),
            ..BucketOptions::default()
        };
        assert!(catalogue.create(A, "b", &options, 5).is_ok());
    }
}
