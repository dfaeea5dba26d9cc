//! How a node answers those who look after what is stored: scrubs, inspections, draining.

use quorate_client::wire::{ErrorBody, ErrorCode};
use quorate_ring::NodeId;

use super::Node;
use crate::{
    coordinator::{Answer, Operation, care::CareOp},
    core::Origin,
    healing::care::{CareMessage, ScrubProgress},
    message::{Class, Message, RpcId},
};

impl Node {
    pub(super) fn care_message(&mut self, from: NodeId, id: RpcId, body: CareMessage) {
        let answer = match body {
            CareMessage::Scrub { begin } => {
                CareMessage::Scrubbing(self.healing.scrub(&self.core, begin))
            }
            CareMessage::Inspect { .. } => {
                return self.inspections.start(&mut self.core, (from, id), body);
            }
            CareMessage::Drain { on } => {
                self.set_drained(on);
                CareMessage::Drained { on }
            }
            CareMessage::Aside { first } => return self.show_aside(from, id, first),
            CareMessage::Discard { keys } => return self.drop_aside(from, id, keys),
            CareMessage::Scrubbing(_)
            | CareMessage::AsideIs { .. }
            | CareMessage::Discarded { .. }
            | CareMessage::Inspected { .. }
            | CareMessage::Drained { .. } => {
                let message = Message::Care { id, body };
                return self.answer(from, id, Answer::Other(Box::new(message)));
            }
        };
        let message = Message::Care { id, body: answer };
        self.core.send(from, Class::Control, message);
    }

    /// An operator wants a node to take no more requests of clients, or to take them again.
    pub(super) fn drain_node(
        &mut self,
        origin: Origin,
        name: &str,
        on: bool,
    ) -> Result<(), ErrorBody> {
        let node = NodeId::of_name(name);
        if node != self.core.me && !self.core.knows(node) {
            let message = format!("there is no node {name:?}; see quorate cluster status");
            return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
        }
        let key = self.core.op_key();
        let op = CareOp::drain(&mut self.core, key, origin, node, on);
        self.run(key, Operation::Care(Box::new(op)));
        Ok(())
    }

    /// From now on requests of clients about data are refused, naming the limit `draining`, until
    /// this is taken back or the process ends. What other nodes ask is done as before.
    pub(super) fn set_drained(&mut self, on: bool) {
        if self.core.upkeep.drains != on {
            self.core.upkeep.drains = on;
            self.tell_all();
        }
    }

    /// Damaged records that have been written anew since the start.
    #[must_use]
    pub const fn mended(&self) -> u64 {
        self.core.upkeep.mended
    }

    /// Takes requests of clients again, whoever did not want that. True if it took none.
    pub fn undrain(&mut self) -> bool {
        let drained = self.core.upkeep.drains;
        self.set_drained(false);
        drained
    }

    /// How far this node's scrub is.
    pub fn scrub_progress(&mut self) -> ScrubProgress {
        self.healing.scrub(&self.core, false)
    }

    /// Reads everything that is stored, from now on; the number of the wish.
    pub fn scrub(&mut self) -> u64 {
        self.healing.scrub(&self.core, true).wished
    }
}
