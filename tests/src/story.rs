//! Scripted runs: a calm world in which only that happens which the script says.
//!
//! Every oracle stays on. A story names nodes by their place in the key's preference list, since
//! that is what matters to it: `owner(key, 0)` coordinates, the others hold copies.

use quorate_client::wire::{Condition, ErrorCode, Response};

use crate::{
    history::{Op, OpIndex, Seen},
    options::Options,
    process::Process,
    workload::{Heard, versions},
    world::World,
};

const MS: u64 = 1_000_000;

/// A calm world and its keys.
#[derive(Debug)]
pub struct Story {
    /// For everything that the script does beyond putting and getting.
    pub world: World,
}

/// What a story's client got to know.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The versions listed, by operation, and the context given with them.
    Listed(Vec<OpIndex>, Option<Seen>),
    /// An error.
    Failed(ErrorCode),
    /// Nothing at all.
    Silence,
}

impl Answer {
    /// The operations listed, in order.
    ///
    /// # Panics
    ///
    /// If the answer is not a list.
    #[must_use]
    pub fn ops(&self) -> Vec<OpIndex> {
        match self {
            Self::Listed(ops, _) => {
                let mut ops = ops.clone();
                ops.sort_unstable();
                ops
            }
            Self::Failed(_) | Self::Silence => panic!("the story expected versions: {self:?}"),
        }
    }

    /// The context, for a later write.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn seen(&self) -> Seen {
        match self {
            Self::Listed(_, Some(seen)) => seen.clone(),
            Self::Listed(_, None) | Self::Failed(_) | Self::Silence => {
                panic!("the story expected a context: {self:?}")
            }
        }
    }

    /// The code, if it is an error.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Failed(code) => Some(*code),
            Self::Listed(..) | Self::Silence => None,
        }
    }
}

impl Story {
    /// Five nodes, all ready.
    ///
    /// # Panics
    ///
    /// If they do not become ready.
    #[must_use]
    pub fn begin(seed: u64) -> Self {
        Self::with(Options::calm(seed))
    }

    /// A world of these options, when all nodes are ready.
    ///
    /// # Panics
    ///
    /// If they do not become ready.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let print = std::env::var_os("QUORATE_TRACE").is_some();
        let mut world = World::new(options, print);
        world.heard = Some(std::collections::BTreeMap::new());
        world.run_until(10_000 * MS);
        let ready = world.processes.iter().all(Process::is_ready);
        assert!(ready, "a calm cluster is ready after ten seconds");
        Self { world }
    }

    /// The node at a place of a key's preference list.
    #[must_use]
    pub fn owner(&self, key: u32, place: usize) -> usize {
        self.world.layout.owners[crate::history::place(key)][place]
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: u64) {
        let until = self.world.now + ms * MS;
        self.world.run_until(until);
        self.check();
    }

    /// A put, and its answer.
    pub fn put(&mut self, node: usize, key: u32, seen: Option<Seen>) -> (OpIndex, Answer) {
        let op = self.prepare(key, false, seen, Condition::None);
        (op, self.send(node, op))
    }

    /// A put of a value of so many bytes, and its answer.
    pub fn put_large(
        &mut self,
        node: usize,
        key: u32,
        seen: Option<Seen>,
        bytes: usize,
    ) -> (OpIndex, Answer) {
        let op = Op::new(key, false, self.world.now);
        let op = self.world.history.push(Op {
            seen,
            value_bytes: bytes,
            sloppy: self.world.options.sloppy,
            ..op
        });
        (op, self.send(node, op))
    }

    /// A delete of what was seen, and its answer.
    pub fn delete(&mut self, node: usize, key: u32, seen: Seen) -> (OpIndex, Answer) {
        let op = self.prepare(key, true, Some(seen), Condition::None);
        (op, self.send(node, op))
    }

    /// A put with a precondition, and its answer.
    pub fn put_if(
        &mut self,
        node: usize,
        key: u32,
        seen: Option<Seen>,
        condition: Condition,
    ) -> (OpIndex, Answer) {
        let op = self.prepare(key, false, seen, condition);
        (op, self.send(node, op))
    }

    /// An operation that nobody has sent yet.
    pub fn prepare(
        &mut self,
        key: u32,
        delete: bool,
        seen: Option<Seen>,
        condition: Condition,
    ) -> OpIndex {
        let op = Op::new(key, delete, self.world.now);
        self.world.history.push(Op {
            seen,
            condition,
            sloppy: self.world.options.sloppy,
            ..op
        })
    }

    /// Sends an operation, for the first time or again, and waits for what the client hears.
    pub fn send(&mut self, node: usize, op: OpIndex) -> Answer {
        let serial = self.start(node, op);
        self.hear(serial)
    }

    /// Sends an operation and does not wait; the number is for [`hear`](Self::hear).
    pub fn start(&mut self, node: usize, op: OpIndex) -> u64 {
        let world = &mut self.world;
        let mut attempt = world.workload.write(0, op, &mut world.history);
        attempt.target = node;
        let serial = attempt.serial;
        world.send_request(attempt);
        serial
    }

    /// A get, and its answer.
    pub fn get(&mut self, node: usize, key: u32, r: u8) -> Answer {
        let world = &mut self.world;
        let read = world.session.read(key, r, world.now);
        let mut attempt = world.workload.get(0, read, Some(r));
        attempt.target = node;
        let serial = attempt.serial;
        world.send_request(attempt);
        self.hear(serial)
    }

    /// A get of a reader that has seen this, and its answer.
    pub fn get_within(&mut self, node: usize, key: u32, r: u8, seen: &Seen) -> Answer {
        let world = &mut self.world;
        let read = world.session.read(key, r, world.now);
        let attempt = world.workload.get(0, read, Some(r));
        let mut attempt = world.workload.having_seen(attempt, seen);
        attempt.target = node;
        let serial = attempt.serial;
        world.send_request(attempt);
        self.hear(serial)
    }

    /// A node hears at once that an attempt is taken back.
    pub fn take_back(&mut self, node: usize, serial: u64) {
        self.world.take_back(node, serial);
        self.check();
    }

    /// Waits for what the client hears of an attempt.
    ///
    /// # Panics
    ///
    /// If a promise is broken on the way.
    pub fn hear(&mut self, serial: u64) -> Answer {
        loop {
            self.check();
            let heard = self.world.heard.as_ref().and_then(|kept| kept.get(&serial));
            let Some(heard) = heard else {
                self.world.step();
                continue;
            };
            return match heard {
                Heard::Answer(response, seen) => self.answer(response, seen.clone()),
                Heard::Refused | Heard::Silence => Answer::Silence,
            };
        }
    }

    fn answer(&self, response: &Response, seen: Option<Seen>) -> Answer {
        if let Response::Error(error) = response {
            return Answer::Failed(error.code);
        }
        let (versions, _) = versions(response).unwrap_or_default();
        let ops = versions
            .iter()
            .filter_map(|version| self.world.history.find(&version.op_id));
        Answer::Listed(ops.collect(), seen)
    }

    /// Ends all faults; everything must agree, and nothing acknowledged may be gone.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub fn end(mut self) {
        if let Err(broken) = self.world.heal() {
            panic!("{broken}");
        }
        self.check();
    }

    fn check(&self) {
        if let Some(broken) = &self.world.broken {
            panic!("{broken}");
        }
    }
}
