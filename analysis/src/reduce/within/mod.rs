//! Reductions inside the language model, alone or together with the encoder and with what is written afterwards.

mod aim;
mod atp_llava;
mod catp;
mod corematching;
mod dart;
mod drawn_schedule;
mod entropyprune;
mod fastv;
mod hidrop;
mod mustdrop;
mod p_mod;
mod sparsevlm;
mod transprune;
mod urag_pages;
mod visiondrop;

use super::Method;

/// Every method of the folder, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &aim::Aim,
    &atp_llava::AtpLlava,
    &catp::Catp,
    &corematching::CoreMatching,
    &dart::Dart,
    &drawn_schedule::DrawnSchedule,
    &entropyprune::EntropyPrune,
    &fastv::FastV,
    &hidrop::HiDrop,
    &mustdrop::MustDrop,
    &p_mod::PMod,
    &sparsevlm::SparseVlm,
    &transprune::TransPrune,
    &urag_pages::UragPages,
    &visiondrop::VisionDrop,
];

/// Layers that stand behind these shares of `n_layers`, the first being layer 0 behind 1 / n: each at least one behind
/// the one before it, until the last that leaves `room` layers behind itself, which the others share.
fn layers_at(depths: &[f64], n_layers: usize, room: usize) -> Vec<usize> {
    let last = n_layers.saturating_sub(room + 1);
    let mut out: Vec<usize> = Vec::new();
    for d in depths {
        let wanted = ((d * n_layers as f64).round() as usize).saturating_sub(1);
        let next = out.last().map_or(0, |l| l + 1);
        out.push(wanted.max(next).min(last));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_the_authors_layers_where_there_are_32_and_find_room_where_there_are_few() {
        let depths = [7.0 / 32.0, 9.0 / 32.0, 12.0 / 32.0];
        assert_eq!(layers_at(&depths, 32, 1), [6, 8, 11]);
        assert_eq!(layers_at(&depths, 4, 1), [0, 1, 2]);
        assert_eq!(layers_at(&depths, 2, 1), [0, 0, 0]);
    }
}
