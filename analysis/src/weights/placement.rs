//! In which numbers the weights of an open model are kept.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The numbers that weight matrices of several rows are kept in. Everything else is f32 whatever they are: activations, norms, softmax,
/// the residual stream, logits, and the sums of every product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// As the file has them, brought to f32.
    #[default]
    F32,
    /// Rounded to bfloat16 (8 bits of exponent, 8 of precision), the nearest one, ties to even: half of the memory. Of a
    /// file that has them so the values are the same.
    Bf16,
}

/// The environment variable that [`Numbers::from_env`] reads.
pub const DTYPE_VARIABLE: &str = "TOKENSCOPE_DTYPE";

impl Numbers {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The name in settings: `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// What it means, in a few words for a menu.
    pub fn words(self) -> &'static str {
        match self {
            Self::F32 => "weights in f32",
            Self::Bf16 => "weight matrices rounded to bf16",
        }
    }

    /// The type that a run is computed in, as [`crate::trace::Trace::dtype`] has it.
    pub fn computed(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "float32 with weights in bfloat16",
        }
    }

    /// Bytes of a value of a matrix in memory.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The value of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|n| n.name() == text)
    }

    /// What `TOKENSCOPE_DTYPE` says: `f32` or `bf16`; unset means `f32`. Errors: something else.
    pub fn from_env() -> Result<Self> {
        let Ok(text) = std::env::var(DTYPE_VARIABLE) else { return Ok(Self::F32) };
        Self::parse(&text).ok_or_else(|| Error::invalid(format!("{DTYPE_VARIABLE} is {text}; it may be f32 or bf16")))
    }
}

/// How the numbers of an open model are computed, so that two results of one model and one input can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// The numbers that weight matrices are kept in.
    pub numbers: Numbers,
}

impl Placement {
    /// Whether it is what nobody has to ask for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert!(Numbers::ALL.iter().all(|n| Numbers::parse(n.name()) == Some(*n)));
        assert_eq!(Numbers::parse("f16"), None);
        let bf16 = Placement { numbers: Numbers::Bf16 };
        assert!(Placement::default().is_default() && !bf16.is_default());
        let text = serde_json::to_string(&bf16).unwrap();
        assert_eq!((text.as_str(), serde_json::from_str::<Placement>(&text).unwrap()), (r#"{"numbers":"bf16"}"#, bf16));
        assert_eq!(serde_json::from_str::<Placement>("{}").unwrap(), Placement::default());
    }
}
