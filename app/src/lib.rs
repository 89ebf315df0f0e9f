//! The shell of Tokenscope over [`tokenscope_analysis`]: window and command line.
//!
//! # The way of a prompt, from the text box to the pixels
//!
//! 1. [`panels`] draws the text box ([`prompt`]). A pause in typing makes it a [`state::Command::Prompt`].
//! 2. [`app`] hands commands to [`state::Doc`], plain data that says what is chosen in each [`pane`], and remembers the
//!    document before for undo ([`history`]). Nothing else changes the document.
//! 3. In every frame each of the [`views`] asks for what it shows with a [`jobs::Ask`], a value that names a
//!    computation and everything its result depends on: `cx.need(ui, spot, &ask)`.
//! 4. [`jobs`] knows which products there are, starts what is missing on background threads, cancels what nobody asks
//!    for any more, and hands out the product before until the new one is there.
//! 5. [`work`] holds the computations, a file each: they open the model, run it with a tap
//!    ([`tokenscope_analysis::model`]), and call scores, reductions, flow and drafts on the trace
//!    ([`tokenscope_analysis::trace`]).
//! 6. The view draws what comes back, [`jobs::Ask::Out`], as [`pictures`] in one of eleven shapes
//!    ([`tokenscope_analysis::finding`]), for the screen and for SVG alike ([`export`]), maps by the painter of
//!    [`heatmap`], numbers as a [`tokenscope_analysis::finding::Table`].
//!
//! The command line ([`cli`]) builds the same document and asks for the same things, one after the other.
//!
//! # Modules, from the ground up
//!
//! None knows one that stands below it in this list; a contract test reads the list.
//!
//! - What is the same for every document: [`memory`], [`hash`], [`text`], [`fonts`], [`recents`], [`log`], [`verified`], [`selection`],
//!   [`samples`], [`picture_source`], [`series_source`], [`heatmap`], [`theme`], [`actions`], [`licences`].
//! - What there is to compute: [`keys`], [`digest`], [`questions`], [`truth`], [`trial`], [`board`].
//! - What is chosen: [`patch`], [`pane`], [`differs`], [`state`], [`history`], [`examples`], [`opening`].
//! - Who computes: [`jobs`], [`work`].
//! - How findings look: [`cx`], [`branch`], [`pictures`].
//! - What is seen: [`views`], [`lesson`], [`export`], [`report`], [`settings`], [`session`], [`notices`], [`prompt`], [`palette`], [`pins`],
//!   [`saving`], [`panels`], [`inspector`], [`atlas`].
//! - The two programs: [`app`], [`cli`].
//!
//! # Where to add something
//!
//! A score, reduction, flow graph, draft method, study or way to cut a text is one file in a folder of
//! [`tokenscope_analysis`], a `mod` line and a line in the folder's `ALL`; sliders, palette, command line, help and
//! tests follow from its [`tokenscope_analysis::method::Info`]. A kind of methods is an entry of the catalog, an ask in a
//! file of [`work`] that says with [`work::Serves`] what is asked on a pane and what scripts are told, a line of
//! [`work::tell`], and the [`views::View`] that names it. A view is a [`views::View`] in [`views::ALL`], an action
//! an entry of [`actions::ALL`], a colour a field of [`theme::Theme`].

/// The version of the program, and the commit that it was built from where that is known.
pub const VERSION: &str = env!("TOKENSCOPE_VERSION");

pub mod actions;
pub mod app;
pub mod atlas;
pub mod board;
pub mod branch;
pub mod cli;
pub mod cx;
pub mod differs;
pub mod digest;
pub mod examples;
pub mod export;
pub mod fonts;
pub mod hash;
pub mod heatmap;
pub mod history;
pub mod inspector;
pub mod jobs;
pub mod keys;
pub mod lesson;
pub mod licences;
pub mod log;
pub mod memory;
pub mod notices;
pub mod opening;
pub mod palette;
pub mod pane;
pub mod panels;
pub mod patch;
pub mod picture_source;
pub mod pictures;
pub mod pins;
pub mod prompt;
pub mod questions;
pub mod recents;
pub mod report;
pub mod samples;
pub mod saving;
pub mod selection;
pub mod series_source;
pub mod session;
pub mod settings;
pub mod state;
pub mod text;
pub mod theme;
pub mod trial;
pub mod truth;
pub mod verified;
pub mod views;
pub mod work;
