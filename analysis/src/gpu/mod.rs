//! The graphics device: adapter, device, queue, and errors as values.
//!
//! A [`Gpu`] opens its device on first use and opens a new one after a loss. Everything that wgpu reports
//! (validation, memory, a lost device) comes back as [`Error::Gpu`]; nothing here panics on it. Which side a
//! computation runs on is decided in one place, [`Compute::side`].

mod kernel;
mod layout;
mod memory;

pub use kernel::{Kernel, Work};
pub use layout::{Field, Layout, Record, Word};
pub use memory::{Buffer, grid, pieces};

pub use crate::gpu_struct;

use crate::{Error, Result};
use kernel::Compiled;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a graphics adapter says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Name of the device.
    pub name: String,
    /// Programming interface: Vulkan, Metal, Dx12 or Gl.
    pub backend: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Largest part of a buffer that a shader sees, in bytes.
    pub max_storage_binding_bytes: u64,
}

impl Adapter {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        Self {
            name: info.name,
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            max_storage_binding_bytes: adapter.limits().max_storage_buffer_binding_size,
        }
    }
}

/// Every adapter of this machine; none is not an error.
pub fn adapters() -> Vec<Adapter> {
    let found = pollster::block_on(wgpu::Instance::default().enumerate_adapters(wgpu::Backends::all()));
    found.iter().map(Adapter::of).collect()
}

/// Where the user wants passes to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// On hardware graphics where there is such, else on the CPU.
    #[default]
    Auto,
    /// On the CPU.
    Cpu,
    /// On the graphics adapter, a software one included; without one it is an error.
    Gpu,
}

/// The environment variable that [`Compute::from_env`] reads.
pub const COMPUTE_VARIABLE: &str = "TOKENSCOPE_COMPUTE";

impl Compute {
    /// What `TOKENSCOPE_COMPUTE` says: `auto`, `cpu` or `gpu`; unset means `auto`.
    pub fn from_env() -> Result<Self> {
        match std::env::var(COMPUTE_VARIABLE) {
            Err(_) => Ok(Self::Auto),
            Ok(text) => Self::parse(&text),
        }
    }

    /// Reads `auto`, `cpu` or `gpu`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            other => Err(Error::invalid(format!("{COMPUTE_VARIABLE} is {other}; it may be auto, cpu or gpu"))),
        }
    }

    /// The one rule for where passes compute. A software adapter is slower than the CPU path, so it is used only
    /// where it is asked for.
    pub fn side<'g>(self, gpu: Option<&'g Gpu>) -> Result<Side<'g>> {
        match (self, gpu) {
            (Self::Gpu, Some(gpu)) => Ok(Side::Gpu(gpu)),
            (Self::Gpu, None) => Err(Error::Gpu(format!(
                "{COMPUTE_VARIABLE} asks for a graphics adapter and this machine has none; install a Vulkan driver or set it to cpu"
            ))),
            (Self::Auto, Some(gpu)) if !gpu.software => Ok(Side::Gpu(gpu)),
            (Self::Auto | Self::Cpu, _) => Ok(Side::Fast),
        }
    }

    /// What computes, in words for the status line: the same rule as [`Compute::side`].
    pub fn words(self, gpu: Option<&Gpu>) -> String {
        let named = |g: &Gpu| format!("{} ({})", g.adapter.name, g.adapter.backend);
        match (self.side(gpu), gpu) {
            (Ok(Side::Gpu(g)), _) if g.software => {
                format!("computing on {}, a software adapter, because {COMPUTE_VARIABLE} says so", named(g))
            }
            (Ok(Side::Gpu(g)), _) => format!("computing on {}", named(g)),
            (Ok(_), _) if self == Self::Cpu => format!("computing on the CPU, because {COMPUTE_VARIABLE} says so"),
            (Ok(_), Some(g)) => {
                format!("computing on the CPU; {} adapter {} is a software one", g.adapter.backend, g.adapter.name)
            }
            (Ok(_), None) => "computing on the CPU; there is no graphics adapter for it".into(),
            (Err(_), _) => format!("cannot compute: {COMPUTE_VARIABLE} says gpu and there is no graphics adapter"),
        }
    }
}

/// One of the ways in which a pass computes.
#[derive(Clone, Copy)]
pub enum Side<'g> {
    /// The plain f64 loop.
    Cpu,
    /// The fast CPU path.
    Fast,
    /// The shader.
    Gpu(&'g Gpu),
}

/// A graphics adapter to run passes on. Its device opens on first use, and anew after a loss.
pub struct Gpu {
    /// What the adapter says about itself.
    pub adapter: Adapter,
    /// Whether the adapter is a software one; then the CPU path is faster for computing.
    pub software: bool,
    /// Cuts work as if a binding could show no more than this; `None` is the device's own limit. For tests of the
    /// cutting.
    pub max_binding_bytes: Option<u64>,
    handle: wgpu::Adapter,
    open: Mutex<Option<Arc<Open>>>,
}

/// An open device.
pub(crate) struct Open {
    /// A number that no other open device of this process has. wgpu's own comparison takes devices of two instances
    /// for the same.
    pub id: u64,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Compiled kernels by shader and entry point.
    pub kernels: Mutex<HashMap<(&'static str, &'static str), Arc<Compiled>>>,
    /// Why the device was lost, once it is.
    lost: Arc<Mutex<Option<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at any time, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    fn new(device: wgpu::Device, queue: wgpu::Queue) -> Arc<Self> {
        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let note = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            *lock(&note) = Some(format!("{reason:?} {message}").trim().to_string());
        });
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, device, queue, kernels: Mutex::default(), lost })
    }

    /// Why the device was lost, if it is.
    pub fn lost(&self) -> Option<String> {
        lock(&self.lost).clone()
    }
}

impl Gpu {
    /// The best adapter for computing without a window, hardware before software; `None` if there is none.
    /// GL is left out: its drivers refuse many of the pipelines.
    pub fn headless() -> Option<Self> {
        let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
        desc.backends = wgpu::Backends::PRIMARY;
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let handle = pollster::block_on(wgpu::Instance::new(desc).request_adapter(&options)).ok()?;
        Some(Self::over(handle, None))
    }

    /// The adapter and device that a window already owns; `None` where that is GL, see [`Gpu::headless`].
    pub fn from_parts(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Option<Self> {
        let computes = adapter.get_info().backend != wgpu::Backend::Gl;
        computes.then(|| Self::over(adapter.clone(), Some(Open::new(device, queue))))
    }

    fn over(handle: wgpu::Adapter, open: Option<Arc<Open>>) -> Self {
        let adapter = Adapter::of(&handle);
        Self { software: adapter.software, adapter, max_binding_bytes: None, handle, open: Mutex::new(open) }
    }

    /// The device, opened now if it is not or was lost.
    pub(crate) fn open(&self) -> Result<Arc<Open>> {
        let mut slot = lock(&self.open);
        if let Some(open) = slot.as_ref().filter(|o| o.lost().is_none()) {
            return Ok(open.clone());
        }
        let had = slot.take().is_some();
        let all = self.handle.limits();
        let desc = wgpu::DeviceDescriptor {
            label: Some("tokenscope passes"),
            required_limits: wgpu::Limits {
                max_storage_buffer_binding_size: all.max_storage_buffer_binding_size,
                max_buffer_size: all.max_buffer_size,
                ..wgpu::Limits::default().using_resolution(all)
            },
            ..Default::default()
        };
        let found = pollster::block_on(self.handle.request_device(&desc));
        // After a driver reset the adapter itself may be stale; a fresh one of the same name then takes its place.
        let found = found.or_else(|e| match Self::headless().filter(|g| had && g.adapter == self.adapter) {
            Some(fresh) => pollster::block_on(fresh.handle.request_device(&desc)),
            None => Err(e),
        });
        let (device, queue) = found.map_err(|e| Error::Gpu(format!("{} gives no device: {e}", self.adapter.name)))?;
        let open = Open::new(device, queue);
        *slot = Some(open.clone());
        Ok(open)
    }

    /// The number of the device that is open now, if one is; a device opened after a loss has another.
    pub fn device_id(&self) -> Option<u64> {
        lock(&self.open).as_ref().map(|o| o.id)
    }

    /// Multiply–add operations that one submission may take, so that a cancelled job stops soon.
    pub fn work_per_submission(&self) -> u64 {
        if self.software { 1 << 28 } else { 1 << 35 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_adapter_the_cpu_computes_unless_a_gpu_is_asked_for() {
        assert!(matches!(Compute::Auto.side(None), Ok(Side::Fast)));
        assert!(matches!(Compute::Cpu.side(None), Ok(Side::Fast)));
        assert!(Compute::Gpu.side(None).is_err());
        assert_eq!(Compute::Auto.words(None), "computing on the CPU; there is no graphics adapter for it");
        assert!(Compute::parse("cuda").unwrap_err().to_string().contains("auto, cpu or gpu"));
    }
}
