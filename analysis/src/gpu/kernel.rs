//! Kernels: compute pipelines from WGSL, compiled once per device, and the work that runs them.

use super::memory::Buffer;
use super::{Gpu, Open, Record, lock};
use crate::{Error, Result};
use std::sync::Arc;

/// One entry point of a shader. Binding 0 is the uniform `params`; the buffers of a dispatch follow from 1 in order.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Name of the shader, unique in the program.
    pub shader: &'static str,
    /// WGSL text, shared parts pasted in front.
    pub source: &'static str,
    /// Entry point.
    pub entry: &'static str,
}

/// A pipeline and the bind group layout that wgpu inferred from the shader.
pub(crate) struct Compiled {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Uploads, dispatches and readbacks on one device. Made by [`Gpu::run`].
pub struct Work<'g> {
    /// The adapter that it runs on.
    pub gpu: &'g Gpu,
    pub(crate) open: Arc<Open>,
    encoder: Option<wgpu::CommandEncoder>,
}

impl Gpu {
    /// Runs `job` on the device. What wgpu finds wrong meanwhile, and a device lost on the way, is [`Error::Gpu`];
    /// the next call then starts on a new device.
    pub fn run<T>(&self, job: impl FnOnce(&mut Work) -> Result<T>) -> Result<T> {
        let open = self.open()?;
        let filters = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|f| open.device.push_error_scope(f));
        let mut work = Work { gpu: self, open: open.clone(), encoder: None };
        let result = job(&mut work);
        if result.is_ok() {
            work.submit();
        }
        drop(work);
        let [memory, internal, validation] = scopes;
        // The innermost scope goes first.
        let reported = [validation, internal, memory].map(|s| pollster::block_on(s.pop()));
        if let Some(why) = open.lost() {
            return Err(Error::Gpu(format!("the device was lost ({why}); the next try opens a new one")));
        }
        let reported = reported.into_iter().flatten().next();
        if reported.is_some() {
            // One of them may be broken; it must not be found in the cache without the reason.
            lock(&open.kernels).clear();
        }
        match reported {
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::Gpu("the device is out of memory; close other programs or choose a smaller part".into()))
            }
            Some(e) => Err(Error::Gpu(one_line(&e.to_string()))),
            None => result,
        }
    }
}

/// wgpu's report without its line breaks and indents.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Work<'_> {
    /// The device that the work runs on.
    pub fn device(&self) -> &wgpu::Device {
        &self.open.device
    }

    /// The number of that device, see [`Gpu::device_id`].
    pub fn device_id(&self) -> u64 {
        self.open.id
    }

    pub(super) fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        let device = &self.open.device;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// Records `groups` workgroups of `kernel`.
    pub fn dispatch(
        &mut self,
        kernel: &Kernel,
        params: &impl Record,
        buffers: &[&Buffer],
        groups: [u32; 3],
    ) -> Result<()> {
        let compiled = self.compiled(kernel);
        // One uniform buffer per dispatch: writes to a shared one would all land before the first dispatch runs.
        let bytes = params.bytes();
        let uniform = self.open.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(kernel.shader),
            size: bytes.len().next_multiple_of(16) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.open.queue.write_buffer(&uniform, 0, &bytes);
        let all: Vec<_> = std::iter::once(&uniform)
            .chain(buffers.iter().map(|b| &b.raw))
            .enumerate()
            .map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32, resource: b.as_entire_binding() })
            .collect();
        let group = self.open.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.shader),
            layout: &compiled.layout,
            entries: &all,
        });
        let mut pass = self.encoder().begin_compute_pass(&Default::default());
        pass.set_pipeline(&compiled.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        Ok(())
    }

    fn compiled(&self, kernel: &Kernel) -> Arc<Compiled> {
        let key = (kernel.shader, kernel.entry);
        let mut kernels = lock(&self.open.kernels);
        if let Some(found) = kernels.get(&key) {
            return found.clone();
        }
        let device = &self.open.device;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.shader),
            source: wgpu::ShaderSource::Wgsl(kernel.source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.shader),
            layout: None,
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: Default::default(),
            cache: None,
        });
        let layout = pipeline.get_bind_group_layout(0);
        let compiled = Arc::new(Compiled { pipeline, layout });
        kernels.insert(key, compiled.clone());
        compiled
    }

    /// Hands what was recorded to the device without waiting for it.
    pub fn submit(&mut self) {
        if let Some(encoder) = self.encoder.take() {
            self.open.queue.submit([encoder.finish()]);
        }
    }

    /// Submits and waits until everything is done. Long passes call it between their parts, so that they can be
    /// cancelled.
    pub fn wait(&mut self) -> Result<()> {
        self.submit();
        match self.open.device.poll(wgpu::PollType::wait_indefinitely()) {
            Ok(_) if self.open.lost().is_none() => Ok(()),
            Ok(_) => Err(Error::Gpu("the device was lost".into())),
            Err(e) => Err(self.refused(&e.to_string())),
        }
    }

    /// An error about work that the device did not do. The cause is mostly in an error scope, which [`Gpu::run`]
    /// reads and prefers.
    pub(super) fn refused(&self, what: &str) -> Error {
        Error::Gpu(what.to_string())
    }
}
