//! Structs that Rust and WGSL share. They know their fields' names, types and offsets, so that a test can compare
//! them with what naga reads from the shader.

/// A four-byte value of a shader's buffers and parameters.
pub trait Word: bytemuck::Pod {
    /// Its name in WGSL.
    const WGSL: &'static str;
}

impl Word for u32 {
    const WGSL: &'static str = "u32";
}

impl Word for i32 {
    const WGSL: &'static str = "i32";
}

impl Word for f32 {
    const WGSL: &'static str = "f32";
}

/// One field of a [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name on both sides.
    pub name: &'static str,
    /// Type in WGSL.
    pub wgsl: &'static str,
    /// Distance from the start of the struct in bytes.
    pub offset: usize,
}

/// How a [`Record`] lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Name of the struct on both sides.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Fields in order.
    pub fields: &'static [Field],
}

/// A struct that a shader reads as its uniform parameters.
pub trait Record {
    /// How it lies in memory.
    const LAYOUT: Layout;
    /// Its bytes as the shader reads them.
    fn bytes(&self) -> Vec<u8>;
}

/// Declares a `repr(C)` struct of four-byte words that implements [`Record`].
#[macro_export]
macro_rules! gpu_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy)]
        $vis struct $name { $($(#[$fmeta])* pub $field: $ty),+ }

        impl $crate::gpu::Record for $name {
            const LAYOUT: $crate::gpu::Layout = $crate::gpu::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: &[$($crate::gpu::Field {
                    name: stringify!($field),
                    wgsl: <$ty as $crate::gpu::Word>::WGSL,
                    offset: std::mem::offset_of!($name, $field),
                }),+],
            };

            fn bytes(&self) -> Vec<u8> {
                let mut out = vec![0; size_of::<$name>()];
                $({
                    let at = std::mem::offset_of!($name, $field);
                    out[at..at + 4].copy_from_slice(&self.$field.to_le_bytes());
                })+
                out
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    gpu_struct! {
        struct Pair { count: u32, weight: f32 }
    }

    #[test]
    fn a_struct_knows_its_fields_and_writes_them_in_order() {
        assert_eq!(Pair::LAYOUT.size, 8);
        assert_eq!(Pair::LAYOUT.fields[1], Field { name: "weight", wgsl: "f32", offset: 4 });
        assert_eq!(Pair { count: 3, weight: 1.0 }.bytes(), [3, 0, 0, 0, 0, 0, 0x80, 0x3f]);
    }
}
