//! The memory of the agreement: what one voter has promised and accepted for one epoch.
//!
//! Told of ballots, it changes its memory and says what may be answered once that is durable.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::Ballot;

const MAGIC: &[u8; 4] = b"QACC";
const FORMAT: u16 = 1;
const BALLOT_BYTES: usize = 8 + 16 + 8;
const FIXED_BYTES: usize = 4 + 2 + 8 + BALLOT_BYTES + BALLOT_BYTES + 1;

/// What a voter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It will take part in no lower ballot; what it accepted in the highest one so far.
    Promise(Option<(Ballot, Bytes)>),
    /// It has accepted the value.
    Accepted,
    /// It takes part only in ballots from this one on.
    Refused(Ballot),
}

/// The stored memory makes no sense: this voter must not vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what this node has promised for the next ring is damaged")]
pub(crate) struct BadAcceptor;

/// One voter's memory for one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acceptor {
    epoch: u64,
    promised: Ballot,
    accepted: Option<(Ballot, Bytes)>,
}

impl Acceptor {
    /// Nothing promised.
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            promised: Ballot::default(),
            accepted: None,
        }
    }

    /// The epoch that is voted on.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What was accepted, if anything was.
    pub(crate) const fn accepted(&self) -> Option<&(Ballot, Bytes)> {
        self.accepted.as_ref()
    }

    /// The highest ballot heard of.
    pub(crate) const fn promised(&self) -> Ballot {
        self.promised
    }

    /// A proposer wants to begin a ballot.
    pub(crate) fn prepare(&mut self, ballot: Ballot) -> Vote {
        if ballot < self.promised {
            return Vote::Refused(self.promised);
        }
        self.promised = ballot;
        Vote::Promise(self.accepted.clone())
    }

    /// A proposer wants a value accepted.
    pub(crate) fn accept(&mut self, ballot: Ballot, value: Bytes) -> Vote {
        if ballot < self.promised {
            return Vote::Refused(self.promised);
        }
        self.promised = ballot;
        self.accepted = Some((ballot, value));
        Vote::Accepted
    }

    /// For the disk.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let length = self.accepted.as_ref().map_or(0, |(_, value)| value.len());
        let mut out = BytesMut::with_capacity(FIXED_BYTES + length + 4);
        out.put_slice(MAGIC);
        out.put_u16_le(FORMAT);
        out.put_u64_le(self.epoch);
        put_ballot(&mut out, self.promised);
        let ballot = self.accepted.as_ref().map(|(ballot, _)| *ballot);
        put_ballot(&mut out, ballot.unwrap_or_default());
        out.put_u8(u8::from(ballot.is_some()));
        if let Some((_, value)) = &self.accepted {
            out.put_slice(value);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    pub(crate) fn from_bytes(bytes: &Bytes) -> Result<Self, BadAcceptor> {
        let length = bytes.len().checked_sub(4).ok_or(BadAcceptor)?;
        let mut rest = bytes.slice(..length);
        let crc = crc32c::crc32c(&rest);
        if length < FIXED_BYTES || bytes[length..] != crc.to_le_bytes() {
            return Err(BadAcceptor);
        }
        if rest.split_to(4)[..] != MAGIC[..] || rest.get_u16_le() != FORMAT {
            return Err(BadAcceptor);
        }
        let epoch = rest.get_u64_le();
        let promised = get_ballot(&mut rest);
        let ballot = get_ballot(&mut rest);
        let has = rest.get_u8() != 0;
        Ok(Self {
            epoch,
            promised,
            accepted: has.then_some((ballot, rest)),
        })
    }
}

fn put_ballot(out: &mut BytesMut, ballot: Ballot) {
    out.put_u64_le(ballot.round);
    out.put_u128_le(ballot.uuid);
    out.put_u64_le(ballot.boot);
}

fn get_ballot(rest: &mut Bytes) -> Ballot {
    Ballot {
        round: rest.get_u64_le(),
        uuid: rest.get_u128_le(),
        boot: rest.get_u64_le(),
    }
}
