//! Directories that are lost at the worst moment.
//!
//! Writes wait for one replica more when the directory goes of another that holds them. Or somebody
//! is away while a directory is replaced, and hears of the new one when it is not new any more.
//! Everything here is drawn from a stream of its own, and there is only in runs that ask for it.

use quorate_ring::Decree;

use crate::{
    nemesis::{Fault, Harm},
    process::Doom,
    world::{Event, World},
};

const MS: u64 = 1_000_000;
/// Requests for the key that counts, and the time between two.
const LAST: u64 = 40;
const LAST_PACE: u64 = MS / 2;
/// How long the disk of a lost directory's node is slow afterwards.
const MOURNS: u64 = 1_500 * MS;

impl World {
    /// A node loses its directory.
    pub(crate) fn bereave(&mut self, node: usize) {
        if self.options.classes.unheard && self.losses.chance(250_000) {
            self.bereave_unheard(node);
        } else {
            self.bereave_of_copy(node);
        }
    }

    /// Writes to a key of a node wait for another replica, which only that node reaches; then the
    /// node loses its directory, and when all know that, the other is there again. What the lost
    /// one has acknowledged must not count by then.
    fn bereave_of_copy(&mut self, node: usize) {
        let Some((key, other)) = self.some_key_of(node) else {
            return;
        };
        let (lasts, down) = (self.losses.between(30, 260), self.losses.between(5, 40));
        let mut all: Vec<usize> = (0..self.processes.len()).collect();
        all.retain(|from| *from != node && *from != other);
        self.keep_apart_from(other, &all, lasts * MS);
        self.ask_for(key);
        self.lose_directory(node, LAST * LAST_PACE + 5 * MS, down * MS);
    }

    /// A member is down while another gets a new directory, and comes back when that has been
    /// opened once more.
    fn bereave_unheard(&mut self, node: usize) {
        let mut others: Vec<usize> = (0..self.processes.len()).collect();
        others.retain(|other| *other != node);
        if others.is_empty() {
            return;
        }
        let other = *self.losses.pick(&others);
        let [down, anew, again, after] = [(5, 40), (200, 2_500), (5, 40), (50, 500)]
            .map(|(a, b)| self.losses.between(a, b) * MS);
        self.inflict(Fault::Crash(vec![(other, down + anew + again + after)]));
        self.inflict(Fault::Harm(Harm::Wipe(node, down)));
        let opened_again = Fault::Crash(vec![(node, again)]);
        self.agenda
            .plan(self.now + down + anew, Event::Fault(opened_again));
    }

    /// A key of a node, and another of its owners.
    fn some_key_of(&mut self, node: usize) -> Option<(usize, usize)> {
        let owned = |key: &usize| self.layout.owners[*key].contains(&node);
        let keys: Vec<usize> = (0..self.layout.owners.len()).filter(owned).collect();
        if keys.is_empty() {
            return None;
        }
        let key = *self.losses.pick(&keys);
        let mut others = self.layout.owners[key].clone();
        others.retain(|owner| *owner != node);
        (!others.is_empty()).then(|| (key, *self.losses.pick(&others)))
    }

    /// Some do not reach a node for a while, nor it them.
    fn keep_apart_from(&mut self, node: usize, others: &[usize], lasts: u64) {
        let links = others
            .iter()
            .flat_map(|&from| [(from, node), (node, from)])
            .collect();
        self.inflict(Fault::Cut(links, lasts));
    }

    fn ask_for(&mut self, key: usize) {
        let number = u32::try_from(key).expect("a run has few keys");
        for request in 0..LAST {
            let when = self.now + request * LAST_PACE;
            self.agenda.plan(when, Event::Fault(Fault::Wanted(number)));
        }
    }

    fn lose_directory(&mut self, node: usize, after: u64, down: u64) {
        let lost = self.now + after;
        let wipe = Fault::Harm(Harm::Wipe(node, down));
        self.agenda.plan(lost, Event::Fault(wipe));
        let slow = Event::Fault(Fault::SlowDisk(node, MOURNS));
        self.agenda.plan(lost + 1, slow);
    }

    /// A node has heard that its directory is lost: it sets aside what it has taken in since, and
    /// may die over it.
    pub(crate) fn break_off(&mut self, node: usize, decree: &Decree) {
        let aims = self.options.classes.broken_off && self.faulty;
        if !aims || !decree.suspends(self.processes[node].id) || !self.losses.chance(600_000) {
            return;
        }
        let down = self.losses.between(10, 300) * MS;
        self.processes[node].doom.get_or_insert(Doom::InStep(down));
    }
}
