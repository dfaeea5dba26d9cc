//! Deletes that stay deleted: what a delete leaves goes when nothing can bring the value back.
//!
//! A tombstone can be forgotten once every replica has it and no older state of the key is left
//! anywhere: not in a store, not as a hint, not in a message that is late, not in an operation that
//! goes on. Clocks and ages prove none of this. So the first owner of a key, when its background
//! scan comes upon a key that has nothing but tombstones, asks, in three rounds:
//!
//! 1. **Vote**: all members. An owner says yes if its durable state is the very same, nothing but
//!    tombstones, and undoubted. Every member says whether the ring is stable and it holds nothing
//!    that it does not own.
//! 2. **Fence**: all members, once all owners have said yes. Each raises its *write generation* of
//!    this part of the key space, durably, and says that it holds no hint for it.
//! 3. **Commit**: the owners. Each deletes the record if it is still the very same.
//!
//! Any member that is down, unknown, rebuilding or moving data blocks it, for as long as it is so.
//!
//! # Write generations
//!
//! Of each part of the key space (a *slot*: one in 256) every node has a generation, a number that
//! only rises. Whatever carries the state of a key bears the generation its sender had when it
//! *read the state from its store or minted it*: messages, and also operations that go on, which
//! bear the one they began under, since all that they fetch is read later. A node merges no state
//! that is older than its own generation of the slot, be it in a message, or in an operation of its
//! own that fetched it. A sender that is refused reads its state again, and sends what it has then.
//!
//! So after the fence no state can be merged anywhere that was read before it. And what is read
//! after it is harmless: the fence begins only when all owners have said yes, and from its yes
//! until the commit an owner's state covers the tombstone's clock `C` and has nothing live under it
//! but the tombstone; after the commit it is absent, or made of states that were read after the
//! fence, for which the same holds. No non-owner has a state: it said so at the fence, and what it
//! takes as a hint later was read after the fence. One round less, with the fence in the vote,
//! would not do: a member fenced early could read from an owner that does not have the tombstone
//! yet (the search in `tests/src/search/reap` finds the loss).
//!
//! What else could go wrong:
//!
//! - *A commit reaches some owners only.* The others keep the tombstone, comparison spreads it
//!   again, and it is reaped later. A bare tombstone is harmless at any time. A commit is right at
//!   any later time too, since it deletes only that very state.
//! - *A write comes in between.* It changes the state of its coordinator, which then does not
//!   delete. If it reaches the others after their commit, it does so whole, with a clock that
//!   covers `C`; if it was minted before the fence, it is refused once, and sent again.
//! - *Created anew.* A node that holds nothing mints under a new epoch (rule 1), so no dot that `C`
//!   covers is used again. A context from before covers old dots only, of which none is live: it is
//!   harmless, and so is a clock that learns from it.
//! - *A late retry* of an operation from before could be applied anew, as its id went with the
//!   record. Therefore no key is reaped before its `tombstone_age` is over, which is longer than
//!   ids are kept anyway. This alone is a matter of time, and it can duplicate, never lose.
//! - *A member that was away.* While it is a member nothing is reaped without it. One that left the
//!   ring, or was removed from it, keeps its old generation, and whatever it still holds of a slot
//!   in which something was reaped is refused: generations begin with the ring's epoch, so a fence
//!   that it did not take part in is above all that it ever had. What is refused it sets aside. It
//!   must hand over or set aside all that it holds before it can take part again; until then it is
//!   *away*, and blocks if it is in the ring. Nothing is reaped while one outside has not said that
//!   it is through, hints included: what it holds may count, and would be refused.
//! - *A directory that goes back to an earlier state*, as from a backup, holds what was reaped, and
//!   the generations of then. Before anybody has taken note of its process it raises none, agrees
//!   to nothing and vouches for nothing, so all it sends is refused where something was reaped.
//!   When it is refused, all that it holds is set aside (`node::aside`). It has forgotten what it
//!   takes in no longer; so when the members agree that it holds nothing, all of them raise all
//!   generations to the first one of that ring, and what was sent to its earlier life is refused.
//!
//! # Clocks
//!
//! A node begins a new epoch for a key whenever its own history of it may be broken, so a key that
//! lives long collects epochs. An entry of a closed epoch (the node has a newer one in the clock)
//! under which nothing is live serves only to let go of states in which something still is. By the
//! argument above there are none, if all owners hold the very same state: so the same three rounds
//! agree on dropping such entries, and a commit then replaces the record. The newest epoch of each
//! node stays, as the rules for new versions ask for it. A context from before still names what was
//! dropped, and a write with it brings the entries back until the next time: they cannot be left
//! out, since a node cannot tell them from those of versions that it has not seen yet.
//!
//! Not decided here: what is durable (`store`), who is a member (`quorate_ring`), where hints are.

mod digest;
mod generation;
mod message;
mod queue;
mod round;
mod voter;

use self::voter::Voter;
pub(crate) use self::{
    digest::digest,
    generation::{Generations, META_GENERATIONS_KEY},
    queue::{Lapsed, Queue, WAITING_MAX},
    round::Reaper,
    voter::{send, standing},
};
pub use self::{
    generation::slot_of,
    message::{Candidate, Goal, ReapMessage, Standing},
};

use crate::core::Core;

/// Most keys of one round.
pub const ROUND_KEYS_MAX: usize = 64;

/// True if this node holds a state of a key of that slot for another node.
pub(crate) fn holds_hint(core: &Core, slot: u8) -> bool {
    let first = u64::from(slot) << 56;
    core.replica.holds_hint_in(&(first..=first | u64::MAX >> 8))
}
