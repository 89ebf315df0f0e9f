//! What the program computes against what other people's code computed for the same input: models, tokenizers,
//! pictures, files. Methods have a binary of their own (`methods.rs`), where every case is a test.

mod bad_models;
mod estimates;
mod forward;
mod gguf;
mod gguf_experts;
mod gguf_families;
mod gguf_types;
mod images;
mod models;
mod numbers;
mod recorder;
mod settings;
mod several;
mod tokenizers;
mod vision_models;
