//! The edge to other crates' code: a panic in there becomes an error here.
//!
//! Crates that read files panic on some damaged ones. What the user should see then is which file it was, not a line
//! of somebody's source.

use crate::Error;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in code whose panics are caught, so that nothing is to be printed of them.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `call` into the crate `name` returns. The error is for the middle of a sentence.
///
/// `call` must not leave something of ours half changed when it panics: what it borrows is used afterwards.
pub fn foreign<T>(name: &str, call: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                before(info);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let end = catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(outer);
    end.map_err(|panic| format!("the {name} crate failed on it ({})", words_of(panic.as_ref())))
}

/// What a caught panic said; nothing for one that carried no text.
pub fn words_of(panic: &(dyn Any + Send)) -> &str {
    let words = panic.downcast_ref::<&str>().copied();
    words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

/// The error for a panic of the program itself; `place` is where, or empty.
pub fn fault(panic: &(dyn Any + Send), place: &str) -> Error {
    let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
    let words = words_of(panic);
    Error::invalid(format!("this failed by a fault of Tokenscope, not of yours; please report it: {words}{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_leaves_the_next_call_alone() {
        let failed = foreign("tokens", || -> u8 { panic!("no {}", "room") });
        assert_eq!(failed.unwrap_err(), "the tokens crate failed on it (no room)");
        assert_eq!(foreign("tokens", || 3), Ok(3));
        assert!(!CAUGHT.get());
    }
}
