//! Every sample of every pass on all three sides.

use tokenscope_analysis::Ctx;
use tokenscope_analysis::gpu::Side;
use tokenscope_analysis::passes;
use tokenscope_tests::gpu;

/// Compares one side with the plain f64 loop on every sample. Gives how many values were compared.
fn check(side: &str, on: Side) -> usize {
    let ctx = Ctx::default();
    let (mut problems, mut compared) = (Vec::new(), 0);
    for pass in passes::ALL {
        for sample in pass.samples() {
            let at = format!("{} on {side}, {}", pass.name(), sample.name);
            match sample.difference(on, &ctx) {
                Ok((off, n)) if off <= sample.tolerance => compared += n,
                Ok((off, _)) => problems.push(format!("{at}: off by {off}, tolerance {}", sample.tolerance)),
                Err(e) => problems.push(format!("{at}: {e}")),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    compared
}

#[test]
fn the_fast_path_agrees_with_the_plain_loop() {
    assert!(check("the fast path", Side::Fast) > 1000);
}

#[test]
fn the_shader_agrees_with_the_plain_loop() {
    let Some(gpu) = gpu("the_shader_agrees_with_the_plain_loop") else { return };
    assert!(check(&gpu.adapter.name, Side::Gpu(&gpu)) > 1000);
}

#[test]
fn work_cut_into_small_bindings_gives_the_same() {
    let Some(mut gpu) = gpu("work_cut_into_small_bindings_gives_the_same") else { return };
    gpu.max_binding_bytes = Some(1 << 14);
    check("small bindings", Side::Gpu(&gpu));
}
