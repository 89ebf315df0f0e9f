//! The shell of Tokenscope over [`tokenscope_analysis`]: window and command line.

pub mod actions;
pub mod app;
pub mod cli;
pub mod examples;
pub mod export;
pub mod fonts;
pub mod heatmap;
pub mod history;
pub mod inspector;
pub mod jobs;
pub mod memory;
pub mod notices;
pub mod palette;
pub mod panels;
pub mod picture_source;
pub mod recents;
pub mod request;
pub mod saving;
pub mod selection;
pub mod settings;
pub mod state;
pub mod theme;
pub mod trial;
pub mod truth;
pub mod views;
pub mod work;
