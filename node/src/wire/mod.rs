//! What nodes say to each other, as bytes.
//!
//! Decides the number and the body of every [`Message`]: a frame of the shared
//! [`quorate_client::wire::frame`] layout whose id is the message's [`RpcId`] and whose body
//! is a MessagePack map. Hot messages have names of one letter; every name, number and code here is
//! given out once and never changes its meaning. A reader skips names it does not know.
//!
//! Nothing here knows a stream: frames are appended to a buffer, and read from whole frames, whose
//! keys, values and records are sliced out, not copied. Whoever keeps a slice keeps its frame.

mod body;
mod care;
#[cfg(test)]
mod golden;
mod gossip;
mod greet;
mod hint;
mod reap;
mod ring;
#[cfg(test)]
mod tests;
mod tree;

use bytes::{Bytes, BytesMut};
use quorate_client::wire::frame::{self, EncodeError, Frame, FrameError, FrameReader};

use crate::message::{Message, RpcId};

/// Numbers of the messages.
pub mod kind {
    /// [`Message::Forward`](super::Message::Forward).
    pub const FORWARD: u16 = 201;
    /// [`Message::Forwarded`](super::Message::Forwarded).
    pub const FORWARDED: u16 = 202;
    /// [`Message::Replicate`](super::Message::Replicate).
    pub const REPLICATE: u16 = 203;
    /// [`Message::Replicated`](super::Message::Replicated).
    pub const REPLICATED: u16 = 204;
    /// [`Message::Fetch`](super::Message::Fetch).
    pub const FETCH: u16 = 205;
    /// [`Message::Fetched`](super::Message::Fetched).
    pub const FETCHED: u16 = 206;
    /// [`Message::Scan`](super::Message::Scan).
    pub const SCAN: u16 = 207;
    /// [`Message::Scanned`](super::Message::Scanned).
    pub const SCANNED: u16 = 208;
    /// [`Message::Catalogue`](super::Message::Catalogue).
    pub const CATALOGUE: u16 = 209;
    /// [`Message::CatalogueStored`](super::Message::CatalogueStored).
    pub const CATALOGUE_STORED: u16 = 210;
    /// [`Message::Status`](super::Message::Status).
    pub const STATUS: u16 = 211;
    /// [`Message::StatusReport`](super::Message::StatusReport).
    pub const STATUS_REPORT: u16 = 212;
    /// [`TreeMessage::Ask`](crate::healing::message::TreeMessage::Ask).
    pub const TREE_ASK: u16 = 250;
    /// [`TreeMessage::Sums`](crate::healing::message::TreeMessage::Sums).
    pub const TREE_SUMS: u16 = 251;
    /// [`TreeMessage::AskLeaves`](crate::healing::message::TreeMessage::AskLeaves).
    pub const TREE_ASK_LEAVES: u16 = 252;
    /// [`TreeMessage::Leaves`](crate::healing::message::TreeMessage::Leaves).
    pub const TREE_LEAVES: u16 = 253;
    /// [`TreeMessage::Pull`](crate::healing::message::TreeMessage::Pull).
    pub const TREE_PULL: u16 = 254;
    /// [`TreeMessage::Pulled`](crate::healing::message::TreeMessage::Pulled).
    pub const TREE_PULLED: u16 = 255;
    /// [`TreeMessage::Push`](crate::healing::message::TreeMessage::Push).
    pub const TREE_PUSH: u16 = 256;
    /// [`TreeMessage::Pushed`](crate::healing::message::TreeMessage::Pushed).
    pub const TREE_PUSHED: u16 = 257;
    /// [`TreeMessage::AskRoots`](crate::healing::message::TreeMessage::AskRoots).
    pub const TREE_ASK_ROOTS: u16 = 258;
    /// [`TreeMessage::Roots`](crate::healing::message::TreeMessage::Roots).
    pub const TREE_ROOTS: u16 = 259;
    /// [`HintMessage::Keep`](crate::healing::hints::message::HintMessage::Keep).
    pub const HINT_KEEP: u16 = 240;
    /// [`HintMessage::Hand`](crate::healing::hints::message::HintMessage::Hand).
    pub const HINT_HAND: u16 = 241;
    /// [`HintMessage::Handed`](crate::healing::hints::message::HintMessage::Handed).
    pub const HINT_HANDED: u16 = 242;
    /// [`HintMessage::Ask`](crate::healing::hints::message::HintMessage::Ask).
    pub const HINT_ASK: u16 = 243;
    /// [`HintMessage::Held`](crate::healing::hints::message::HintMessage::Held).
    pub const HINT_HELD: u16 = 244;
    /// [`HintMessage::Count`](crate::healing::hints::message::HintMessage::Count).
    pub const HINT_COUNT: u16 = 245;
    /// [`HintMessage::Counted`](crate::healing::hints::message::HintMessage::Counted).
    pub const HINT_COUNTED: u16 = 246;
    /// [`CareMessage::Scrub`](crate::healing::care::CareMessage::Scrub).
    pub const CARE_SCRUB: u16 = 260;
    /// [`CareMessage::Scrubbing`](crate::healing::care::CareMessage::Scrubbing).
    pub const CARE_SCRUBBING: u16 = 261;
    /// [`CareMessage::Inspect`](crate::healing::care::CareMessage::Inspect).
    pub const CARE_INSPECT: u16 = 262;
    /// [`CareMessage::Inspected`](crate::healing::care::CareMessage::Inspected).
    pub const CARE_INSPECTED: u16 = 263;
    /// [`CareMessage::Drain`](crate::healing::care::CareMessage::Drain).
    pub const CARE_DRAIN: u16 = 264;
    /// [`CareMessage::Drained`](crate::healing::care::CareMessage::Drained).
    pub const CARE_DRAINED: u16 = 265;
    /// [`CareMessage::Aside`](crate::healing::care::CareMessage::Aside).
    pub const CARE_ASIDE: u16 = 266;
    /// [`CareMessage::AsideIs`](crate::healing::care::CareMessage::AsideIs).
    pub const CARE_ASIDE_IS: u16 = 267;
    /// [`CareMessage::Discard`](crate::healing::care::CareMessage::Discard).
    pub const CARE_DISCARD: u16 = 268;
    /// [`CareMessage::Discarded`](crate::healing::care::CareMessage::Discarded).
    pub const CARE_DISCARDED: u16 = 269;
    /// [`Message::Gossip`](super::Message::Gossip).
    pub const GOSSIP: u16 = 230;
    /// Not a message: the first frame of a node that wants to join.
    pub const JOIN: u16 = 231;
    /// The answer to it.
    pub const WELCOME: u16 = 232;
    /// [`Message::Members`](super::Message::Members).
    pub const MEMBERS: u16 = 233;
    /// [`Message::Greet`](super::Message::Greet).
    pub const GREET: u16 = 234;
    /// [`Message::Greeted`](super::Message::Greeted).
    pub const GREETED: u16 = 235;
    /// [`RingMessage::Prepare`](crate::ring_message::RingMessage::Prepare).
    pub const RING_PREPARE: u16 = 270;
    /// [`RingMessage::Propose`](crate::ring_message::RingMessage::Propose).
    pub const RING_PROPOSE: u16 = 271;
    /// [`RingMessage::Voted`](crate::ring_message::RingMessage::Voted).
    pub const RING_VOTED: u16 = 272;
    /// [`RingMessage::Decree`](crate::ring_message::RingMessage::Decree).
    pub const RING_DECREE: u16 = 273;
    /// [`RingMessage::Stale`](crate::ring_message::RingMessage::Stale).
    pub const RING_STALE: u16 = 274;
    /// [`RingMessage::Want`](crate::ring_message::RingMessage::Want).
    pub const RING_WANT: u16 = 275;
    /// [`RingMessage::Beat`](crate::ring_message::RingMessage::Beat).
    pub const RING_BEAT: u16 = 276;
    /// [`RingMessage::Staged`](crate::ring_message::RingMessage::Staged).
    pub const RING_STAGED: u16 = 277;
    /// [`RingMessage::StagedIs`](crate::ring_message::RingMessage::StagedIs).
    pub const RING_STAGED_IS: u16 = 278;
    /// [`RingMessage::Pull`](crate::ring_message::RingMessage::Pull).
    pub const RING_PULL: u16 = 279;
    /// [`RingMessage::Page`](crate::ring_message::RingMessage::Page).
    pub const RING_PAGE: u16 = 280;
    /// [`ReapMessage::Vote`](crate::healing::reap::ReapMessage::Vote).
    pub const REAP_VOTE: u16 = 290;
    /// [`ReapMessage::Voted`](crate::healing::reap::ReapMessage::Voted).
    pub const REAP_VOTED: u16 = 291;
    /// [`ReapMessage::Fence`](crate::healing::reap::ReapMessage::Fence).
    pub const REAP_FENCE: u16 = 292;
    /// [`ReapMessage::Fenced`](crate::healing::reap::ReapMessage::Fenced).
    pub const REAP_FENCED: u16 = 293;
    /// [`ReapMessage::Commit`](crate::healing::reap::ReapMessage::Commit).
    pub const REAP_COMMIT: u16 = 294;
    /// [`ReapMessage::Committed`](crate::healing::reap::ReapMessage::Committed).
    pub const REAP_COMMITTED: u16 = 295;
    /// [`ReapMessage::Behind`](crate::healing::reap::ReapMessage::Behind).
    pub const REAP_BEHIND: u16 = 296;
}

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Less or more than one frame.
    #[error("not exactly one frame")]
    NotOneFrame,
    /// A frame whose body is not the one its number promises.
    #[error(transparent)]
    Body(#[from] quorate_client::wire::DecodeError),
    /// A code that this release does not know.
    #[error("the {what} {code} is not known here")]
    UnknownCode {
        /// What the code stands for.
        what: &'static str,
        /// The code.
        code: u8,
    },
}

/// Appends a message as one frame; leaves `out` as it was if the message is over the limit of a
/// frame.
pub fn append(message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
    body::append(message, out)
}

/// A message as one frame.
pub fn encode(message: &Message) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(256);
    append(message, &mut out)?;
    Ok(out.freeze())
}

/// Reads the message in a frame.
pub fn decode_frame(frame: &Frame) -> Result<Message, DecodeError> {
    body::decode(frame.kind, RpcId(frame.id), &frame.body)
}

/// Reads bytes that are exactly one frame, such as a datagram.
pub fn decode(bytes: &Bytes) -> Result<Message, DecodeError> {
    let mut reader = FrameReader::new();
    reader.feed(bytes.clone());
    let frame = reader.next_frame()?.ok_or(DecodeError::NotOneFrame)?;
    if !reader.is_at_boundary() {
        return Err(DecodeError::NotOneFrame);
    }
    decode_frame(&frame)
}

fn append_body<T: serde::Serialize>(
    out: &mut BytesMut,
    kind: u16,
    id: RpcId,
    body: &T,
) -> Result<(), EncodeError> {
    frame::append(out, kind, id.0, body)
}
