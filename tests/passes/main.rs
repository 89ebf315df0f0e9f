//! Shaders and their plain twins. Tests that need a graphics adapter say when they are skipped, and fail under
//! `TOKENSCOPE_REQUIRE_GPU=1`.

mod device;
mod shaders;
mod twins;
