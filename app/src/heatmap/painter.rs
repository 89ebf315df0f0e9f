//! Heatmaps on the graphics device that draws the window. The one place in the program that speaks wgpu.
//!
//! A map that was computed on that device is drawn from the buffer it lies in; one that was computed on the CPU is
//! copied to the device once. What changes from frame to frame is a small block of parameters.

use super::{COLORS, Fitted, Frame, Palette, Params};
pub use egui_wgpu::RenderState as Screen;
use egui_wgpu::{Callback, CallbackResources, CallbackTrait, ScreenDescriptor, wgpu};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokenscope_analysis::gpu::{Gpu, Kernel, Layout, Record as _};
use tokenscope_analysis::passes::attention_tile::DeviceTile;

const SOURCE: &str = include_str!("../../../shaders/heatmap.wgsl");

/// The entry points of the shader, each with the struct that Rust fills and WGSL reads as parameters.
pub const KERNELS: [(Kernel, Layout); 2] = [
    (Kernel { shader: "heatmap", source: SOURCE, entry: "corner" }, Params::LAYOUT),
    (Kernel { shader: "heatmap", source: SOURCE, entry: "color" }, Params::LAYOUT),
];

/// Frames after which buffers that nobody drew from are freed.
const PATIENCE: u64 = 4;

/// Cells to draw.
pub struct Tile<'a> {
    /// A number that no other cells have or had: what the device holds is kept under it.
    pub version: u64,
    /// Cells down.
    pub rows: usize,
    /// Cells across.
    pub cols: usize,
    /// Number of the first column in the map that this is a part of.
    pub first_col: usize,
    /// The cells, where they were computed.
    pub cells: Source<'a>,
    /// Per row, its largest value without and with the first column of the map; asked for once.
    pub row_tops: &'a dyn Fn() -> Vec<[f32; 2]>,
    /// A number like `version` for what the scale was fitted to.
    pub scale_version: u64,
}

/// Where cells are.
pub enum Source<'a> {
    /// Row-major on the host.
    Host(&'a [f32]),
    /// On a device.
    Device(&'a DeviceTile),
}

/// Buffers of one tile.
#[derive(Clone)]
struct Uploaded {
    cells: wgpu::Buffer,
    row_tops: wgpu::Buffer,
}

#[derive(Default)]
struct Cache {
    frame: u64,
    tiles: HashMap<u64, (Uploaded, u64)>,
    ranks: HashMap<u64, (wgpu::Buffer, u64)>,
    /// The colours last drawn with.
    colors: Option<(Vec<egui::Color32>, wgpu::Buffer)>,
    /// Bytes copied to the device so far.
    uploaded: u64,
}

/// Draws heatmaps on the window's device.
pub struct Painter {
    device: wgpu::Device,
    /// The number of the same device where passes compute.
    device_id: Option<u64>,
    queue: wgpu::Queue,
    pipeline: Arc<wgpu::RenderPipeline>,
    linear_target: bool,
    /// Bound where a scale needs no ranks.
    nothing: wgpu::Buffer,
    cache: Mutex<Cache>,
}

impl Painter {
    /// The painter for a window; `None` where its device cannot draw from storage buffers. `gpu` is where passes
    /// compute, if that is the window's device.
    pub fn new(state: &Screen, gpu: Option<&Gpu>) -> Option<Self> {
        let (device, limits) = (state.device.clone(), state.device.limits());
        if state.adapter.get_info().backend == wgpu::Backend::Gl || limits.max_storage_buffers_per_shader_stage < 4 {
            return None;
        }
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = pipeline(&device, state.target_format);
        let nothing = buffer(&device, "no ranks", 4);
        if pollster::block_on(scope.pop()).is_some() {
            return None;
        }
        Some(Self {
            device,
            device_id: gpu.and_then(Gpu::device_id),
            queue: state.queue.clone(),
            pipeline: Arc::new(pipeline),
            linear_target: state.target_format.is_srgb(),
            nothing,
            cache: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // A panic elsewhere leaves the cache whole: entries go in ready.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a frame: frees what was not drawn from lately. A frame under way keeps its own buffers.
    pub fn begin_frame(&self) {
        let mut cache = self.lock();
        cache.frame += 1;
        let oldest = cache.frame.saturating_sub(PATIENCE);
        cache.tiles.retain(|_, t| t.1 >= oldest);
        cache.ranks.retain(|_, t| t.1 >= oldest);
    }

    /// Bytes of cells, row tops, ranks and colours copied to the device so far.
    pub fn uploaded_bytes(&self) -> u64 {
        self.lock().uploaded
    }

    /// Whether cells that lie on a device can be drawn from where they are.
    pub fn owns(&self, tile: &DeviceTile) -> bool {
        self.device_id == Some(tile.device_id)
    }

    /// The shape that paints `tile` into `frame`, which lies at `rect` (points). `None` if there is nothing to draw,
    /// or if the cells are on another device or too many for a binding of this one.
    pub fn shape(
        &self,
        rect: egui::Rect,
        tile: &Tile,
        frame: &Frame,
        fitted: &Fitted,
        palette: &Palette,
    ) -> Option<egui::Shape> {
        let bytes = 4 * (tile.rows * tile.cols) as u64;
        let foreign = matches!(tile.cells, Source::Device(d) if !self.owns(d));
        let fits = bytes <= self.device.limits().max_storage_buffer_binding_size;
        if bytes == 0 || foreign || !fits || palette.map.len() != COLORS || frame.size.contains(&0) {
            return None;
        }
        let mut params = Params::new(tile.rows, tile.cols, tile.first_col, frame, fitted, palette);
        params.linear_target = u32::from(self.linear_target);
        let mut cache = self.lock();
        let now = cache.frame;
        let uploaded = match cache.tiles.get_mut(&tile.version) {
            Some((found, last)) => {
                *last = now;
                found.clone()
            }
            None => {
                let row_tops: Vec<f32> = (tile.row_tops)().into_iter().flatten().collect();
                let cells = match tile.cells {
                    Source::Host(values) => self.upload(&mut cache, "cells", bytemuck::cast_slice(values)),
                    Source::Device(d) => d.buffer.clone(),
                };
                let row_tops = self.upload(&mut cache, "row tops", bytemuck::cast_slice(&row_tops));
                let fresh = Uploaded { cells, row_tops };
                cache.tiles.insert(tile.version, (fresh.clone(), now));
                fresh
            }
        };
        let ranks = match (params.curve == super::Curve::Rank as u32, cache.ranks.get_mut(&tile.scale_version)) {
            (false, _) => self.nothing.clone(),
            (true, Some((found, last))) => {
                *last = now;
                found.clone()
            }
            (true, None) => {
                let fresh = self.upload(&mut cache, "ranks", bytemuck::cast_slice(&fitted.summary.ranks()));
                cache.ranks.insert(tile.scale_version, (fresh.clone(), now));
                fresh
            }
        };
        let colors = match &cache.colors {
            Some((map, found)) if *map == palette.map => found.clone(),
            _ => {
                let words: Vec<u8> = palette.map.iter().flat_map(|c| c.to_array()).collect();
                let fresh = self.upload(&mut cache, "colours", &words);
                cache.colors = Some((palette.map.clone(), fresh.clone()));
                fresh
            }
        };
        let buffers = [uploaded.cells, uploaded.row_tops, ranks, colors];
        let heat = Heat { pipeline: self.pipeline.clone(), params, buffers, group: OnceLock::new() };
        Some(egui::Shape::Callback(Callback::new_paint_callback(rect, heat)))
    }

    fn upload(&self, cache: &mut Cache, label: &str, bytes: &[u8]) -> wgpu::Buffer {
        let buffer = buffer(&self.device, label, bytes.len() as u64);
        self.queue.write_buffer(&buffer, 0, bytes);
        cache.uploaded += bytes.len() as u64;
        buffer
    }
}

/// A storage buffer of at least one word, because a binding must not be empty.
fn buffer(device: &wgpu::Device, label: &str, bytes: u64) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes.max(4),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

fn pipeline(device: &wgpu::Device, format: wgpu::TextureFormat) -> wgpu::RenderPipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("heatmap"),
        source: wgpu::ShaderSource::Wgsl(SOURCE.into()),
    });
    // Named and not inferred, so that both entry points may leave out what they do not read.
    let entry = |binding: u32, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::VERTEX_FRAGMENT,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let storage = wgpu::BufferBindingType::Storage { read_only: true };
    let entries: Vec<_> = std::iter::once(entry(0, wgpu::BufferBindingType::Uniform))
        .chain(
            (1..5)
                .map(|i| wgpu::BindGroupLayoutEntry { visibility: wgpu::ShaderStages::FRAGMENT, ..entry(i, storage) }),
        )
        .collect();
    let group =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("heatmap"), entries: &entries });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("heatmap"),
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("heatmap"),
        layout: Some(&layout),
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("corner"),
            compilation_options: Default::default(),
            buffers: &[],
        },
        primitive: wgpu::PrimitiveState { topology: wgpu::PrimitiveTopology::TriangleStrip, ..Default::default() },
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("color"),
            compilation_options: Default::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}

/// One heatmap of one frame. It owns its buffers, so they live until it is drawn, whatever is freed meanwhile.
struct Heat {
    pipeline: Arc<wgpu::RenderPipeline>,
    params: Params,
    buffers: [wgpu::Buffer; 4],
    group: OnceLock<wgpu::BindGroup>,
}

impl CallbackTrait for Heat {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        screen: &ScreenDescriptor,
        _: &mut wgpu::CommandEncoder,
        _: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        let [width, height] = screen.size_in_pixels.map(|v| v as f32);
        let params = Params { screen_width: width, screen_height: height, ..self.params };
        // Each has parameters of its own: all are written before the first is drawn.
        let uniform = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("heatmap"),
            size: size_of::<Params>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        queue.write_buffer(&uniform, 0, &params.bytes());
        let entries: Vec<_> = std::iter::once(&uniform)
            .chain(&self.buffers)
            .enumerate()
            .map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32, resource: b.as_entire_binding() })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("heatmap"),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        // Prepared once per callback; a second time would bring the same.
        let _ = self.group.set(group);
        Vec::new()
    }

    fn paint(&self, info: egui::PaintCallbackInfo, pass: &mut wgpu::RenderPass<'static>, _: &CallbackResources) {
        let Some(group) = self.group.get() else { return };
        // The corners are given in pixels of the screen; egui's scissors stay.
        let [width, height] = info.screen_size_px.map(|v| v as f32);
        pass.set_viewport(0.0, 0.0, width, height, 0.0, 1.0);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.draw(0..4, 0..1);
    }
}
