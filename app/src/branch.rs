//! Going on from another token: the prompt becomes the text up to it. One way for every list that names tokens, be it
//! of the logit lens, of the next words, or of a draft.

use crate::cx::Cx;
use crate::jobs::Jobs;
use crate::keys::RunKey;
use crate::state::Command;
use crate::text::Text;
use crate::work::{ModelOf, TraceOf};
use egui::Ui;
use tokenscope_analysis::token::{Token, TokenKind};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::{Error, Result};

/// Where one could go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The prompt that does.
    pub text: Text,
    /// Why that prompt is not cut into the same tokens, if it is not.
    pub otherwise: Option<String>,
}

impl Way {
    /// The text `before`, which a run read as `read`, and `ids` behind it, decoded as one text.
    ///
    /// Errors: ids that the tokenizer cannot decode or a text that it cannot cut.
    pub fn behind(tokenizer: &Tokenizer, before: &str, read: &[u32], ids: &[u32]) -> Result<Self> {
        let text = format!("{before}{}", tokenizer.decode_after(read, ids)?);
        let want = [&tokenizer.encode(before, None, true)?.ids, ids].concat();
        Self::new(tokenizer, text, &want)
    }

    /// The text of a run of `tokens` up to token `at`, which is kept, and `ids` behind it. A character of which token
    /// `at` is only a part is decoded together with what follows.
    ///
    /// Errors: no such token, one of a picture, those of [`Way::behind`].
    pub fn after(tokenizer: &Tokenizer, text: &str, tokens: &[Token], at: usize, ids: &[u32]) -> Result<Self> {
        let n = tokens.len();
        let token = tokens.get(at).ok_or_else(|| Error::invalid(format!("there is no token {at}; the run has {n}")))?;
        if token.kind == TokenKind::Image {
            return Err(Error::invalid(format!("token {at} is a part of the picture, behind which no text ends")));
        }
        let end = |k: usize| tokens[..k].iter().filter_map(Token::bytes).map(|b| b.end).max().unwrap_or(0);
        let whole = |k: &usize| {
            let next = tokens[*k..].iter().find_map(Token::bytes).map(|b| b.start);
            text.is_char_boundary(end(*k)) && next.is_none_or(|start| start >= end(*k))
        };
        let cut = (0..=at + 1).rev().find(whole).unwrap_or(0);
        let id = |t: &Token| t.id;
        let before: Vec<u32> = tokens[..cut].iter().filter_map(id).collect();
        let rest: Vec<u32> = tokens[cut..=at].iter().filter_map(id).chain(ids.iter().copied()).collect();
        let kept = text.get(..end(cut)).ok_or_else(|| Error::invalid("the tokens are not those of this text"))?;
        // What stands for a picture is written into the ids, and not into the text.
        if tokens.iter().any(|t| t.kind == TokenKind::Image) {
            return Self::behind(tokenizer, kept, &before, &rest);
        }
        Self::new(tokenizer, format!("{kept}{}", tokenizer.decode_after(&before, &rest)?), &[before, rest].concat())
    }

    /// The prompt `text`, of which one expects that it is cut into `want`, and into what a tokenizer adds at the end.
    fn new(tokenizer: &Tokenizer, text: String, want: &[u32]) -> Result<Self> {
        let got = tokenizer.encode(&text, None, true)?;
        let same = want.iter().zip(&got.ids).take_while(|(a, b)| a == b).count();
        let added = |i: usize| got.special_mask.get(i) == Some(&true);
        let alike = same == want.len() && (same..got.ids.len()).all(added);
        let otherwise = (!alike).then(|| {
            let (a, b) = (want.len() - same, got.ids.len() - same);
            format!("As a prompt this text is cut otherwise: from token {same} on {a} tokens become {b}.")
        });
        Ok(Self { text: text.into(), otherwise })
    }

    /// Goes on there, in this pane or in one beside it.
    pub fn go(self, cx: &Cx, ui: &Ui, beside: bool) {
        let Self { text, otherwise } = self;
        let slot = slot();
        ui.data_mut(|d| match otherwise {
            Some(words) => drop(d.insert_temp(slot, (text.clone(), words))),
            None => d.remove::<(Text, String)>(slot),
        });
        cx.send(command(text, beside));
    }
}

/// Reads this prompt, in this pane or in one beside it.
pub fn command(text: Text, beside: bool) -> Command {
    match beside {
        false => Command::Prompt(text),
        true => Command::whole("pane beside", move |doc| {
            doc.split();
            doc.apply(Command::Prompt(text.clone()));
        }),
    }
}

fn slot() -> egui::Id {
    egui::Id::unique("gone on from another token")
}

/// Says where the prompt came from another token and is cut otherwise than that was.
pub fn note_ui(cx: &Cx, ui: &mut Ui) {
    if let Some((text, words)) = ui.data(|d| d.get_temp::<(Text, String)>(slot()))
        && text == cx.pane.run.prompt
    {
        ui.colored_label(cx.theme.bad, words);
    }
}

/// The way behind token `at` of a run that is there, with another token there.
///
/// Errors: a run without the model or without its tokenizer; those of [`Way::after`].
pub fn way_after(jobs: &Jobs, run: &RunKey, at: usize, id: u32) -> Result<Way> {
    let none = || Error::invalid("a recorded run has no model that could go on; open the model itself");
    let open = jobs.ready(&ModelOf::of(run)).ok_or_else(none)?;
    let trace = jobs.ready(&TraceOf(run.clone())).ok_or_else(|| Error::invalid("the run is not there yet"))?;
    Way::after(open.text()?, &trace.text, &trace.tower(Tower::Text)?.tokens, at, &[id])
}

/// The entries of a menu that go on there; why none does.
pub fn menu_ui(cx: &Cx, ui: &mut Ui, way: Result<Way>) {
    ui.set_max_width(300.0);
    let way = match way {
        Ok(way) => way,
        Err(why) => return drop(ui.weak(format!("No text can go on from here: {why}."))),
    };
    if let Some(words) = &way.otherwise {
        ui.small(words);
    }
    let here = ui.button("Go on from here").on_hover_text("The prompt becomes the text up to here; Undo takes it back");
    let beside = ui.button("Go on from here in a pane beside").on_hover_text("This run stays as it is");
    if here.clicked() || beside.clicked() {
        way.go(cx, ui, beside.clicked());
        ui.close();
    }
}

/// [`menu_ui`] of a way that takes long to find in a long text: found when `key` is another one than in the last frame.
pub fn kept_menu_ui(cx: &Cx, ui: &mut Ui, key: impl egui::AsIdSalt, way: impl FnOnce() -> Result<Way>) {
    let (slot, key) = (egui::Id::unique("way of the open menu"), egui::Id::unique("way").with(key).with(cx.at));
    let known = ui.data(|d| d.get_temp::<(egui::Id, Text, Result<Way>)>(slot));
    let known = known.filter(|(k, prompt, _)| *k == key && *prompt == cx.pane.run.prompt);
    let way = known.map_or_else(way, |(_, _, way)| way);
    ui.data_mut(|d| d.insert_temp(slot, (key, cx.pane.run.prompt.clone(), way.clone())));
    menu_ui(cx, ui, way);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ModelSource;
    use tokenscope_analysis::Ctx;
    use tokenscope_analysis::trace::Trace;

    /// The run of a prompt on the embedded model, and its tokenizer.
    fn on<T>(prompt: &str, with: impl FnOnce(&Trace, &Tokenizer) -> T) -> T {
        let jobs = Jobs::new(|| ());
        let model = ModelSource::Sample("sample-lm");
        let run = RunKey { model: model.clone(), prompt: prompt.into(), image: None, placement: Default::default() };
        let (trace, open) = (
            jobs.get(&TraceOf(run), &Ctx::default()).unwrap(),
            jobs.get(&ModelOf(model, Default::default()), &Ctx::default()).unwrap(),
        );
        with(&trace, open.text().unwrap())
    }

    #[test]
    fn behind_every_token_the_text_up_to_it_stays_and_the_token_that_came_next_gives_it_back() {
        on("the owl and the 🚂 fox, naïve", |trace, tokenizer| {
            let tokens = &trace.tower(Tower::Text).unwrap().tokens;
            let n = tokens.len();
            for at in 0..n - 1 {
                let way = Way::after(tokenizer, &trace.text, tokens, at, &[tokens[at + 1].id.unwrap()]).unwrap();
                let next = tokens[at + 1].bytes().unwrap();
                // A part of a character stands for nothing yet; a whole one for itself.
                let part = tokens.get(at + 2).and_then(Token::bytes).is_some_and(|b| b.start < next.end);
                match part || !trace.text.is_char_boundary(next.end) {
                    true => assert!(trace.text.starts_with(way.text.trim_end_matches('\u{fffd}')), "{at}"),
                    false => assert_eq!((&*way.text, way.otherwise), (&trace.text[..next.end], None), "{at}"),
                }
            }
            let end = Way::after(tokenizer, &trace.text, tokens, n - 1, &[tokens[1].id.unwrap()]).unwrap();
            assert!(end.text.starts_with(&trace.text) && end.text.len() > trace.text.len());
            assert!(
                Way::after(tokenizer, &trace.text, tokens, n, &[1]).is_err_and(|e| e.to_string().contains("no token"))
            );
        });
    }

    #[test]
    fn a_text_that_is_cut_otherwise_says_so_and_no_text_ends_in_a_picture() {
        on("the owl", |trace, tokenizer| {
            let tokens = &trace.tower(Tower::Text).unwrap().tokens;
            // Letter by letter a word is not cut as the tokenizer cuts it.
            let letters: Vec<u32> =
                ["o", "w", "l"].iter().flat_map(|l| tokenizer.encode(l, None, false).unwrap().ids).collect();
            let at = tokens.iter().position(|t| t.bytes().is_some_and(|b| b.end == 3)).unwrap();
            let space = tokenizer.encode(" ", None, false).unwrap().ids;
            let way = Way::after(tokenizer, &trace.text, tokens, at, &[space, letters].concat()).unwrap();
            assert_eq!(&*way.text, "the owl");
            assert!(way.otherwise.is_some_and(|w| w.contains("cut otherwise")));
            let mut pictured = tokens.clone();
            pictured[at].kind = TokenKind::Image;
            let why = Way::after(tokenizer, &trace.text, &pictured, at, &[1]).unwrap_err();
            assert!(why.to_string().contains("picture"));
        });
    }
}
