//! What nodes say to find out who is up.

use std::array;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use quorate_gossip::Kind;

const KINDS: [&str; 6] = ["ping", "ack", "ping_request", "nack", "push", "pull"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Said {
    kind: &'static str,
    direction: &'static str,
}

/// Messages of gossip, by kind.
#[derive(Debug)]
pub(in crate::shell) struct Gossip {
    sent: [Counter; KINDS.len()],
    received: [Counter; KINDS.len()],
}

impl Gossip {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Family::<Said, Counter>::default();
        let series = |direction| {
            array::from_fn(|place| {
                let kind = KINDS[place];
                all.get_or_create(&Said { kind, direction }).clone()
            })
        };
        let gossip = Self {
            sent: series("out"),
            received: series("in"),
        };
        registry.register("gossip_messages", "Probes, their answers, and pages", all);
        gossip
    }

    pub(in crate::shell) fn sent(&self, kind: &Kind) {
        self.sent[place(kind)].inc();
    }

    pub(in crate::shell) fn received(&self, kind: &Kind) {
        self.received[place(kind)].inc();
    }
}

const fn place(kind: &Kind) -> usize {
    match kind {
        Kind::Ping(_) => 0,
        Kind::Ack(_) => 1,
        Kind::PingRequest { .. } => 2,
        Kind::Nack(_) => 3,
        Kind::Push { .. } => 4,
        Kind::Pull => 5,
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself() {
        let mut registry = Registry::default();
        let gossip = Gossip::new(&mut registry);
        gossip.sent(&Kind::Ping(1));
        gossip.received(&Kind::Pull);
        gossip.received(&Kind::Pull);
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "gossip_messages_total{kind=\"ping\",direction=\"out\"} 1",
            "gossip_messages_total{kind=\"ping\",direction=\"in\"} 0",
            "gossip_messages_total{kind=\"pull\",direction=\"in\"} 2",
        ] {
            assert!(out.contains(line), "{line} is not in\n{out}");
        }
    }
}
