//! Errors of the device are values, a lost device is replaced, and the choice of the side follows one rule.

use candle_core::Device;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokenscope_analysis::gpu::{COMPUTE_VARIABLE, Compute, Gpu, Kernel, Side};
use tokenscope_analysis::model::load;
use tokenscope_analysis::passes::attention_map;
use tokenscope_analysis::passes::attention_tile::{self, Reduce, Window};
use tokenscope_analysis::passes::samples::OwnedHead;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, Tower};
use tokenscope_analysis::{Ctx, Error, Result, gpu_struct};
use tokenscope_tests::{golden, gpu};

gpu_struct! {
    /// Parameters of the test's shader.
    struct Params {
        /// Values.
        n: u32,
        /// Factor.
        by: u32,
    }
}

const SCALE: &str = "
    struct Params { n: u32, by: u32 }
    @group(0) @binding(0) var<uniform> params: Params;
    @group(0) @binding(1) var<storage, read_write> values: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < params.n { values[id.x] = values[id.x] * params.by; }
    }";

const GOOD: Kernel = Kernel { shader: "test_scale", source: SCALE, entry: "main" };

fn scaled(gpu: &Gpu, kernel: &Kernel) -> Result<Vec<u32>> {
    gpu.run(|work| {
        let values = work.upload("values", &[1u32, 2, 3])?;
        work.dispatch(kernel, &Params { n: 3, by: 2 }, &[&values], [1, 1, 1])?;
        work.dispatch(kernel, &Params { n: 2, by: 5 }, &[&values], [1, 1, 1])?;
        work.read(&values)
    })
}

#[test]
fn every_dispatch_has_its_own_parameters() {
    let Some(gpu) = gpu("every_dispatch_has_its_own_parameters") else { return };
    assert_eq!(scaled(&gpu, &GOOD).unwrap(), [10, 20, 6]);
}

/// The thread that waits first calls back for all, so that a result may come after the wait of its own thread.
#[test]
fn each_of_many_threads_gets_its_result() {
    let Some(gpu) = gpu("each_of_many_threads_gets_its_result") else { return };
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..300).for_each(|i| assert_eq!(scaled(&gpu, &GOOD).unwrap(), [10, 20, 6], "{i}")));
        }
    });
}

#[test]
fn a_bad_shader_is_an_error_and_the_device_stays_usable() {
    let Some(gpu) = gpu("a_bad_shader_is_an_error_and_the_device_stays_usable") else { return };
    let bad = Kernel { shader: "test_bad", source: "fn main( {", entry: "main" };
    let error = scaled(&gpu, &bad).unwrap_err();
    assert!(matches!(&error, Error::Gpu(m) if m.contains("test_bad")), "{error}");
    // The second try must not find the broken pipeline in the cache, without the reason.
    assert!(matches!(scaled(&gpu, &bad), Err(Error::Gpu(m)) if m.contains("test_bad")));
    assert!(matches!(scaled(&gpu, &Kernel { entry: "absent", ..GOOD }), Err(Error::Gpu(_))));
    assert_eq!(scaled(&gpu, &GOOD).unwrap(), [10, 20, 6]);
}

#[test]
fn a_wrong_number_of_buffers_is_an_error() {
    let Some(gpu) = gpu("a_wrong_number_of_buffers_is_an_error") else { return };
    let result = gpu.run(|work| {
        let values = work.upload("values", &[1u32])?;
        work.dispatch(&GOOD, &Params { n: 1, by: 2 }, &[&values, &values], [1, 1, 1])?;
        work.read::<u32>(&values)
    });
    assert!(matches!(result, Err(Error::Gpu(_))), "{result:?}");
}

#[test]
fn a_buffer_over_the_limits_is_an_error_here_and_in_wgpu() {
    let Some(gpu) = gpu("a_buffer_over_the_limits_is_an_error_here_and_in_wgpu") else { return };
    let ours = gpu.run(|work| {
        let words = work.binding_bytes() as usize / 4 + 1;
        work.buffer("too much", words).map(|_| ())
    });
    assert!(matches!(&ours, Err(Error::Gpu(m)) if m.contains("too much")), "{ours:?}");
    let wgpus = gpu.run(|work| {
        let size = work.device().limits().max_buffer_size + 4;
        let usage = wgpu::BufferUsages::STORAGE;
        let _ = work.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("huge"),
            size,
            usage,
            mapped_at_creation: false,
        });
        Ok(())
    });
    assert!(matches!(&wgpus, Err(Error::Gpu(m)) if m.contains("huge")), "{wgpus:?}");
}

#[test]
fn a_lost_device_is_an_error_and_the_next_use_opens_another() {
    let Some(gpu) = gpu("a_lost_device_is_an_error_and_the_next_use_opens_another") else { return };
    let before = gpu.run(|work| Ok(work.device().clone())).unwrap();
    let lost = gpu.run(|work| {
        work.device().destroy();
        let values = work.upload("values", &[1u32])?;
        work.read::<u32>(&values)
    });
    assert!(matches!(&lost, Err(Error::Gpu(m)) if m.contains("lost")), "{lost:?}");
    assert_eq!(scaled(&gpu, &GOOD).unwrap(), [10, 20, 6]);
    assert_ne!(gpu.run(|work| Ok(work.device().clone())).unwrap(), before);
}

/// A device that somebody else made, as eframe does.
fn foreign() -> Option<(wgpu::Adapter, wgpu::Device, wgpu::Queue)> {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(desc);
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).ok()?;
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).ok()?;
    Some((adapter, device, queue))
}

#[test]
fn a_tile_stays_on_the_device_that_a_window_shares_and_outlives_no_loss() {
    if gpu("a_tile_stays_on_the_device_that_a_window_shares_and_outlives_no_loss").is_none() {
        return;
    }
    let (adapter, device, queue) = foreign().unwrap();
    let gpu = Arc::new(Gpu::from_parts(&adapter, device.clone(), queue.clone()).expect("the adapter is no GL one"));
    let (owned, ctx) = (OwnedHead::new(2, 1, 8, 70, 1), Ctx::default());
    let head = owned.head().unwrap();
    let on_device = attention_tile::on_device(&head, &gpu, &ctx).unwrap();
    let window = Window { queries: 10..70, keys: 0..40, rows: 6, cols: 9, reduce: Reduce::Max };
    let tile = on_device.tile(&window, &ctx).unwrap();
    assert_eq!(tile.device, device);
    assert_eq!((tile.rows, tile.cols, tile.buffer.size()), (6, 9, 6 * 9 * 4));
    assert!(tile.buffer.usage().contains(wgpu::BufferUsages::STORAGE));
    // Read as a painter would see it: with the foreign queue.
    let copy = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: tile.buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(&tile.buffer, 0, &copy, 0, tile.buffer.size());
    queue.submit([encoder.finish()]);
    copy.map_async(wgpu::MapMode::Read, .., |r| r.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let seen: Vec<f32> =
        copy.get_mapped_range(..).unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let want = attention_tile::cpu(&head, &window).unwrap();
    for (a, b) in seen.iter().zip(want.data()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert_eq!(on_device.read(&window, &ctx).unwrap().data(), seen);

    device.destroy();
    assert!(matches!(on_device.tile(&window, &ctx), Err(Error::Gpu(_))));
    assert!(matches!(on_device.tile(&window, &ctx), Err(Error::Gpu(m)) if m.contains("copy it again")));
    let again = attention_tile::on_device(&head, &gpu, &ctx).unwrap();
    assert_ne!(again.tile(&window, &ctx).unwrap().device, device);
}

#[test]
fn a_software_adapter_computes_only_where_it_is_asked_to() {
    let Some(gpu) = gpu("a_software_adapter_computes_only_where_it_is_asked_to") else { return };
    let hardware = matches!(Compute::Auto.side(Some(&gpu)), Ok(Side::Gpu(_)));
    assert_eq!(hardware, !gpu.software);
    assert!(matches!(Compute::Cpu.side(Some(&gpu)), Ok(Side::Fast)));
    assert!(matches!(Compute::Gpu.side(Some(&gpu)), Ok(Side::Gpu(_))));
    let words = Compute::Auto.words(Some(&gpu));
    assert!(words.contains(&gpu.adapter.name), "{words}");
    assert_eq!(words.contains("on the CPU"), gpu.software, "{words}");
    assert!(Compute::Cpu.words(Some(&gpu)).contains(COMPUTE_VARIABLE));
}

#[test]
fn a_context_takes_the_side_of_the_rule_and_falls_back_only_where_it_may() {
    let Some(mut gpu) = gpu("a_context_takes_the_side_of_the_rule_and_falls_back_only_where_it_may") else { return };
    // The rule reads this field, so any adapter can stand for a hardware one.
    gpu.software = false;
    let gpu = Arc::new(gpu);
    let fails = |ctx: &Ctx| ctx.compute(|| Ok("cpu"), |_| Err(Error::Gpu("no".into())));
    let forced = Ctx::default().with_gpu(Some(gpu.clone()), Compute::Gpu);
    assert_eq!(forced.compute(|| Ok("cpu"), |_| Ok("gpu")).unwrap(), "gpu");
    assert!(matches!(fails(&forced), Err(Error::Gpu(_))));
    let auto = Ctx::default().with_gpu(Some(gpu), Compute::Auto);
    assert_eq!(auto.compute(|| Ok("cpu"), |_| Ok("gpu")).unwrap(), "gpu");
    assert_eq!(fails(&auto).unwrap(), "cpu");
    assert!(auto.notes()[0].contains("the GPU failed"), "{:?}", auto.notes());
}

#[test]
fn all_maps_of_a_layer_are_those_of_its_heads_on_either_side() {
    let Some(gpu) = gpu("all_maps_of_a_layer_are_those_of_its_heads_on_either_side") else { return };
    let model = load(&golden().join("models/llama"), &Device::Cpu).unwrap();
    let request = RunRequest { ids: Some((1..40).collect()), ..RunRequest::default() };
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let device = Ctx::default().with_gpu(Some(Arc::new(gpu)), Compute::Gpu);
    for ctx in [Ctx::default(), device] {
        let maps = attention_map::of_layer(&trace, Tower::Text, 0, 1, &ctx).unwrap();
        let heads = attention_map::heads(&trace, Tower::Text, 0, 1).unwrap();
        assert_eq!(maps.shape(), [heads.len(), 39, 39]);
        for (i, head) in heads.iter().enumerate() {
            let want = attention_tile::cpu(head, &Window::whole(head, usize::MAX, Reduce::Max)).unwrap();
            assert!(maps.row(i).iter().zip(want.data()).all(|(a, b)| (a - b).abs() < 1e-5), "head {i}");
        }
    }
}

#[test]
fn a_cancelled_pass_stops() {
    let Some(gpu) = gpu("a_cancelled_pass_stops") else { return };
    let owned = OwnedHead::new(1, 1, 8, 70, 1);
    let head = owned.head().unwrap();
    let cancelled = Ctx::new(Arc::new(AtomicBool::new(true)), Arc::new(|_| ()));
    let window = Window::whole(&head, 8, Reduce::Max);
    assert!(matches!(attention_tile::fast(&head, None, &window, &cancelled), Err(Error::Cancelled)));
    assert!(matches!(attention_tile::gpu(&head, None, &window, &gpu, &cancelled), Err(Error::Cancelled)));
}
