//! The graphics device: adapter, device, queue, and errors as values.

/// An open device to run passes on.
pub struct Gpu {
    /// Whether the adapter is a software one; then the CPU path is faster for computing.
    pub software: bool,
}

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

/// Every adapter of this machine; none is not an error.
pub fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::default();
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    found
        .into_iter()
        .map(|a| {
            let info = a.get_info();
            Adapter {
                name: info.name,
                backend: format!("{:?}", info.backend),
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
                software: info.device_type == wgpu::DeviceType::Cpu,
                max_storage_binding_bytes: a.limits().max_storage_buffer_binding_size as u64,
            }
        })
        .collect()
}
