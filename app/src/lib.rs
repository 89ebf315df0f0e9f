//! The shell of Tokenscope over [`tokenscope_analysis`]: the command line.

pub mod cli;
