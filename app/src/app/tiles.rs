//! Where the views lie: side by side, one at a time where there is little room, or one alone because somebody asked.

use crate::cx::Cx;
use crate::export;
use crate::pictures::widgets::named;
use crate::theme::Theme;
use crate::views;
use egui::{Sense, Stroke, StrokeKind, Ui, vec2};

/// Four views at once; those after the fourth stand behind it.
pub(super) fn layout() -> egui_tiles::Tree<usize> {
    let mut tiles = egui_tiles::Tiles::default();
    let panes: Vec<egui_tiles::TileId> = (0..views::ALL.len()).map(|v| tiles.insert_pane(v)).collect();
    let (first, rest) = panes.split_at(panes.len().min(3));
    let mut cells = first.to_vec();
    cells.push(tiles.insert_tab_tile(rest.to_vec()));
    let root = tiles.insert_grid_tile(cells);
    egui_tiles::Tree::new(egui::Id::unique("views"), root, tiles)
}

/// The views one at a time.
pub(super) fn tabs() -> egui_tiles::Tree<usize> {
    egui_tiles::Tree::new_tabs(egui::Id::unique("tabs"), (0..views::ALL.len()).collect())
}

/// What was done to the views beside what they send themselves.
#[derive(Default)]
pub(super) struct Asked {
    /// View and format to save.
    pub save: Option<(usize, usize)>,
    /// View to copy, and whether as a picture or as a table.
    pub copy: Option<(usize, bool)>,
    /// A view that should have the window to itself, or no longer.
    pub alone: Option<usize>,
    /// A pane to go to.
    pub pane: Option<usize>,
    /// Where the views lie that were drawn.
    pub places: Vec<(usize, egui::Rect)>,
}

/// Draws the views in their places.
pub(super) struct Tiles<'a> {
    pub cx: Cx<'a>,
    pub asked: &'a mut Asked,
    /// The view that has the window to itself.
    pub alone: Option<usize>,
}

impl Tiles<'_> {
    /// One view in all of the room that there is.
    pub(super) fn view_ui(&mut self, ui: &mut Ui, view: usize) {
        // Names of its own, since the tiles give all views the same.
        let id = egui::Id::unique("view").with((views::ALL[view].id, self.cx.at));
        let room = ui.max_rect();
        self.asked.places.push((view, room.intersect(ui.clip_rect())));
        ui.scope_builder(egui::UiBuilder::new().scope_id(id).max_rect(room), |ui| {
            // Below everything that is drawn: the right button beside what has a menu of its own opens the view's.
            let ground = ui.interact(room, id.with("ground"), Sense::CLICK - Sense::FOCUSABLE);
            ground.context_menu(|ui| self.menu_ui(ui, view));
            let frame = egui::Frame::new().fill(self.cx.theme.background).inner_margin(8.0);
            frame.show(ui, |ui| {
                ui.set_min_size(ui.available_size());
                self.cx.excused.set(false);
                self.cx.view.set(views::ALL[view].id);
                (views::ALL[view].ui)(&self.cx, ui);
            });
        });
    }

    /// What can be done with a view as a whole.
    fn menu_ui(&mut self, ui: &mut Ui, view: usize) {
        let words = if self.alone == Some(view) { "Show all views" } else { "Show alone" };
        if ui.add(egui::Button::new(words).shortcut_text(format!("Alt+{}", view + 1))).clicked() {
            self.asked.alone = Some(view);
            ui.close();
        }
        ui.separator();
        self.save_ui(ui, view);
    }

    /// A bar above a view alone, which leads back.
    pub(super) fn alone_ui(&mut self, ui: &mut Ui, view: usize) {
        egui::Panel::top("alone").show(ui, |ui| {
            ui.horizontal(|ui| {
                let title =
                    ui.add(egui::Label::new(egui::RichText::new(views::ALL[view].title).strong()).sense(Sense::CLICK));
                if title.on_hover_text("Double-click shows all views again").double_clicked() {
                    self.asked.alone = Some(view);
                }
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    self.buttons_ui(ui, view);
                    if ui.button("All views").on_hover_text("Esc").clicked() {
                        self.asked.alone = Some(view);
                    }
                });
            });
        });
    }

    /// Save, and the window to itself.
    fn buttons_ui(&mut self, ui: &mut Ui, view: usize) {
        let title = views::ALL[view].title;
        ui.spacing_mut().button_padding.y = 0.0;
        let menu = ui.menu_button("Save", |ui| self.save_ui(ui, view));
        named(&menu.response, &format!("save {title}"));
        let alone = self.alone == Some(view);
        let words = if alone { format!("show all views beside {title}") } else { format!("show {title} alone") };
        let keys = format!("{}; double-click on the title; Alt+{}", capital(&words), view + 1);
        if corners_ui(self.cx.theme, ui, &words).on_hover_text(keys).clicked() {
            self.asked.alone = Some(view);
        }
    }

    fn save_ui(&mut self, ui: &mut Ui, view: usize) {
        for (i, format) in export::FORMATS.iter().enumerate() {
            let what = if i < export::PICTURES { "picture" } else { "numbers" };
            if ui.button(format!("{} ({what})…", format.to_uppercase())).clicked() {
                self.asked.save = Some((view, i));
                ui.close();
            }
        }
        ui.separator();
        for (words, picture) in [("Copy picture", true), ("Copy table", false)] {
            if ui.button(words).clicked() {
                self.asked.copy = Some((view, picture));
                ui.close();
            }
        }
    }
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

/// A button with the four corners of a window on it.
fn corners_ui(theme: &Theme, ui: &mut Ui, words: &str) -> egui::Response {
    let (rect, response) = ui.allocate_exact_size(vec2(20.0, 18.0), Sense::click());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, words));
    let visuals = ui.style().interact(&response);
    if response.hovered() || response.has_focus() {
        ui.painter().rect(rect, 3.0, visuals.weak_bg_fill, visuals.bg_stroke, StrokeKind::Inside);
    }
    let stroke = Stroke::new(1.5, if response.hovered() { theme.text } else { theme.weak });
    let square = egui::Rect::from_center_size(rect.center(), vec2(11.0, 11.0));
    for (corner, [x, y]) in [
        (square.left_top(), [1.0, 1.0]),
        (square.right_top(), [-1.0, 1.0]),
        (square.left_bottom(), [1.0, -1.0]),
        (square.right_bottom(), [-1.0, -1.0]),
    ] {
        ui.painter().line_segment([corner, corner + vec2(4.0 * x, 0.0)], stroke);
        ui.painter().line_segment([corner, corner + vec2(0.0, 4.0 * y)], stroke);
    }
    response
}

impl egui_tiles::Behavior<usize> for Tiles<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _tile: egui_tiles::TileId, pane: &mut usize) -> egui_tiles::UiResponse {
        self.view_ui(ui, *pane);
        egui_tiles::UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &usize) -> egui::WidgetText {
        views::ALL[*pane].title.into()
    }

    fn on_tab_button(
        &mut self,
        tiles: &mut egui_tiles::Tiles<usize>,
        tile: egui_tiles::TileId,
        button: egui::Response,
    ) -> egui::Response {
        let Some(egui_tiles::Tile::Pane(view)) = tiles.get(tile) else { return button };
        if button.double_clicked() {
            self.asked.alone = Some(*view);
        }
        let view = *view;
        if button.secondary_clicked() || button.context_menu_opened() {
            button.context_menu(|ui| self.menu_ui(ui, view));
        }
        button
    }

    fn top_bar_right_ui(
        &mut self,
        tiles: &egui_tiles::Tiles<usize>,
        ui: &mut Ui,
        _: egui_tiles::TileId,
        tabs: &egui_tiles::Tabs,
        _: &mut f32,
    ) {
        let active = tabs.active.and_then(|id| tiles.get(id));
        if let Some(egui_tiles::Tile::Pane(view)) = active {
            self.buttons_ui(ui, *view);
        }
    }

    fn simplification_options(&self) -> egui_tiles::SimplificationOptions {
        // Every pane keeps its tab, so that every view has its title.
        egui_tiles::SimplificationOptions { all_panes_must_have_tabs: true, ..Default::default() }
    }
}
