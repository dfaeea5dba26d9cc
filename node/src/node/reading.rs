//! What replicas tell those who read: this node others, and others this node.

use quorate_ring::NodeId;

use super::{Node, replicated};
use crate::{
    coordinator::Answer,
    event::Event,
    message::{Class, Message, RpcId, Verdict},
    replica::{Address, Done, Refusal, fetched},
};

impl Node {
    /// This node's replica has looked up what a peer wants to know.
    pub(super) fn deliver_to_reader(
        &mut self,
        (node, id, whole_max): (NodeId, RpcId, Option<u32>),
        address: &Address,
        done: Done,
    ) {
        let message = match done {
            Done::Read(held) => {
                let generation = self.core.generation(address.token);
                let what = (address, &held);
                fetched(id, what, &self.core.replica, generation, whole_max)
            }
            Done::Refused(Refusal::Limit(limit)) => {
                self.core.event(Event::Refused { limit });
                replicated(id, Verdict::Overloaded(limit.to_owned()))
            }
            Done::Refused(_)
            | Done::Stored { .. }
            | Done::Coordinated { .. }
            | Done::Reaping(_) => return,
        };
        self.core.send(node, Class::Data, message);
    }

    pub(super) fn take_fetched(&mut self, from: NodeId, message: Message) {
        if let Message::Fetched {
            id,
            state,
            suspect,
            brief,
            generation,
        } = message
        {
            self.core.peers.tried(from, id, self.core.now.mono);
            let answer = Answer::Fetched {
                state,
                suspect,
                brief,
                generation,
            };
            self.answer(from, id, answer);
        }
    }
}
