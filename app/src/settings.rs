//! What the window remembers between starts: layout, zoom, colours, size, where weights are and in which numbers, what
//! computes models, and which hints were read.

use crate::recents::{folder, read_small};
use crate::theme::ColorMap;
use crate::views;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;
use tokenscope_analysis::save::save_bytes;
use tokenscope_analysis::weights::{Chip, Hold, Numbers, Placement};

const FILE: &str = "settings.json";
const BROKEN: &str = "settings.broken.json";
/// Zoom factors that a window can be used with.
const ZOOM: std::ops::RangeInclusive<f32> = 0.5..=4.0;
/// Sides of a window in points at zoom 1.
const SIDE: std::ops::RangeInclusive<f32> = 320.0..=16_384.0;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Dark colours.
    pub dark: bool,
    /// Name of the colours of magnitudes.
    pub colors: String,
    /// Zoom of the whole window, 1 is the system's.
    pub zoom: f32,
    /// Width and height of the window in points at zoom 1.
    pub size: Option<[f32; 2]>,
    /// Hints of the first start that were read.
    pub hints: usize,
    /// Whether the panel of sources is open.
    pub sources: bool,
    /// Where the views are; `None` is the default layout.
    pub layout: Option<Layout>,
    /// Where the weights of models are, by its name.
    pub weights: String,
    /// The numbers that their matrices are in, by name.
    pub dtype: String,
    /// What computes models, by name.
    pub device: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dark: false,
            colors: ColorMap::default().name().into(),
            zoom: 1.0,
            size: None,
            hints: 0,
            sources: true,
            layout: None,
            weights: Hold::default().name().into(),
            dtype: Numbers::default().name().into(),
            device: Chip::default().to_string(),
        }
    }
}

/// Where the views are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Names of the views that the numbers in `tree` stand for.
    views: Vec<String>,
    tree: egui_tiles::Tree<usize>,
}

impl Layout {
    /// The layout of a tree of views.
    pub fn of(tree: &egui_tiles::Tree<usize>) -> Self {
        Self { views: views::ALL.iter().map(|v| v.id.to_string()).collect(), tree: tree.clone() }
    }

    /// The tree, if it shows each view of its version exactly once and nothing else; views that came later stand behind
    /// the others in the fullest row of tabs.
    pub fn tree(self) -> Option<egui_tiles::Tree<usize>> {
        let known = |(i, v): (usize, &String)| views::ALL.get(i).is_some_and(|w| w.id == v);
        if self.views.len() > views::ALL.len() || !self.views.iter().enumerate().all(known) {
            return None;
        }
        let stored = self.views.len();
        let (mut seen, mut shown) = (HashSet::new(), HashSet::new());
        let mut stack = vec![self.tree.root?];
        while let Some(id) = stack.pop() {
            // A tile in two places would be a loop, or a view shown twice.
            if !seen.insert(id) {
                return None;
            }
            match self.tree.tiles.get(id)? {
                egui_tiles::Tile::Pane(view) => {
                    if !shown.insert(*view) {
                        return None;
                    }
                }
                egui_tiles::Tile::Container(c) => stack.extend(c.children()),
            }
        }
        let all = shown.len() == stored && shown.iter().all(|v| *v < stored);
        if !all || seen.len() != self.tree.tiles.iter().count() {
            return None;
        }
        let mut tree = self.tree;
        for view in stored..views::ALL.len() {
            let tab = tree.tiles.insert_pane(view);
            // Behind the others of the last row of tabs, where the default layout has it.
            let tabs = tree.tiles.iter().filter_map(|(id, t)| match t {
                egui_tiles::Tile::Container(egui_tiles::Container::Tabs(tabs)) => Some((tabs.children.len(), *id)),
                _ => None,
            });
            let place = tabs.max_by_key(|t| t.0).map(|t| t.1).or(tree.root)?;
            match tree.tiles.get_mut(place) {
                Some(egui_tiles::Tile::Container(c)) => c.add_child(tab),
                _ => return None,
            }
        }
        Some(tree)
    }
}

impl Settings {
    /// Where the weights of models are.
    pub fn weights(&self) -> Hold {
        Hold::parse(&self.weights).unwrap_or_default()
    }

    /// How numbers are computed in a run that nothing else is said of.
    pub fn placement(&self) -> Placement {
        // A build that cannot compute there goes on where it can.
        let chip = Chip::parse(&self.device).filter(|c| c.open().is_ok()).unwrap_or_default();
        Placement { chip, numbers: Numbers::parse(&self.dtype).unwrap_or_default() }
    }

    /// The stored settings, or the defaults and why: a file that cannot be read is put aside.
    pub fn load() -> (Self, Option<String>) {
        folder().map_or((Self::default(), None), |dir| Self::load_from(&dir))
    }

    /// As [`Settings::load`], from another folder.
    pub fn load_from(dir: &Path) -> (Self, Option<String>) {
        let file = dir.join(FILE);
        let text = match read_small(&file) {
            Ok(Some(text)) => text,
            Ok(None) => return (Self::default(), None),
            Err(e) => {
                return (
                    Self::default(),
                    Some(format!("{} cannot be read ({e}); this is the default window", file.display())),
                );
            }
        };
        // A list would do for a struct, too, and say nothing.
        let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
        match object.and_then(|map| serde_json::from_value::<Self>(map.into())) {
            Ok(mut s) => {
                s.zoom = if s.zoom.is_finite() { s.zoom.clamp(*ZOOM.start(), *ZOOM.end()) } else { 1.0 };
                s.size = s.size.filter(|size| size.iter().all(|v| SIDE.contains(v)));
                (s, None)
            }
            Err(e) => {
                // That it cannot be put aside must not keep the window from opening.
                let _ = std::fs::rename(&file, dir.join(BROKEN));
                let words = format!(
                    "the settings in {} are broken ({e}); this is the default window, the file is kept as {BROKEN}",
                    dir.display()
                );
                (Self::default(), Some(words))
            }
        }
    }

    /// Stores them. That they cannot be stored must not disturb the work, so failure is silent.
    pub fn store(&self) {
        if let Some(dir) = folder() {
            let _ = self.store_in(&dir);
        }
    }

    fn store_in(&self, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        Ok(save_bytes(&dir.join(FILE), &serde_json::to_vec_pretty(self)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tabs() -> egui_tiles::Tree<usize> {
        egui_tiles::Tree::new_tabs(egui::Id::unique("views"), (0..views::ALL.len()).collect())
    }

    #[test]
    fn what_is_stored_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load_from(dir.path()), (Settings::default(), None));
        let settings = Settings {
            dark: true,
            colors: "magma".into(),
            zoom: 2.0,
            size: Some([1000.0, 700.0]),
            hints: 2,
            sources: false,
            layout: Some(Layout::of(&tabs())),
            weights: "stored".into(),
            dtype: "bf16".into(),
            device: "cuda:200".into(),
        };
        settings.store_in(&dir.path().join("new")).unwrap();
        let (back, why) = Settings::load_from(&dir.path().join("new"));
        assert_eq!((&back, why), (&settings, None));
        assert_eq!((back.weights(), Settings::default().weights()), (Hold::File, Hold::Auto));
        assert_eq!(back.placement().chip, Chip::Cpu);
        assert_eq!((back.placement().numbers, Settings::default().placement()), (Numbers::Bf16, Placement::default()));
        assert_eq!(Settings { dtype: "f17".into(), ..back.clone() }.placement(), Placement::default());
        assert_eq!(Settings { weights: "bf17".into(), ..back.clone() }.weights(), Hold::Auto);
        assert!(back.layout.unwrap().tree() == Some(tabs()));
    }

    #[test]
    fn a_broken_file_gives_the_defaults_says_so_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{\"zoom\": tru", "{\"zoom\": \"large\"}", "[]", "{\"layout\": {\"views\": []}}"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let (settings, why) = Settings::load_from(dir.path());
            assert_eq!(settings, Settings::default(), "{text}");
            assert!(why.unwrap().contains(BROKEN), "{text}");
            assert_eq!(std::fs::read_to_string(dir.path().join(BROKEN)).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_small_file_gives_the_defaults_at_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        // Nobody writes into the pipe: whoever opens it waits for ever.
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let (settings, why) = Settings::load_from(dir.path());
        assert_eq!(settings, Settings::default());
        assert!(why.unwrap().contains("not a file"));
        std::fs::remove_file(&file).unwrap();
        // Three gigabytes that take no room on the disk.
        std::fs::File::create(&file).unwrap().set_len(3 << 30).unwrap();
        let (settings, why) = Settings::load_from(dir.path());
        assert_eq!(settings, Settings::default());
        assert!(why.unwrap().contains("3221225472 bytes"));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 3 << 30);
    }

    #[test]
    fn numbers_no_window_can_have_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), r#"{"zoom": 900, "size": [1, 1e9], "unknown": 3}"#).unwrap();
        let (s, why) = Settings::load_from(dir.path());
        assert_eq!((s.zoom, s.size, why), (4.0, None, None));
    }

    #[test]
    fn a_layout_without_each_view_exactly_once_is_refused() {
        let grid = |panes: Vec<usize>| Layout::of(&egui_tiles::Tree::new_grid(egui::Id::unique("views"), panes));
        assert!(grid(vec![3, 1, 0, 4, 2, 5]).tree().is_some());
        for bad in
            [vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4, 4], vec![0, 1, 2, 3, 4, 5, 5], vec![0, 1, 2, 3, 4, 9], vec![]]
        {
            assert!(grid(bad.clone()).tree().is_none(), "{bad:?}");
        }
        let mut other = grid(vec![0, 1, 2, 3, 4, 5]);
        other.views.swap(0, 1);
        assert!(other.tree().is_none());
        // A container that holds itself.
        let mut tree = tabs();
        let root = tree.root.unwrap();
        if let Some(egui_tiles::Tile::Container(c)) = tree.tiles.get_mut(root) {
            c.add_child(root);
        }
        assert!(Layout::of(&tree).tree().is_none());
    }

    #[test]
    fn a_layout_of_fewer_views_stays_and_the_new_ones_stand_behind_the_others() {
        let mut old = Layout::of(&egui_tiles::Tree::new_tabs(egui::Id::unique("views"), vec![0, 2, 1, 3, 4]));
        old.views.truncate(5);
        let tree = old.clone().tree().unwrap();
        let Some(egui_tiles::Tile::Container(c)) = tree.root.and_then(|r| tree.tiles.get(r)) else { panic!() };
        let views: Vec<usize> = c.children().map(|id| tree.tiles.get_pane(id).copied().unwrap()).collect();
        assert_eq!(views, [0, 2, 1, 3, 4, 5]);
        old.views.swap(0, 1);
        assert!(old.tree().is_none());
    }
}
