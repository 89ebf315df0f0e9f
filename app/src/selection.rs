//! One selection for all views: hover is written this frame and read in the next, click locks.

use tokenscope_analysis::trace::Tower;

/// Something that can be pointed at; every item stands for a set of tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A token of a tower.
    Token {
        /// Whose token.
        tower: Tower,
        /// Index in the tower's list.
        index: usize,
    },
    /// A range of tokens `first..=last`.
    Range {
        /// Whose tokens.
        tower: Tower,
        /// First.
        first: usize,
        /// Last.
        last: usize,
    },
    /// A cell of an attention map or an edge: both ends.
    Pair {
        /// Whose tokens.
        tower: Tower,
        /// The query, or where the edge arrives.
        query: usize,
        /// The key, or where the edge starts.
        key: usize,
    },
}

impl Item {
    /// Whether `index` of `tower` belongs to the item.
    pub fn covers(&self, tower: Tower, index: usize) -> bool {
        match *self {
            Item::Token { tower: t, index: i } => t == tower && i == index,
            Item::Range { tower: t, first, last } => t == tower && (first..=last).contains(&index),
            Item::Pair { tower: t, query, key } => t == tower && (index == query || index == key),
        }
    }
}

/// Hovered and locked items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    hover_now: Option<Item>,
    hover_next: Option<Item>,
    /// What a click locked.
    pub locked: Option<Item>,
}

impl Selection {
    /// Starts a frame: what was written during the last one is read in this one.
    pub fn begin_frame(&mut self) -> bool {
        let changed = self.hover_now != self.hover_next;
        self.hover_now = self.hover_next.take();
        changed
    }
    /// Writes the hovered item, read in the next frame.
    pub fn set_hover(&mut self, item: Item) {
        self.hover_next = Some(item);
    }
    /// The hovered item.
    pub fn hover(&self) -> Option<&Item> {
        self.hover_now.as_ref()
    }
    /// What views show: the hovered item, else the locked one.
    pub fn current(&self) -> Option<&Item> {
        self.hover_now.as_ref().or(self.locked.as_ref())
    }
    /// Whether a token is hovered.
    pub fn hovers(&self, tower: Tower, index: usize) -> bool {
        self.hover_now.as_ref().is_some_and(|i| i.covers(tower, index))
    }
    /// Whether a token is locked.
    pub fn locks(&self, tower: Tower, index: usize) -> bool {
        self.locked.as_ref().is_some_and(|i| i.covers(tower, index))
    }
}
