//! The graphics device: adapter, device, queue, and errors as values.

/// An open device to run passes on.
pub struct Gpu {
    /// Whether the adapter is a software one; then the CPU path is faster for computing.
    pub software: bool,
}
