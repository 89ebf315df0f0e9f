//! What computes an open model, and in which numbers its weights are kept.

use crate::{Error, Result};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What computes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Chip {
    /// The processor.
    #[default]
    Cpu,
    /// The graphics processor of NVIDIA with this number, in a build with the feature `cuda`.
    Cuda(usize),
    /// That of Apple, in a build with the feature `metal`.
    Metal,
}

/// The environment variable that [`Chip::from_env`] reads.
pub const DEVICE_VARIABLE: &str = "TOKENSCOPE_DEVICE";

/// Devices that were opened: tensors of two handles of one device cannot be computed on together.
static OPEN: Mutex<Vec<(Chip, Device)>> = Mutex::new(Vec::new());

impl Chip {
    /// Those that this build can compute on, if the machine has them; of several of NVIDIA the first.
    pub fn built() -> Vec<Self> {
        let cuda = cfg!(feature = "cuda").then_some(Self::Cuda(0));
        [Self::Cpu].into_iter().chain(cuda).chain(cfg!(feature = "metal").then_some(Self::Metal)).collect()
    }

    /// The first one besides the processor that this build can compute on and that opens here, else the processor.
    pub fn auto() -> Self {
        let mut others = Self::built().into_iter().filter(|c| *c != Self::Cpu);
        others.find(|c| c.open().is_ok()).unwrap_or_default()
    }

    /// The one of that name, as of `Display`, or `cuda` for the first; `auto` is [`Chip::auto`].
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "auto" => Self::auto(),
            "cpu" => Self::Cpu,
            "cuda" => Self::Cuda(0),
            "metal" => Self::Metal,
            other => {
                let number = other.strip_prefix("cuda:").filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
                Self::Cuda(number.parse().ok().filter(|n| *n < 256)?)
            }
        })
    }

    /// What `TOKENSCOPE_DEVICE` says; unset means the processor. Errors: something else than a name.
    pub fn from_env() -> Result<Self> {
        let Ok(text) = std::env::var(DEVICE_VARIABLE) else { return Ok(Self::Cpu) };
        let words = "it may be cpu, cuda, cuda:N, metal or auto";
        Self::parse(&text).ok_or_else(|| Error::invalid(format!("{DEVICE_VARIABLE} is {text}; {words}")))
    }

    /// What it is, in a few words for a menu.
    pub fn words(self) -> String {
        match self {
            Self::Cpu => "on the processor".into(),
            Self::Cuda(n) => format!("on graphics processor {n} (CUDA)"),
            Self::Metal => "on the graphics processor (Metal)".into(),
        }
    }

    /// The device.
    ///
    /// Errors: this build cannot compute on such, or the machine has none that works.
    pub fn open(self) -> Result<Device> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = open.iter().find(|d| d.0 == self) {
            return Ok(device.clone());
        }
        let (built, feature, tools) = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Cuda(_) => (cfg!(feature = "cuda"), "cuda", "the toolkit of NVIDIA with nvcc"),
            Self::Metal => (cfg!(feature = "metal"), "metal", "macOS with Xcode"),
        };
        if !built {
            return Err(Error::invalid(format!(
                "this build of Tokenscope does not compute on {feature}; where {tools} is there, build it with \
                 cargo install --locked --path app --features {feature}, or choose the device cpu"
            )));
        }
        let device = match self {
            Self::Cuda(n) => Device::new_cuda(n),
            _ => Device::new_metal(0),
        };
        let device = device.map_err(|e| {
            let e = e.to_string();
            let why = e.lines().next().unwrap_or_default();
            Error::invalid(format!(
                "the device {self} does not open: {why}; check its driver, or choose the device cpu"
            ))
        })?;
        open.push((self, device.clone()));
        Ok(device)
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl From<Chip> for String {
    fn from(chip: Chip) -> Self {
        chip.to_string()
    }
}

impl TryFrom<String> for Chip {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let named = Some(text.as_str()).filter(|t| *t != "auto").and_then(Self::parse);
        named.ok_or_else(|| format!("there is no device {text}"))
    }
}

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
    /// What computes it.
    pub chip: Chip,
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
        for (text, chip) in
            [("cpu", Chip::Cpu), ("cuda", Chip::Cuda(0)), ("cuda:3", Chip::Cuda(3)), ("metal", Chip::Metal)]
        {
            assert_eq!((Chip::parse(text), Chip::parse(&chip.to_string())), (Some(chip), Some(chip)));
        }
        for bad in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:999999", "metal:0"] {
            assert_eq!(Chip::parse(bad), None, "{bad}");
        }
        let bf16 = Placement { numbers: Numbers::Bf16, ..Placement::default() };
        assert!(Placement::default().is_default() && !bf16.is_default());
        let text = serde_json::to_string(&bf16).unwrap();
        assert_eq!(
            (text.as_str(), serde_json::from_str::<Placement>(&text).unwrap()),
            (r#"{"chip":"cpu","numbers":"bf16"}"#, bf16)
        );
        assert!(serde_json::from_str::<Placement>(r#"{"chip":"auto"}"#).is_err());
        assert_eq!(serde_json::from_str::<Placement>("{}").unwrap(), Placement::default());
    }

    #[test]
    fn a_device_that_this_build_cannot_compute_on_says_how_to_build_one_that_can() {
        assert!(Chip::Cpu.open().unwrap().is_cpu() && Chip::built()[0] == Chip::Cpu);
        for (chip, feature) in [(Chip::Cuda(0), "cuda"), (Chip::Metal, "metal")] {
            if !Chip::built().contains(&chip) {
                let said = chip.open().unwrap_err().to_string();
                assert!(said.contains(&format!("--features {feature}")), "{said}");
            }
        }
    }
}
