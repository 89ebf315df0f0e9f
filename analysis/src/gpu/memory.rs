//! Buffers, readback, and the one place where work larger than the device's limits is cut.

use super::kernel::Work;
use super::layout::Word;
use crate::{Error, Result};
use std::ops::Range;
use std::time::Duration;

/// How long a result may stay away once the device is through with its work.
const LATEST: Duration = Duration::from_secs(10);

/// Memory of a device: four-byte words that a kernel reads and writes.
#[derive(Clone)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    /// Number of words that count; the buffer itself is never empty, because a binding must not be.
    pub(super) n_words: usize,
}

impl Buffer {
    /// The wgpu buffer, for painters that read it on the same device.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    /// Number of four-byte words in it.
    pub fn len(&self) -> usize {
        self.n_words
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.n_words == 0
    }
}

/// Cuts `n` rows of `row_words` four-byte words into runs that fit `limit_bytes`. At least one row each, so a single
/// row over the limit comes back alone and its buffer reports the error.
pub fn pieces(n: usize, row_words: usize, limit_bytes: u64) -> Vec<Range<usize>> {
    let rows = usize::try_from(limit_bytes / (4 * row_words.max(1) as u64)).unwrap_or(usize::MAX).max(1);
    (0..n).step_by(rows).map(|first| first..(first + rows).min(n)).collect()
}

/// Workgroups per axis of a dispatch.
const AXIS: usize = 65_535;

/// A grid of at least `n` workgroups within the limit per axis. Kernels count `x + y · (groups along x)` and leave
/// when that is past the end.
pub fn grid(n: usize) -> Result<[u32; 3]> {
    let y = n.div_ceil(AXIS).max(1);
    let x = n.div_ceil(y).max(1);
    if y > AXIS {
        return Err(Error::Gpu(format!("{n} workgroups are more than a dispatch can hold")));
    }
    Ok([x as u32, y as u32, 1])
}

impl Work<'_> {
    /// Bytes that one binding may show a kernel.
    pub fn binding_bytes(&self) -> u64 {
        let limits = self.open.device.limits();
        let own = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        self.gpu.max_binding_bytes.map_or(own, |most| own.min(most))
    }

    /// An empty (zeroed) buffer of `n_words` four-byte words.
    pub fn buffer(&mut self, label: &str, n_words: usize) -> Result<Buffer> {
        // A binding must hold at least one element, and the largest element here is a vec4.
        let bytes = 4 * n_words.max(4) as u64;
        let limit = self.binding_bytes();
        if bytes > limit {
            return Err(Error::Gpu(format!(
                "{label} needs {bytes} bytes in one piece and the device allows {limit}; choose a smaller part"
            )));
        }
        let raw = self.open.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Ok(Buffer { raw, n_words })
    }

    /// A buffer that holds `values`.
    pub fn upload<T: Word>(&mut self, label: &str, values: &[T]) -> Result<Buffer> {
        let buffer = self.buffer(label, values.len())?;
        if !values.is_empty() {
            self.open.queue.write_buffer(&buffer.raw, 0, bytemuck::cast_slice(values));
        }
        Ok(buffer)
    }

    /// Writes `values` to the front of `buffer`, before anything that is recorded later.
    pub fn write<T: Word>(&mut self, buffer: &Buffer, values: &[T]) -> Result<()> {
        if values.len() > buffer.n_words {
            return Err(Error::Gpu(format!("{} words do not fit a buffer of {}", values.len(), buffer.n_words)));
        }
        // A write lands before all work submitted after it, so what is recorded so far goes first.
        self.submit();
        if !values.is_empty() {
            self.open.queue.write_buffer(&buffer.raw, 0, bytemuck::cast_slice(values));
        }
        Ok(())
    }

    /// Whole numbers as the shader's u32. Errors if one is too large.
    pub fn upload_indices(&mut self, label: &str, values: &[usize]) -> Result<Buffer> {
        let short: Result<Vec<u32>> = values
            .iter()
            .map(|&v| u32::try_from(v).map_err(|_| Error::Gpu(format!("{label} holds {v}, more than 32 bits"))))
            .collect();
        self.upload(label, &short?)
    }

    /// Submits what was recorded, waits for it, and copies `buffer` to the host.
    pub fn read<T: Word>(&mut self, buffer: &Buffer) -> Result<Vec<T>> {
        if buffer.n_words == 0 {
            self.wait()?;
            return Ok(Vec::new());
        }
        let size = 4 * buffer.n_words as u64;
        let copy = self.open.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.encoder().copy_buffer_to_buffer(&buffer.raw, 0, &copy, 0, size);
        self.submit();
        let (send, receive) = std::sync::mpsc::channel();
        copy.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver waits below for exactly this.
            let _ = send.send(result);
        });
        self.wait()?;
        let unmapped = |_| Error::Gpu("the device gave no result back".into());
        // Whichever thread waits for the device first is the one that calls this back, perhaps a little later.
        match receive.recv_timeout(LATEST) {
            Ok(Ok(())) => {}
            _ => return Err(self.refused("the device gave no result back")),
        }
        let view = copy.get_mapped_range(..).map_err(unmapped)?;
        let mut out = vec![T::zeroed(); buffer.n_words];
        bytemuck::cast_slice_mut(&mut out).copy_from_slice(&view);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_at_the_limit_and_none_is_lost() {
        assert_eq!(pieces(5, 4, 32), [0..2, 2..4, 4..5]);
        assert_eq!(pieces(2, 100, 16), [0..1, 1..2]);
        assert!(pieces(0, 4, 32).is_empty());
    }

    #[test]
    fn a_grid_covers_its_groups_within_the_axis_limit() {
        for n in [0, 1, 65_535, 65_536, 1_000_000] {
            let [x, y, z] = grid(n).unwrap();
            assert!(x as usize * y as usize >= n && x <= 65_535 && y <= 65_535 && z == 1, "{n}: {x} {y}");
        }
        assert!(grid(usize::MAX / 2).is_err());
    }
}
