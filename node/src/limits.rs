//! Every maximum of the machines, in one place.
//!
//! Each has the name under which a refusal reports it, so that an operator can find the limit a
//! request met.

use std::time::Duration;

/// Maxima and waiting times of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client requests in progress (`requests_in_flight`). Beyond a few thousand, more concurrency
    /// only adds waiting.
    pub requests_max: usize,
    /// Bytes of keys and values of client writes in progress (`request_bytes_in_flight`).
    pub request_bytes_max: usize,
    /// Keys with local work in progress (`replica_keys`); a memory bound for what peers send.
    pub replica_keys_max: usize,
    /// Bytes handed to the store and not yet complete (`store_queue_bytes`).
    pub store_bytes_max: usize,
    /// Bytes of records kept for the next use. What is in much use at one time should fit; the
    /// store has a cache of its own for the rest. Zero keeps none.
    pub recent_bytes_max: usize,
    /// Jobs that may wait for one key (`key_queue`): a hot key must not hold all memory.
    pub key_queue_max: usize,
    /// Read repairs in progress (`repairs`); further ones wait for the next read.
    pub repairs_max: usize,
    /// Bytes of hints kept for other replicas, 256 more counted for each (`hint_bytes`): beyond
    /// that another node has to stand in, and the disk is spared. The index of the hints takes
    /// about as much memory as is counted besides their records.
    pub hint_bytes_max: usize,
    /// Damaged records being recovered from other replicas (`recoveries`).
    pub recoveries_max: usize,
    /// Damaged records that are kept in mind (`damages`). Of more, the one found first is found
    /// anew when its key is touched.
    pub damages_max: usize,
    /// Local scans in progress for peers and clients (`scans`).
    pub scans_max: usize,
    /// A read that asks several replicas asks one for the whole record, and the others for values
    /// of no more bytes than this: beyond that they say what versions they hold.
    pub whole_max: u32,
    /// The longest a client may ask a request to wait.
    pub timeout_max: Duration,
    /// A replica that has not answered a read for less than this is not slow, however quick it
    /// usually is.
    pub hedge_min: Duration,
    /// The adaptive per-replica limit never goes below this.
    pub replica_limit_min: Duration,
    /// The adaptive per-replica limit never goes above this.
    pub replica_limit_max: Duration,
    /// How often the bucket catalogue is compared with a peer's.
    pub catalogue_interval: Duration,
    /// A node that has joined and has no place in the ring is forgotten when nobody has heard of it
    /// for so long.
    pub forget_after: Duration,
    /// How long a node that starts waits for its peers' catalogues before it serves all the same.
    pub ready_wait: Duration,
    /// How long `cluster status` waits for a silent node.
    pub status_wait: Duration,
    /// About how often the trees of two replicas are compared while nothing happens.
    pub anti_entropy_interval: Duration,
    /// The scrub, which also audits the tree, pauses so long between two passes.
    pub audit_pause: Duration,
    /// The scrub reads at most so much in a second, unless somebody wished for a pass.
    pub scrub_bytes_per_second: u64,
    /// What a delete left is reaped so long after the key was last touched, at the earliest. Only
    /// a hint for the pace, and the time for which operation ids of the key are remembered.
    pub tombstone_age: Duration,
    /// A clock is compacted if so many of its entries could go.
    pub closed_epochs_min: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 8_192,
            request_bytes_max: 128 << 20,
            replica_keys_max: 65_536,
            store_bytes_max: 256 << 20,
            recent_bytes_max: 64 << 20,
            key_queue_max: 4_096,
            repairs_max: 1_024,
            hint_bytes_max: 1 << 30,
            recoveries_max: 64,
            damages_max: 4_096,
            scans_max: 64,
            whole_max: 4 << 10,
            timeout_max: Duration::from_mins(10),
            hedge_min: Duration::from_millis(2),
            replica_limit_min: Duration::from_millis(20),
            replica_limit_max: Duration::from_secs(1),
            catalogue_interval: Duration::from_secs(2),
            forget_after: Duration::from_hours(7 * 24),
            ready_wait: Duration::from_secs(1),
            status_wait: Duration::from_secs(1),
            anti_entropy_interval: Duration::from_secs(30),
            audit_pause: Duration::from_mins(10),
            scrub_bytes_per_second: 8 << 20,
            tombstone_age: Duration::from_hours(1),
            closed_epochs_min: 16,
        }
    }
}
