//! Names of tensors as training programs leave them: what they put around a model is taken off.

use super::Slot;
use std::collections::BTreeMap;

/// Parts of names that wrappers of PyTorch put anywhere.
const ANYWHERE: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

/// First parts of names that belong to models.
const ROOTS: [&str; 27] = [
    "model",
    "transformer",
    "bert",
    "roberta",
    "distilbert",
    "gpt_neox",
    "vit",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "siglip",
    "swin",
    "swinv2",
    "backbone",
    "clip",
    "text_model",
    "vision_model",
    "vision_tower",
    "language_model",
    "multi_modal_projector",
    "decoder",
    "encoder",
    "embeddings",
    "layers",
    "h",
    "wte",
    "lm_head",
];

/// Takes off what stands around the names of all tensors, if no two become the same.
pub(super) fn unwrap(slots: &mut BTreeMap<String, Slot>) {
    if let Some(names) = unwrapped(slots.keys()) {
        *slots = names.into_iter().zip(std::mem::take(slots).into_values()).collect();
    }
}

/// The names without wrappers, in the same order; `None` if they are bare, or would not stay different.
fn unwrapped<'a>(names: impl Iterator<Item = &'a String> + Clone) -> Option<Vec<String>> {
    let mut own: Vec<String> =
        names.clone().map(|n| ANYWHERE.iter().fold(n.clone(), |n, w| n.replace(w, ""))).collect();
    while let Some(prefix) = around(&own) {
        own.iter_mut().for_each(|n| *n = n.split_off(prefix));
    }
    let mut sorted: Vec<&String> = own.iter().collect();
    sorted.sort_unstable();
    let differ = sorted.windows(2).all(|w| w[0] != w[1]);
    (differ && names.zip(&own).any(|(a, b)| a != b)).then_some(own)
}

/// Bytes of the first part of all names, if it is none of a model's own.
fn around(names: &[String]) -> Option<usize> {
    let (first, _) = names.first()?.split_once('.')?;
    let rest = |n: &String| n.strip_prefix(first)?.strip_prefix('.').map(str::to_string);
    let rest: Vec<String> = names.iter().map(rest).collect::<Option<_>>()?;
    // Nothing of a model's own stands below one of its roots.
    let roots_below = || rest.iter().any(|n| n.starts_with("model.") || n.starts_with("lm_head."));
    let foreign = !ROOTS.contains(&first) && names.len() > 1 && rest.iter().all(|n| n.contains('.'));
    let twice = matches!(first, "model" | "module") && roots_below();
    (foreign || twice).then_some(first.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<Vec<String>> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        unwrapped(names.iter())
    }

    #[test]
    fn wrappers_go_and_what_is_the_models_own_stays() {
        let bare = ["lm_head.weight", "model.layers.0.mlp.down_proj.weight"];
        let with = |prefix: &str| bare.map(|n| format!("{prefix}{n}"));
        for prefix in ["_orig_mod.", "module.", "module._orig_mod.", "model.", "base_model.model.", "student.net."] {
            let names = with(prefix);
            assert_eq!(of(&names.each_ref().map(String::as_str)).unwrap(), bare, "{prefix}");
        }
        let inside = ["model.layers.0._orig_mod.a.weight", "model.layers.0._fsdp_wrapped_module.b.weight"];
        assert_eq!(of(&inside).unwrap(), ["model.layers.0.a.weight", "model.layers.0.b.weight"]);
        for own in [
            bare,
            ["model.embed_tokens.weight", "model.norm.weight"],
            ["model.transformer.wte.weight", "model.transformer.ff_out.weight"],
            ["bert.embeddings.word_embeddings.weight", "bert.pooler.dense.weight"],
            ["vision_model.a.weight", "vision_model.b.weight"],
        ] {
            assert_eq!(of(&own), None, "{own:?}");
        }
        assert_eq!(of(&["_orig_mod.a.weight", "a.weight"]), None);
    }
}
