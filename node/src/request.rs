//! What a request must be before anything is done for it.
//!
//! Roles, names, sizes, quorums and contexts are checked here, once; an operation begins only with
//! a plan that can work.

use bytes::Bytes;
use quorate_client::wire::{
    BucketRequest, Condition, ErrorBody, ErrorCode, GetRequest, HealingRequest, KeysRequest,
    Request, Response, RingReply, WriteRequest, request::SEEN_MAX,
};
use quorate_gossip::Instant;
use quorate_ring::NodeId;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    bucket::{Bucket, check_quorum},
    causality::{Clock, Context, OpId},
    coordinator::{
        Operation,
        care::CareOp,
        catalogue::CatalogueOp,
        explain::ExplainOp,
        forward::ForwardOp,
        healing::HealingOp,
        hints::HintsOp,
        read::{Quorum, ReadOp, StandIns, Wanted},
        scan::{ScanOp, parse_cursor},
        status::StatusOp,
        verify::VerifyOp,
        write::{Plan, WriteOp},
    },
    core::{Core, Origin},
    message::{Principal, Role, RpcId},
    node::{Node, refuse},
    replica::Precondition,
};

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 4_096;
/// Most keys in one page.
pub const KEYS_PAGE_MAX: u32 = 1_000;

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

fn needed_role(request: &Request) -> Role {
    match request {
        Request::Put(_) | Request::Delete(_) => Role::Write,
        Request::Bucket(bucket) if !matches!(bucket.verb.as_str(), "show" | "list") => Role::Admin,
        Request::RingChange(change) if !matches!(change.verb.as_str(), "plan" | "transfers") => {
            Role::Admin
        }
        Request::Get(_)
        | Request::Keys(_)
        | Request::Explain(_)
        | Request::Bucket(_)
        | Request::Ring
        | Request::Status
        | Request::RingChange(_) => Role::Read,
        Request::Healing(healing)
            if matches!(healing.verb.as_str(), "roots" | "hints" | "scrubs") =>
        {
            Role::Read
        }
        Request::Healing(_) => Role::Admin,
    }
}

fn check_key(key: &[u8]) -> Result<(), ErrorBody> {
    if key.is_empty() || KEY_BYTES_MAX < key.len() {
        let length = key.len();
        return Err(invalid(format!(
            "a key is 1 to {KEY_BYTES_MAX} bytes long, not {length}"
        )));
    }
    Ok(())
}

impl Node {
    pub(crate) fn begin(&mut self, origin: Origin, principal: &Principal, request: Request) {
        let role = needed_role(&request);
        if principal.role < role {
            let message = format!(
                "this needs the role {role:?}; the certificate of {:?} has {:?}",
                principal.name, principal.role
            );
            self.core
                .reply(origin, refuse(ErrorCode::Denied, message.to_lowercase()));
            return;
        }
        let result = match request {
            Request::Get(get) => self.begin_get(origin, get),
            Request::Put(write) => self.begin_put(origin, principal, write),
            Request::Delete(write) => self.begin_delete(origin, principal, write),
            Request::Keys(keys) => self.begin_keys(origin, keys),
            Request::Explain(explain) => {
                let place = self.place(&explain.bucket, &explain.key);
                place.map(|(_, place)| {
                    let key = self.core.op_key();
                    let deadline = self.core.deadline(explain.timeout_ms);
                    let op = ExplainOp::start(&mut self.core, key, origin, place, deadline);
                    self.run(key, Operation::Explain(Box::new(op)));
                })
            }
            Request::Bucket(bucket) => self.begin_bucket(origin, bucket),
            Request::Healing(healing) => self.begin_healing(origin, &healing),
            Request::RingChange(change) => self.begin_ring(origin, principal, &change),
            Request::Ring => {
                let reply = self.ring_reply();
                self.core.reply(origin, Response::Ring(reply));
                Ok(())
            }
            Request::Status => {
                let me = self.core.me;
                let members = crate::coordinator::status::members(&self.core);
                let ids = members.iter().map(|member| member.id);
                let others: Vec<NodeId> = ids.filter(|id| *id != me).collect();
                let key = self.core.op_key();
                let none = others.is_empty();
                let wait = if none {
                    self.core.now.mono
                } else {
                    self.status_deadline()
                };
                let op = StatusOp::start(&mut self.core, key, Some(origin), others, wait);
                self.run(key, Operation::Status(Box::new(op)));
                Ok(())
            }
        };
        if let Err(error) = result {
            self.core.reply(origin, Response::Error(error));
        }
    }

    /// The ring that requests are routed by.
    pub(crate) fn ring_reply(&self) -> RingReply {
        RingReply {
            ring: self.core.routing_ring().to_bytes().into(),
            state: self.ring_state().to_owned(),
        }
    }

    fn begin_healing(&mut self, origin: Origin, healing: &HealingRequest) -> Result<(), ErrorBody> {
        let key = self.core.op_key();
        let compare = match healing.verb.as_str() {
            "hints" => {
                let key = self.core.op_key();
                let op = HintsOp::start(&mut self.core, key, origin);
                self.run(key, Operation::Hints(Box::new(op)));
                return Ok(());
            }
            "compare" => true,
            "roots" => false,
            "scrub" | "scrubs" => {
                let begin = healing.verb == "scrub";
                let op = CareOp::scrub(&mut self.core, key, origin, begin);
                self.run(key, Operation::Care(Box::new(op)));
                return Ok(());
            }
            "salvage" | "salvage-discard" => return self.begin_salvage(origin, healing),
            "verify" => {
                let deadline = self.core.deadline(healing.timeout_ms);
                let first = healing.after.clone();
                let op = VerifyOp::start(&mut self.core, key, origin, first, deadline);
                self.run(key, Operation::Verify(Box::new(op)));
                return Ok(());
            }
            other => return Err(invalid(format!("healing knows no verb {other:?}"))),
        };
        let n = if healing.bucket.is_empty() {
            None
        } else {
            Some(self.core.catalogue.find(&healing.bucket)?.info.n)
        };
        let op = HealingOp::start(&mut self.core, key, origin, n, compare);
        self.run(key, Operation::Healing(Box::new(op)));
        Ok(())
    }

    fn status_deadline(&self) -> Instant {
        self.core.now.mono + self.core.limits.status_wait
    }

    fn place(
        &self,
        bucket: &str,
        key: &Bytes,
    ) -> Result<(Bucket, (crate::replica::Address, Vec<NodeId>)), ErrorBody> {
        check_key(key)?;
        let bucket = self.core.catalogue.find(bucket)?;
        let place = self.core.locate(&bucket, key);
        Ok((bucket, place))
    }

    fn begin_get(&mut self, origin: Origin, get: GetRequest) -> Result<(), ErrorBody> {
        let (bucket, place) = self.place(&get.bucket, &get.key)?;
        let info = &bucket.info;
        let r = get.r.unwrap_or(info.r);
        let pr = get.pr.unwrap_or(info.pr);
        check_quorum("r", r, 1, info.n)?;
        check_quorum("pr", pr, 0, info.n)?;
        let seen = self.seen(&bucket, &get)?;
        let key = self.core.op_key();
        let deadline = self.core.deadline(get.timeout_ms);
        let core = &mut self.core;
        let quorum = Quorum {
            all: r,
            primaries: pr,
            stand_ins: if info.sloppy {
                StandIns::ForTheDown
            } else {
                StandIns::Never
            },
        };
        let wanted = Wanted {
            bucket,
            quorum,
            seen,
        };
        if let Some(op) = ReadOp::client(core, key, origin, wanted, place, deadline) {
            self.run(key, Operation::Read(Box::new(op)));
        }
        Ok(())
    }

    fn begin_put(
        &mut self,
        origin: Origin,
        principal: &Principal,
        write: WriteRequest,
    ) -> Result<(), ErrorBody> {
        if write.value.is_none() {
            return Err(invalid("a put needs a value"));
        }
        let deadline = self.core.deadline(write.timeout_ms);
        self.begin_write(origin, principal, (write, false), deadline)
    }

    fn begin_delete(
        &mut self,
        origin: Origin,
        principal: &Principal,
        write: WriteRequest,
    ) -> Result<(), ErrorBody> {
        if write.value.is_some() {
            return Err(invalid("a delete has no value"));
        }
        let deadline = self.core.deadline(write.timeout_ms);
        self.begin_write(origin, principal, (write, false), deadline)
    }

    /// A peer hands on a write because this node is a replica of its key.
    pub(crate) fn begin_forwarded(
        &mut self,
        from: NodeId,
        rpc: RpcId,
        principal: &Principal,
        (write, stand_in): (WriteRequest, bool),
        deadline: Instant,
    ) {
        let origin = Origin::Peer { node: from, rpc };
        if let Err(error) = self.begin_write(origin, principal, (write, stand_in), deadline) {
            self.core.reply(origin, Response::Error(error));
        }
    }

    fn begin_write(
        &mut self,
        origin: Origin,
        principal: &Principal,
        (write, stand_in): (WriteRequest, bool),
        deadline: Instant,
    ) -> Result<(), ErrorBody> {
        let mut plan = self.plan(principal, &write, deadline)?;
        let key = self.core.op_key();
        let core = &mut self.core;
        let is_owner = plan.replicas.contains(&core.me);
        if stand_in && !is_owner {
            plan.stand_in_for = plan.absent(core);
        }
        if is_owner || plan.stand_in_for.is_some() {
            let mut spawn = Vec::new();
            let op = WriteOp::start(core, key, origin, plan, &mut spawn);
            if let Some(op) = op {
                self.run(key, Operation::Write(Box::new(op)));
            }
            for (key, operation) in spawn {
                self.run(key, operation);
            }
            return Ok(());
        }
        if let Origin::Peer { node, rpc } = origin {
            // Its ring and ours differ; whichever is older learns the newer one.
            self.refuse_stale(node, rpc);
            return Ok(());
        }
        let principal = principal.clone();
        let op = ForwardOp::start(core, key, origin, principal, (write, plan), deadline);
        if let Some(op) = op {
            self.run(key, Operation::Forward(Box::new(op)));
        }
        Ok(())
    }

    fn plan(
        &self,
        principal: &Principal,
        write: &WriteRequest,
        deadline: Instant,
    ) -> Result<Plan, ErrorBody> {
        let (bucket, (address, replicas)) = self.place(&write.bucket, &write.key)?;
        let info = &bucket.info;
        let size = write.value.as_ref().map_or(0, Bytes::len);
        let most = info.value_bytes_max as usize;
        if most < size {
            return Err(invalid(format!(
                "a value in bucket {:?} has at most {} bytes, not {size}",
                info.name, info.value_bytes_max
            )));
        }
        let (w, pw) = (write.w.unwrap_or(info.w), write.pw.unwrap_or(info.pw));
        check_quorum("w", w, 1, info.n)?;
        check_quorum("pw", pw, 0, info.n)?;
        let id: [u8; 16] = write.op_id[..]
            .try_into()
            .map_err(|_| invalid("an operation id is 16 bytes long"))?;
        let context = self.context(&bucket, write)?;
        let precondition = match write.condition {
            Condition::None => Precondition::None,
            Condition::IfMatch if write.context.is_none() => {
                return Err(invalid("if-match needs a context"));
            }
            Condition::IfMatch => Precondition::Match,
            Condition::IfAbsent => Precondition::Absent,
        };
        let ttl_ms = write.ttl_ms.unwrap_or(info.ttl_ms);
        let time_ms = self.core.time_ms();
        let expires =
            (ttl_ms != 0 && write.value.is_some()).then(|| time_ms.saturating_add(ttl_ms));
        Ok(Plan {
            others: self.core.others(&address, info.n),
            address,
            replicas,
            op: OpId {
                principal: xxh3_64(principal.name.as_bytes()),
                id: u128::from_be_bytes(id),
            },
            request_hash: request_hash(write),
            context,
            value: write.value.clone(),
            expires_at_ms: expires,
            precondition,
            retry: write.retry,
            w,
            pw,
            sloppy: write.sloppy.unwrap_or(info.sloppy),
            stand_in_for: None,
            deadline,
            bucket,
        })
    }

    fn context(&self, bucket: &Bucket, write: &WriteRequest) -> Result<Context, ErrorBody> {
        let sealed = write.context.as_ref();
        let opened = sealed.map(|sealed| self.open(bucket, &write.key, sealed));
        Ok(opened.transpose()?.unwrap_or_default())
    }

    /// What a reader has seen of its key.
    fn seen(&self, bucket: &Bucket, get: &GetRequest) -> Result<Clock, ErrorBody> {
        if SEEN_MAX < get.seen.len() {
            let count = get.seen.len();
            return Err(invalid(format!(
                "a get brings at most {SEEN_MAX} contexts, not {count}"
            )));
        }
        let mut seen = Clock::new();
        for sealed in &get.seen {
            seen.join(&self.open(bucket, &get.key, sealed)?.clock);
        }
        Ok(seen)
    }

    fn open(&self, bucket: &Bucket, key: &[u8], sealed: &[u8]) -> Result<Context, ErrorBody> {
        let core = &self.core;
        let opened = core
            .context_key
            .open(core.cluster, bucket.id.0, key, sealed);
        opened.map_err(|error| {
            let key = Core::show_key(key);
            let message = format!("bad context for key {key}: {error}; read the key again");
            ErrorBody::new(ErrorCode::BadContext, message)
        })
    }

    fn begin_keys(&mut self, origin: Origin, keys: KeysRequest) -> Result<(), ErrorBody> {
        let bucket = self.core.catalogue.find(&keys.bucket)?;
        if keys.limit == 0 || KEYS_PAGE_MAX < keys.limit {
            return Err(invalid(format!(
                "limit is 1 to {KEYS_PAGE_MAX}, not {}",
                keys.limit
            )));
        }
        let after = if keys.cursor.is_empty() {
            None
        } else {
            Some(parse_cursor(keys.cursor).ok_or_else(|| invalid("that is not a cursor"))?)
        };
        let key = self.core.op_key();
        let deadline = self.core.deadline(keys.timeout_ms);
        let range = crate::coordinator::scan::Wanted {
            bucket,
            prefix: keys.prefix,
            limit: keys.limit as usize,
            after,
        };
        let op = ScanOp::start(&mut self.core, key, origin, range, deadline);
        self.run(key, Operation::Scan(Box::new(op)));
        Ok(())
    }

    fn begin_bucket(&mut self, origin: Origin, request: BucketRequest) -> Result<(), ErrorBody> {
        let core = &mut self.core;
        match request.verb.as_str() {
            "list" => core.reply(origin, Response::Buckets(core.catalogue.list())),
            "show" => {
                let response = Response::Buckets(vec![core.catalogue.find(&request.name)?.info]);
                core.reply(origin, response);
            }
            "create" | "set" | "drop" => {
                let key = core.op_key();
                let deadline = core.deadline(request.timeout_ms);
                let op = CatalogueOp::new(key, origin, request, deadline);
                self.run(key, Operation::Catalogue(Box::new(op)));
                self.define_buckets();
            }
            other => return Err(invalid(format!("buckets know no verb {other:?}"))),
        }
        Ok(())
    }
}

/// Tells a retry from another request under the same operation id. Never zero.
fn request_hash(write: &WriteRequest) -> u64 {
    let mut hash = Xxh3::new();
    let value = write.value.as_deref();
    hash.update(&[u8::from(value.is_some()), u8::from(write.context.is_some())]);
    hash.update(&(value.map_or(0, <[u8]>::len) as u64).to_le_bytes());
    hash.update(value.unwrap_or_default());
    hash.update(write.context.as_deref().unwrap_or_default());
    hash.digest().max(1)
}
