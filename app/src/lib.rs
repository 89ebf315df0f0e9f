//! The shell of Tokenscope: window and command line over [`tokenscope_analysis`].

pub mod app;
pub mod cli;
pub mod paint;
pub mod theme;
