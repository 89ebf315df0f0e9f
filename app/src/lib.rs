//! The shell of Tokenscope over [`tokenscope_analysis`]: window and command line.

pub mod app;
pub mod cli;
pub mod jobs;
pub mod request;
pub mod state;
pub mod theme;
pub mod views;
pub mod work;
