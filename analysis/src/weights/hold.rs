//! Where the weights of an open model are.

use crate::{Error, Result};

/// Where the weights of an open model are. Their values are the same everywhere: what stays in the file is made f32
/// part by part, where a product needs it. Blocks of llama.cpp are treated so, too; its own products would round the
/// activations to eight bits first, and a microscope must not show that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hold {
    /// As f32 in memory up to [`SMALL`] bytes, if that is at most half of the memory that can be had; else in the file.
    #[default]
    Auto,
    /// As f32 in memory: fastest after opening.
    Memory,
    /// As stored in the file: opens at once, and needs memory for a few rows of a matrix only. The system keeps what is
    /// read often in its cache of files, if that has room.
    File,
}

/// Bytes of weights as f32 up to which [`Hold::Auto`] brings them into memory.
pub const SMALL: u64 = 4 << 30;

/// The environment variable that [`Hold::from_env`] reads.
pub const WEIGHTS_VARIABLE: &str = "TOKENSCOPE_WEIGHTS";

impl Hold {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Memory, Self::File];

    /// The name in settings: `auto`, `f32` or `stored`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Memory => "f32",
            Self::File => "stored",
        }
    }

    /// What `TOKENSCOPE_WEIGHTS` says: `auto`, `f32` or `stored`; unset means `auto`.
    pub fn from_env() -> Result<Self> {
        let Ok(text) = std::env::var(WEIGHTS_VARIABLE) else { return Ok(Self::Auto) };
        Self::parse(&text)
            .ok_or_else(|| Error::invalid(format!("{WEIGHTS_VARIABLE} is {text}; it may be auto, f32 or stored")))
    }

    /// What it means, in a few words for a menu.
    pub fn words(self) -> &'static str {
        match self {
            Self::Auto => "in memory, where they take little of it",
            Self::Memory => "in memory, as f32",
            Self::File => "in their file, as stored",
        }
    }

    /// Whether weights that would be `need` bytes as f32 stay in the file; `room` says what memory can be had.
    pub(super) fn in_file(self, need: u64, room: impl FnOnce() -> Option<u64>) -> bool {
        match self {
            Self::Memory => false,
            Self::File => true,
            Self::Auto => need > SMALL || room().is_some_and(|room| need > room / 2),
        }
    }

    /// The value of that name; `memory` is taken for `f32`, too.
    pub fn parse(text: &str) -> Option<Self> {
        let text = if text == "memory" { Self::Memory.name() } else { text };
        Self::ALL.into_iter().find(|h| h.name() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_weights_come_into_memory_if_there_is_room() {
        let auto = |need: u64, room: Option<u64>| Hold::Auto.in_file(need, || room);
        assert!(!auto(SMALL, None) && auto(SMALL + 1, None));
        assert!(!auto(100, Some(200)) && auto(101, Some(200)));
        assert!(auto(SMALL + 1, Some(u64::MAX)));
        assert!(Hold::File.in_file(1, || None) && !Hold::Memory.in_file(u64::MAX, || Some(0)));
    }

    #[test]
    fn names_read_back() {
        assert!(Hold::ALL.iter().all(|h| Hold::parse(h.name()) == Some(*h)));
        assert_eq!((Hold::parse("memory"), Hold::parse("bf16")), (Some(Hold::Memory), None));
    }
}
