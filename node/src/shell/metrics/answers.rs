//! Series about what reads and writes answered: siblings, contexts, fallbacks that counted.

use prometheus_client::{
    metrics::{
        counter::Counter,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use quorate_client::wire::Response;

use super::family_of_one;

/// What answers held.
#[derive(Debug)]
pub(super) struct Answers {
    siblings: Histogram,
    context_bytes: Histogram,
    sloppy: Counter,
}

impl Answers {
    pub(super) fn new(registry: &mut Registry) -> Self {
        // 1 to 64 and 16 to 8,192, doubling.
        let siblings = Histogram::new(exponential_buckets(1.0, 2.0, 7));
        let context_bytes = Histogram::new(exponential_buckets(16.0, 2.0, 10));
        let help = "Values that reads which found something have found";
        registry.register("siblings_returned", help, siblings.clone());
        let help = "Sizes of the contexts that reads and writes answered";
        registry.register("context_bytes", help, context_bytes.clone());
        let help = "Writes for which a fallback stood in";
        Self {
            siblings,
            context_bytes,
            sloppy: family_of_one(registry, "sloppy_quorum_writes", help),
        }
    }

    pub(super) fn observe(&self, response: &Response) {
        let size = |size: usize| f64::from(u32::try_from(size).unwrap_or(u32::MAX));
        if let Response::Got(reply) = response {
            if !reply.siblings.is_empty() {
                self.siblings.observe(size(reply.siblings.len()));
            }
            if let Some(context) = &reply.context {
                self.context_bytes.observe(size(context.len()));
            }
        } else if let Response::Written(reply) = response {
            self.context_bytes.observe(size(reply.context.len()));
            if reply.hinted != 0 {
                self.sloppy.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::encoding::text;
    use quorate_client::wire::{GetReply, Version, WriteReply};

    use super::*;

    #[test]
    fn a_write_with_a_fallback_and_a_read_with_siblings_are_counted() {
        let mut registry = Registry::default();
        let answers = Answers::new(&mut registry);
        let written = WriteReply {
            context: Bytes::from_static(&[0; 20]),
            hinted: 1,
            ..WriteReply::default()
        };
        answers.observe(&Response::Written(written));
        let got = GetReply {
            siblings: vec![Version::default(), Version::default()],
            ..GetReply::default()
        };
        answers.observe(&Response::Got(got));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "sloppy_quorum_writes_total 1",
            "context_bytes_count 1",
            "context_bytes_bucket{le=\"16.0\"} 0",
            "siblings_returned_sum 2.0",
        ] {
            assert!(out.contains(line), "{line} is missing in\n{out}");
        }
    }
}
