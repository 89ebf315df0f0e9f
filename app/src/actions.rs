//! What the user can do beside the views: one list that menus, palette, keyboard and help read.

use crate::theme::ColorMap;
use egui::{Key, KeyboardShortcut, Modifiers};

/// Something to do, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts of `ALL` say what each does")]
pub enum Act {
    Palette,
    Find,
    OpenFolder,
    OpenFile,
    OpenImage,
    CloseImage,
    OpenSeries,
    CloseSeries,
    OpenSession,
    SaveSession,
    SaveSessionAs,
    Sample,
    Save,
    Report,
    SaveView(usize),
    CopyPicture(usize),
    CopyTable(usize),
    Alone(usize),
    Undo,
    Redo,
    Stop,
    Dark,
    Colors(ColorMap),
    ResetLayout,
    Sources,
    NextToken,
    PreviousToken,
    GrowRight,
    GrowLeft,
    NextHead,
    PreviousHead,
    NextLayer,
    PreviousLayer,
    Pin,
    SplitPane,
    BeforeAfter,
    NextPane,
    ClosePane,
    Apart,
    WholeMap,
    NextRound,
    PreviousRound,
    Help,
    Licences,
    Atlas,
}

/// How an [`Act`] is called and reached.
pub struct Action {
    /// What it does.
    pub act: Act,
    /// Menu it stands in, and after a colon the group of that menu.
    place: &'static str,
    /// Words in menu and palette.
    pub text: &'static str,
    /// One sentence more.
    pub tip: &'static str,
    /// Key that does it, if any.
    pub key: Option<KeyboardShortcut>,
}

const fn command(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::COMMAND, key))
}

const fn alt(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::ALT, key))
}

const fn alt_shift(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::ALT.plus(Modifiers::SHIFT), key))
}

const fn shift(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), key))
}

const fn action(
    act: Act,
    place: &'static str,
    text: &'static str,
    tip: &'static str,
    key: Option<KeyboardShortcut>,
) -> Action {
    Action { act, place, text, tip, key }
}

impl Action {
    /// Menu it stands in.
    pub fn menu(&self) -> &'static str {
        self.place.split_once(": ").map_or(self.place, |p| p.0)
    }

    /// Group of the menu that it stands in, if any: a menu of its own to one side.
    pub fn group(&self) -> Option<&'static str> {
        self.place.split_once(": ").map(|p| p.1)
    }

    /// Its words where its group is said already.
    pub fn short(&self) -> &'static str {
        match self.group() {
            Some(group) => self.text.strip_prefix(group).map_or(self.text, |t| t.trim_start_matches([':', ' '])),
            None => self.text,
        }
    }
}

/// Actions above which a menu has a line: what follows is of another sort.
pub const PARTED: [Act; 8] =
    [Act::OpenImage, Act::OpenSession, Act::Sample, Act::Save, Act::Stop, Act::GrowRight, Act::Alone(0), Act::Help];

/// The menus in their order.
pub const MENUS: [&str; 5] = ["File", "Edit", "Select", "View", "Help"];

/// Everything, in the order of the menus.
pub static ALL: &[Action] = &[
    action(Act::OpenFolder, "File", "Open model folder…", "A Hugging Face folder with safetensors", command(Key::O)),
    action(Act::OpenFile, "File", "Open model file or trace…", "A GGUF or safetensors file, or a recorded run", None),
    action(Act::OpenImage, "File", "Open picture…", "PNG, JPEG, WebP, BMP or GIF", command(Key::I)),
    action(Act::CloseImage, "File", "Remove picture", "Run without a picture", None),
    action(Act::OpenSeries, "File", "Open series…", "A WAV file, or a column of a CSV file, to cut into tokens", None),
    action(Act::CloseSeries, "File", "Remove series", "Cut the text again", None),
    action(Act::OpenSession, "File", "Open session…", "Everything that a window showed, from a file", shift(Key::O)),
    action(Act::SaveSession, "File", "Save session", "Panes, pins, layout and inputs, in one file", shift(Key::S)),
    action(Act::SaveSessionAs, "File", "Save session as…", "Under another name, with or without the runs", None),
    action(Act::Sample, "File", "Back to the sample", "The model that is part of the program", None),
    action(
        Act::Save,
        "File",
        "Save view…",
        "PNG, SVG or PDF of a view, or its numbers as CSV or JSON",
        command(Key::S),
    ),
    action(
        Act::Report,
        "File",
        "Save report…",
        "All views with their settings, commands, numbers and papers, as one HTML page or as a PDF",
        command(Key::R),
    ),
    action(Act::SaveView(0), "File: Save", "Save Segmentation…", "Its picture or its numbers", command(Key::Num1)),
    action(Act::SaveView(1), "File: Save", "Save Importance…", "Its picture or its numbers", command(Key::Num2)),
    action(Act::SaveView(2), "File: Save", "Save Flow…", "Its picture or its numbers", command(Key::Num3)),
    action(Act::SaveView(3), "File: Save", "Save Drafts…", "Its picture or its numbers", command(Key::Num4)),
    action(Act::SaveView(4), "File: Save", "Save Findings…", "Its picture or its numbers", command(Key::Num5)),
    action(Act::SaveView(5), "File: Save", "Save Compare…", "Its picture or its numbers", command(Key::Num6)),
    action(Act::Undo, "Edit", "Undo", "Takes back the last change", command(Key::Z)),
    action(Act::Redo, "Edit", "Redo", "Makes the change again", shift(Key::Z)),
    action(Act::Stop, "Edit", "Stop work", "Cancels everything under way; Esc does it, too", None),
    action(Act::Palette, "Edit", "Command palette…", "Find anything by name", command(Key::K)),
    action(Act::Find, "Edit", "Find in the run…", "Tokens, layers, heads and methods", command(Key::F)),
    action(Act::CopyPicture(0), "Edit: Copy", "Copy Segmentation as picture", "As a picture to paste", None),
    action(Act::CopyPicture(1), "Edit: Copy", "Copy Importance as picture", "As a picture to paste", None),
    action(Act::CopyPicture(2), "Edit: Copy", "Copy Flow as picture", "As a picture to paste", None),
    action(Act::CopyPicture(3), "Edit: Copy", "Copy Drafts as picture", "As a picture to paste", None),
    action(Act::CopyPicture(4), "Edit: Copy", "Copy Findings as picture", "As a picture to paste", None),
    action(Act::CopyPicture(5), "Edit: Copy", "Copy Compare as picture", "As a picture to paste", None),
    action(
        Act::CopyTable(0),
        "Edit: Copy",
        "Copy Segmentation as table",
        "Its numbers as a table to paste, parted by tabs",
        None,
    ),
    action(
        Act::CopyTable(1),
        "Edit: Copy",
        "Copy Importance as table",
        "Its numbers as a table to paste, parted by tabs",
        None,
    ),
    action(
        Act::CopyTable(2),
        "Edit: Copy",
        "Copy Flow as table",
        "Its numbers as a table to paste, parted by tabs",
        None,
    ),
    action(
        Act::CopyTable(3),
        "Edit: Copy",
        "Copy Drafts as table",
        "Its numbers as a table to paste, parted by tabs",
        None,
    ),
    action(
        Act::CopyTable(4),
        "Edit: Copy",
        "Copy Findings as table",
        "Its numbers as a table to paste, parted by tabs",
        None,
    ),
    action(
        Act::CopyTable(5),
        "Edit: Copy",
        "Copy Compare as table",
        "Its numbers as a table to paste, parted by tabs",
        None,
    ),
    action(Act::Dark, "View", "Dark or light", "Switches the colours", command(Key::D)),
    action(Act::Colors(ColorMap::Cividis), "View: Colours", "Colours: cividis", "Blue to yellow, for every eye", None),
    action(Act::Colors(ColorMap::Viridis), "View: Colours", "Colours: viridis", "Violet over green to yellow", None),
    action(Act::Colors(ColorMap::Magma), "View: Colours", "Colours: magma", "Black over red to pale yellow", None),
    action(
        Act::Colors(ColorMap::Grey),
        "View: Colours",
        "Colours: grey",
        "From page to ink, for print without colour",
        None,
    ),
    action(Act::Sources, "View", "Sources", "Shows or hides the panel of model and prompt", command(Key::B)),
    action(Act::ResetLayout, "View", "Reset layout", "Four views side by side", None),
    action(
        Act::Alone(0),
        "View: One view",
        "Only Segmentation",
        "Gives it the window, or shows all views again",
        alt(Key::Num1),
    ),
    action(
        Act::Alone(1),
        "View: One view",
        "Only Importance",
        "Gives it the window, or shows all views again",
        alt(Key::Num2),
    ),
    action(
        Act::Alone(2),
        "View: One view",
        "Only Flow",
        "Gives it the window, or shows all views again",
        alt(Key::Num3),
    ),
    action(
        Act::Alone(3),
        "View: One view",
        "Only Drafts",
        "Gives it the window, or shows all views again",
        alt(Key::Num4),
    ),
    action(
        Act::Alone(4),
        "View: One view",
        "Only Findings",
        "Gives it the window, or shows all views again",
        alt(Key::Num5),
    ),
    action(
        Act::Alone(5),
        "View: One view",
        "Only Compare",
        "Gives it the window, or shows all views again",
        alt(Key::Num6),
    ),
    action(Act::NextToken, "Select", "Next token", "Selects the token after", alt(Key::Period)),
    action(Act::PreviousToken, "Select", "Previous token", "Selects the token before", alt(Key::Comma)),
    action(Act::GrowRight, "Select", "Extend forwards", "One token more to the selection", alt_shift(Key::Period)),
    action(Act::GrowLeft, "Select", "Extend backwards", "One token more at the other side", alt_shift(Key::Comma)),
    action(Act::Pin, "View: Panes", "Pin this", "Keeps what the pane shows under a name, to come back", shift(Key::P)),
    action(
        Act::SplitPane,
        "View: Panes",
        "Another pane",
        "A second run beside this one, to go to and fro",
        command(Key::T),
    ),
    action(
        Act::BeforeAfter,
        "View: Panes",
        "With and without the reduction",
        "The same run beside itself, of the full model and after the chosen reduction",
        shift(Key::T),
    ),
    action(Act::NextPane, "View: Panes", "Next pane", "Goes to the next run", alt(Key::P)),
    action(Act::ClosePane, "View: Panes", "Close pane", "Closes this run", command(Key::W)),
    action(
        Act::Apart,
        "View: Panes",
        "Each pane for itself",
        "Scrolling, zoom, scales and open parts of one pane are not those of the others",
        None,
    ),
    action(Act::NextHead, "View: Attention map", "Next head", "Attention map of the next head", alt(Key::ArrowRight)),
    action(
        Act::PreviousHead,
        "View: Attention map",
        "Previous head",
        "Attention map of the head before",
        alt(Key::ArrowLeft),
    ),
    action(Act::NextLayer, "View: Attention map", "Next layer", "Attention map one layer up", alt(Key::ArrowUp)),
    action(
        Act::PreviousLayer,
        "View: Attention map",
        "Previous layer",
        "Attention map one layer down",
        alt(Key::ArrowDown),
    ),
    action(Act::WholeMap, "View: Attention map", "Whole attention map", "Zooms out", alt(Key::Num0)),
    action(Act::NextRound, "View: Rounds", "Next round", "One round of the decode on", alt(Key::PageDown)),
    action(Act::PreviousRound, "View: Rounds", "Previous round", "One round of the decode back", alt(Key::PageUp)),
    action(
        Act::Atlas,
        "Help",
        "Atlas of papers…",
        "Every published method, and what the program does of it",
        command(Key::L),
    ),
    action(
        Act::Help,
        "Help",
        "Keys and views…",
        "Every shortcut, and a page for each view",
        Some(KeyboardShortcut::new(Modifiers::NONE, Key::F1)),
    ),
    action(Act::Licences, "Help", "Licences…", "Whose work is in the program, and on what terms", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_can_be_saved_by_its_name() {
        for (i, view) in crate::views::ALL.iter().enumerate() {
            let own = ALL.iter().find(|a| a.act == Act::SaveView(i)).expect(view.title);
            assert!(own.text.contains(view.title) && own.key.is_some(), "{}", own.text);
        }
        for (i, view) in crate::views::ALL.iter().enumerate() {
            let own = ALL.iter().find(|a| a.act == Act::Alone(i)).expect(view.title);
            assert!(own.text.contains(view.title) && own.key.is_some(), "{}", own.text);
        }
        let saves = ALL.iter().filter(|a| matches!(a.act, Act::SaveView(_))).count();
        assert_eq!(saves, crate::views::ALL.len());
        for (i, view) in crate::views::ALL.iter().enumerate() {
            for act in [Act::CopyPicture(i), Act::CopyTable(i)] {
                assert!(ALL.iter().any(|a| a.act == act && a.text.contains(view.title)), "{}", view.title);
            }
        }
    }

    #[test]
    fn every_colour_map_can_be_chosen_by_its_name() {
        for map in ColorMap::ALL {
            let own = ALL.iter().find(|a| a.act == Act::Colors(map));
            assert!(own.is_some_and(|a| a.text.ends_with(map.name())), "{}", map.name());
        }
    }

    #[test]
    fn no_key_does_two_things_and_every_action_has_a_menu() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(MENUS.contains(&a.menu()) && !a.short().is_empty(), "{}", a.text);
            for b in &ALL[i + 1..] {
                assert!(a.key.is_none() || a.key != b.key, "{} and {}", a.text, b.text);
                assert_ne!(a.act, b.act);
            }
        }
    }
}
