//! What passes between the nodes and their disks, and when.
//!
//! A real node is told later than its disk is done, and what it reads meanwhile shows writes of
//! which it has not heard. It scans while nothing else happens to it; in some runs here its pages
//! come later, or wait for what was asked before.

use quorate_node::{
    node::Node,
    store::{Command, Completion},
};

use crate::{
    options::Scans,
    process::{Doom, Input},
    world::{Event, World},
};

impl World {
    /// A node wants something read or written.
    pub(crate) fn store(&mut self, node: usize, machine: &mut Node, command: Command) {
        let process = &mut self.processes[node];
        match command {
            Command::Read { ticket, table, key } if self.options.disk.reads_at_once => {
                let moment = process.clock.moment(self.now);
                machine.handle_completion(moment, process.disk.read(ticket, table, &key));
            }
            Command::Scan { .. } if self.options.disk.scans == Scans::AtOnce => {
                let moment = process.clock.moment(self.now);
                for completion in process.disk.scan(command) {
                    machine.handle_completion(moment, completion);
                }
            }
            Command::Scan { .. } if self.options.disk.scans == Scans::Later => {
                let page = process.disk.scan(command);
                let at = self.now + process.disk.time_of_page();
                self.agenda.plan(at, Event::Told(node, process.life, page));
            }
            Command::Read { .. } | Command::Scan { .. } | Command::Write { .. } => {
                if let Some(at) = process.disk.submit(self.now, command) {
                    self.agenda.plan(at, Event::Disk(node, process.life));
                }
            }
        }
    }

    /// A commit is over.
    pub(crate) fn commit(&mut self, node: usize, life: u32) {
        let process = &mut self.processes[node];
        if process.life != life || process.machine.is_none() {
            return;
        }
        if let Some(Doom::InStep(lasts)) = process.doom {
            self.crash(node, Some(lasts));
            return;
        }
        let (completions, next) = process.disk.finish(self.now);
        let told = process.disk.told_at(self.now);
        if let Some(at) = next {
            self.agenda.plan(at, Event::Disk(node, life));
        }
        self.judge_hints(node);
        if told <= self.now {
            self.tell(node, life, completions);
        } else {
            self.agenda.plan(told, Event::Told(node, life, completions));
        }
    }

    /// A node hears what its disk has done.
    pub(crate) fn tell(&mut self, node: usize, life: u32, completions: Vec<Completion>) {
        if self.processes[node].life != life {
            return;
        }
        for completion in completions {
            self.feed(node, Input::Completion(completion));
        }
        self.judge_handed(node);
    }
}
