//! Policies of masked-diffusion decoding: what is revealed in a step.

mod dparallel_entropy;
mod lightningrl_tpf;
mod llada_low_confidence;
mod localleap;
mod threshold_parallel;

use super::mask::Reveal;
use crate::method::{Info, Kind, Params};
use crate::{Error, Result};

/// One policy.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// The policy with its parameters.
    fn policy(&self, params: &Params) -> Box<dyn Reveal>;
}

/// Every policy, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &dparallel_entropy::DParallel,
    &lightningrl_tpf::LightningRl,
    &llada_low_confidence::LowConfidence,
    &localleap::LocalLeap,
    &threshold_parallel::ThresholdParallel,
];

/// The policy of that id. The error lists the known ones.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: Kind::Reveal.noun(),
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}

pub(crate) mod golden {
    //! What the raw entries of policies share: the loop over the stub of their goldens.

    use crate::Result;
    use crate::ctx::Ctx;
    use crate::decode::chance::Seeded;
    use crate::decode::mask::{Reveal, Rules, write};
    use crate::decode::toy::Neighbours;
    use crate::raw::RawInput;
    use serde_json::{Value, json};

    /// Writes `gen_length` tokens after `prompt` with a policy.
    pub fn run(input: &RawInput, policy: &mut dyn Reveal, ctx: &Ctx) -> Result<Value> {
        let (prompt, length): (Vec<u32>, usize) = (input.read("prompt")?, input.read("gen_length")?);
        let block: usize = input.read_or("block_length", length)?;
        let rules = Rules { length, block, temperature: 0.0, guidance: input.read_or("cfg_scale", 0.0)? };
        let mut stub = Neighbours::of(input)?;
        let out = write(&mut stub, &prompt, policy, rules, &mut Seeded::new(0), ctx, &mut |_| ())?;
        let timeline: Vec<Value> =
            out.revealed().map(|(step, r)| json!([step, r.position, r.id, r.confidence])).collect();
        Ok(json!({
            "output": out.output(),
            "timeline": timeline,
            "nfe": out.forwards,
            "tokens_per_forward": out.tokens_per_forward(),
        }))
    }
}
