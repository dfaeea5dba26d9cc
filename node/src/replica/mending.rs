//! Records that could not be read, and can be read again.
//!
//! Whatever is written over one mends it: what another replica held, or a new version whose
//! coordinator has asked the others first.

use super::{Change, Held};

impl Change {
    /// True if what could not be read can be read again.
    pub(crate) fn mends(&self) -> bool {
        matches!(self.old, Held::Unreadable) && !matches!(self.new, Held::Unreadable)
    }
}
