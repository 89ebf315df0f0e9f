//! Passes over queries and keys: what attention was, computed when somebody looks.

pub mod attention_map;
