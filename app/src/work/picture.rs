//! Decodes or draws pictures.

use crate::jobs::{Ask, Store};
use crate::picture_source::PictureSource;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::{Ctx, Result};

/// Decode or draw a picture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PictureOf(pub PictureSource);

impl Ask for PictureOf {
    type Out = Picture;

    fn carry_out(&self, _: &Store, ctx: &Ctx) -> Result<Picture> {
        self.0.open(ctx)
    }

    fn bytes(p: &Picture) -> u64 {
        p.rgb.len() as u64
    }
}
