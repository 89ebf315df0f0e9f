//! Names that the program gives to measures and units. They are its own and known when it is built; those of a file are
//! kept as long as the program runs, each once, and no more than it could have itself.

use serde::{Deserialize, Deserializer, de::Error as _};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// A name of the program's own.
pub type Name = &'static str;

/// Names of files that are kept, and bytes of one.
const MOST: usize = 4096;
const LONG: usize = 200;

static NAMES: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());

/// Reads a name. Errors: too long a one, more than a program has.
pub fn read_name<'de, D: Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
    let name = String::deserialize(d)?;
    if name.len() > LONG {
        return Err(D::Error::custom(format!("a name has {} bytes, and at most {LONG}", name.len())));
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return Ok(known);
    }
    if names.len() >= MOST {
        return Err(D::Error::custom(format!("there are more than {MOST} names")));
    }
    let kept: Name = Box::leak(name.into_boxed_str());
    names.insert(kept);
    Ok(kept)
}

/// Lists that are shared, as lists.
pub(super) mod shared {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(list: &Arc<[T]>, s: S) -> Result<S::Ok, S::Error> {
        list.as_ref().serialize(s)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Arc<[T]>, D::Error> {
        Vec::deserialize(d).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_long_ones_are_refused() {
        let read = |text: &str| read_name(&mut serde_json::Deserializer::from_str(&format!("{text:?}")));
        let (a, b) = (read("nats of a test").unwrap(), read("nats of a test").unwrap());
        assert!(std::ptr::eq(a, b) && a == "nats of a test");
        assert!(read(&"x".repeat(LONG + 1)).is_err_and(|e| e.to_string().contains("bytes")));
    }
}
