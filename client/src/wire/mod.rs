//! The wire protocol between clients and nodes.
//!
//! A conversation is a sequence of frames: a fixed binary header ([`frame`]) and a `MessagePack`
//! body with named fields. The header's `kind` says which body follows; kinds are our own numbers,
//! never names of Rust types, so that renaming a type cannot break the wire. The bodies are flat:
//! no type on the wire contains itself.

pub mod codec;
pub mod error;
pub mod frame;
pub mod healing;
pub mod hello;
pub mod request;
pub mod response;
pub mod ring;
pub mod session;

pub use codec::{DecodeError, decode_body};
pub use error::{ErrorBody, ErrorCode};
pub use frame::{EncodeError, Frame, FrameError, FrameReader};
pub use healing::{
    AsidePage, AsideRow, Difference, HealingReply, HealingRequest, HintStatus, PairStatus,
    ScrubStatus, Verified,
};
pub use hello::{Hello, HelloError, HelloReply};
pub use request::{
    BucketOptions, BucketRequest, Condition, ExplainRequest, GetRequest, KeysRequest, Request,
    WriteRequest,
};
pub use response::{
    BucketInfo, ExplainReply, GetReply, HintReport, KeyItem, KeysReply, NodeStatus, ReplicaReport,
    Response, RingReply, StatusReply, Version, WriteReply,
};
pub use ring::{PlanMove, PlanNode, PlanReply, RingAnswer, RingRequest, TransferRow};
pub use session::{SeenKey, SessionToken};
