//! Any of the eleven shapes.

use super::{Classes, Cuts, Fates, Heat, Image, Links, Matrix, Plot, Table, Timeline, Tree};
use crate::{Error, Result};

/// One picture of a finding, in one of eleven shapes; a view draws shapes, whatever method they come from.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Picture {
    /// Values over a unit.
    Heat(Heat),
    /// A unit in named classes.
    Classes(Classes),
    /// Kept, merged, dropped, stage by stage.
    Fates(Fates),
    /// An input in pieces.
    Cuts(Cuts),
    /// Rows by columns.
    Matrix(Matrix),
    /// Weighted edges.
    Links(Links),
    /// Nodes below nodes.
    Tree(Tree),
    /// Steps by places.
    Timeline(Timeline),
    /// Series over an axis.
    Plot(Plot),
    /// Pixels and regions.
    Image(Image),
    /// Rows and columns of anything.
    Table(Table),
}

/// Does the same to the shape inside.
macro_rules! each {
    ($picture:expr, $shape:ident => $do:expr) => {
        match $picture {
            Picture::Heat($shape) => $do,
            Picture::Classes($shape) => $do,
            Picture::Fates($shape) => $do,
            Picture::Cuts($shape) => $do,
            Picture::Matrix($shape) => $do,
            Picture::Links($shape) => $do,
            Picture::Tree($shape) => $do,
            Picture::Timeline($shape) => $do,
            Picture::Plot($shape) => $do,
            Picture::Image($shape) => $do,
            Picture::Table($shape) => $do,
        }
    };
}

impl Picture {
    /// Name of the shape, as in files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Heat(_) => "heat",
            Self::Classes(_) => "classes",
            Self::Fates(_) => "fates",
            Self::Cuts(_) => "cuts",
            Self::Matrix(_) => "matrix",
            Self::Links(_) => "links",
            Self::Tree(_) => "tree",
            Self::Timeline(_) => "timeline",
            Self::Plot(_) => "plot",
            Self::Image(_) => "image",
            Self::Table(_) => "table",
        }
    }

    /// What is shown.
    pub fn title(&self) -> &str {
        each!(self, s => &s.title)
    }

    /// The numbers behind it.
    pub fn table(&self) -> Table {
        match self {
            Self::Table(t) => t.clone(),
            Self::Heat(s) => s.table(),
            Self::Classes(s) => s.table(),
            Self::Fates(s) => s.table(),
            Self::Cuts(s) => s.table(),
            Self::Matrix(s) => s.table(),
            Self::Links(s) => s.table(),
            Self::Tree(s) => s.table(),
            Self::Timeline(s) => s.table(),
            Self::Plot(s) => s.table(),
            Self::Image(s) => s.table(),
        }
    }

    /// What is in this one and not in the other: a signed difference where there are numbers, classes where there are
    /// none. The error says why these two cannot be compared so.
    pub fn minus(&self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Heat(a), Self::Heat(b)) => a.minus(b),
            (Self::Classes(a), Self::Classes(b)) => a.minus(b),
            (Self::Fates(a), Self::Fates(b)) => a.minus(b),
            (Self::Cuts(a), Self::Cuts(b)) => a.minus(b),
            (Self::Matrix(a), Self::Matrix(b)) => a.minus(b),
            (Self::Links(a), Self::Links(b)) => a.minus(b),
            (Self::Tree(a), Self::Tree(b)) => a.minus(b),
            (Self::Timeline(a), Self::Timeline(b)) => a.minus(b),
            (Self::Plot(a), Self::Plot(b)) => a.minus(b),
            (Self::Image(a), Self::Image(b)) => a.minus(b),
            (Self::Table(a), Self::Table(b)) => a.minus(b),
            (a, b) => Err(Error::invalid(format!("one is a picture of {} and the other of {}", a.name(), b.name()))),
        }
    }

    /// Errors where lengths, units, states or numbers are not what the shape promises.
    pub fn check(&self) -> Result<()> {
        let of = |e: Error| Error::invalid(format!("{} \"{}\": {e}", self.name(), self.title()));
        each!(self, s => s.check()).map_err(of)
    }
}

macro_rules! into_picture {
    ($($shape:ident),*) => {
        $(impl From<$shape> for Picture {
            fn from(shape: $shape) -> Self {
                Self::$shape(shape)
            }
        })*
    };
}
into_picture!(Heat, Classes, Fates, Cuts, Matrix, Links, Tree, Timeline, Plot, Image, Table);
