//! Schedules of reductions as a plot of steps that is edited by hand: points are dragged, added and taken away, and the
//! same schedule stands below as a text. It is a parameter of the reduction that carries it out, so undo, sessions and
//! commands know it.

use super::reduction;
use crate::cx::Cx;
use crate::keys::Call;
use crate::pictures::marks::{self, Mark};
use crate::pictures::widgets::named;
use crate::state::Command;
use crate::work::Reduced;
use egui::{Align2, FontId, PointerButton, Pos2, Rect, Response, Sense, Stroke, Ui, pos2, vec2};
use tokenscope_analysis::method::{Domain, Info, Kind, Params, Setting};
use tokenscope_analysis::reduce::schedule::{Amount, Entering, Entry, How, Room};
use tokenscope_analysis::reduce::{Schedule, schedule::Known};
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::{Result, Subject, catalog};

/// Size of the plot, in points.
const SIZE: egui::Vec2 = vec2(560.0, 150.0);
/// Room for numbers at the left, words above, numbers below.
const MARGIN: [f32; 3] = [40.0, 16.0, 20.0];
/// How near a point the pointer grabs it.
const NEAR: f32 = 12.0;
/// What can be done in the plot.
const TIP: &str = "drag a point · click beside one for another · right button for what happens there";

/// The reduction that carries out drawn schedules.
fn drawn() -> Option<&'static Info> {
    let holds = |i: &&Info| i.param(Schedule::KEY).is_some_and(|p| matches!(p.domain, Domain::Text { .. }));
    catalog::of(Kind::Reduce).find(holds)
}

/// That reduction with this schedule.
pub fn drawn_call(text: &str) -> Option<Call> {
    let info = drawn()?;
    let key = info.param(Schedule::KEY)?.key;
    Some(Call { method: info.id, params: Params::new().set(key, Setting::Text(text.into())) })
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui, tower: Tower) {
    let Some(info) = drawn() else { return };
    let call = cx.call(Kind::Reduce);
    if call.method != info.id {
        if !cx.figure {
            begin_ui(cx, ui, tower);
        }
        return;
    }
    let Some(trace) = cx.ready_trace() else { return };
    let Ok(room) = Room::of(&Subject::new(&trace).of(tower)) else { return };
    let Some(param) = info.param(Schedule::KEY) else { return };
    let text = call.params.text(param);
    let found = Schedule::parse(&text);
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = 3.0;
        if let Ok(schedule) = &found {
            plot_ui(cx, ui, schedule, &room);
        }
        if cx.figure {
            ui.small(format!("schedule {text}"));
        } else {
            text_ui(cx, ui, &text, &room);
        }
    });
}

/// A button that takes the chosen method's own schedule to begin with.
fn begin_ui(cx: &Cx, ui: &mut Ui, tower: Tower) {
    let before = || cx.previous::<Reduced>("reduction").filter(|_| !cx.outrun_at("reduction"));
    let Some(p) = cx.ready(&reduction::asked(cx)).or_else(before) else { return };
    let Some(trace) = cx.ready_trace() else { return };
    let on = Subject::new(&trace).of(tower);
    let image = trace.towers.get(&tower).is_some_and(|t| t.has_image());
    if !image || p.fates.len() != trace.towers.get(&tower).map_or(0, |t| t.tokens.len()) {
        return;
    }
    let tip = "Takes where this method lets tokens in, merges, drops and ends them as a schedule that can be drawn by hand; \
               which tokens go on is then chosen by the schedule's own order";
    if ui.small_button("Edit its schedule").on_hover_text(tip).clicked() {
        match Schedule::of(&p.plan, &on) {
            Ok(schedule) => take(cx, &schedule),
            Err(why) => drop(cx.failed.borrow_mut().get_or_insert_with(|| why.to_string())),
        }
    }
}

/// Chooses the drawn schedule with this text.
fn take(cx: &Cx, schedule: &Schedule) {
    if let Some(call) = drawn_call(&schedule.to_string()) {
        cx.set("schedule", move |p| drop(p.choose(call.clone())));
    }
}

/// Sets the schedule of the method that has one; what is dragged is one step of undo.
fn put(cx: &Cx, schedule: &Schedule) {
    if let Some(param) = drawn().and_then(|i| i.param(Schedule::KEY)) {
        cx.send(Command::Param(Kind::Reduce, param.key, Setting::Text(schedule.to_string().into())));
    }
}

/// The schedule that something could not be drawn in, and why.
type Refused = (Schedule, String);

/// The text of the schedule, taken with Enter; what is wrong with it is said while it is written.
fn text_ui(cx: &Cx, ui: &mut Ui, now: &str, room: &Room) {
    let slot = ui.scope_id().with("schedule text");
    // What is written is about the schedule that was there; once another is, it is forgotten.
    let begun = ui.data(|d| d.get_temp::<(String, String)>(slot)).filter(|(of, _)| of == now);
    let mut text: String = begun.map_or_else(|| now.to_string(), |b| b.1);
    let checked = |text: &str| Schedule::parse(text).and_then(|s| s.known(room).map(|_| s));
    ui.horizontal(|ui| {
        let label = ui.small("schedule");
        let edit = egui::TextEdit::singleline(&mut text).id(slot.with("box")).font(egui::TextStyle::Monospace);
        let edit = ui.add(edit.desired_width((ui.available_width() - 8.0).min(SIZE.x - 56.0))).labelled_by(label.id);
        let edit = edit.on_hover_text(
            "2:288 entering layer 2 · 2:50% · 2~288 merges the others · inject@8 lets in what waits · exit@20 · e3~100 in \
             the image encoder · f:144 between both · Enter takes it, Esc gives it up",
        );
        named(&edit, "text of the schedule");
        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
        let found = checked(&text);
        if edit.has_focus() || (found.is_err() && text != now) {
            // One that cannot be stays with the reason until it is mended or given up.
            ui.data_mut(|d| {
                d.insert_temp(slot, (now.to_string(), text.clone()));
            });
            if ui.input(|i| i.key_pressed(egui::Key::Escape)) {
                ui.data_mut(|d| d.remove::<(String, String)>(slot));
            }
        } else {
            ui.data_mut(|d| d.remove::<(String, String)>(slot));
            if let Some(schedule) = found.as_ref().ok().filter(|_| entered && text != now) {
                put(cx, schedule);
            }
        }
    });
    // Why something could not be drawn is about the schedule that was there, too.
    let wrong = ui.data(|d| d.get_temp::<Refused>(slot.with("refused")));
    let wrong = wrong.filter(|(of, _)| Schedule::parse(now).is_ok_and(|s| s == *of));
    match checked(&text) {
        Err(why) => drop(ui.colored_label(cx.theme.bad, why.to_string())),
        Ok(_) => match wrong {
            Some((_, why)) => drop(ui.colored_label(cx.theme.bad, why)),
            None => drop(ui.horizontal_wrapped(|ui| {
                for (mark, words) in [
                    (Mark::Disc, "others leave"),
                    (Mark::Diamond, "others merge"),
                    (Mark::Up, "what waits comes in"),
                    (Mark::Cross, "all leave"),
                ] {
                    marks::entry(cx.theme, ui, words, "", 14.0, &|painter, rect| {
                        marks::paint(painter, rect.center(), 4.0, mark, cx.theme.accent);
                    });
                }
                ui.small(TIP);
            })),
        },
    }
}

/// The plot and what can be done in it.
fn plot_ui(cx: &Cx, ui: &mut Ui, schedule: &Schedule, room: &Room) {
    let size = vec2(ui.available_width().min(SIZE.x), SIZE.y);
    let sense = if cx.figure { Sense::hover() } else { Sense::click_and_drag() };
    let (rect, response) = ui.allocate_exact_size(size, sense);
    let places = Entering::all(room);
    let frame = Frame::new(rect, &places);
    let Ok(profile) = schedule.profile(room) else {
        ui.painter().rect_stroke(frame.inside, 0.0, Stroke::new(1.0, cx.theme.line), egui::StrokeKind::Inside);
        return;
    };
    let known = schedule.known(room).unwrap_or_default();
    paint(cx, ui, &frame, &profile, &known, room);
    let spoken = format!("schedule {schedule}");
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &spoken));
    if !cx.figure {
        edit_ui(cx, ui, &response, &frame, schedule, room, &known);
    }
}

/// Where places and shares lie.
struct Frame<'a> {
    inside: Rect,
    places: &'a [Entering],
}

impl<'a> Frame<'a> {
    fn new(rect: Rect, places: &'a [Entering]) -> Self {
        let [left, top, bottom] = MARGIN;
        let min = rect.min + vec2(left, top);
        Self { inside: Rect::from_min_max(min, rect.max - vec2(8.0, bottom)), places }
    }

    fn cell(&self) -> f32 {
        self.inside.width() / self.places.len().max(1) as f32
    }

    /// The left edge of a place.
    fn x(&self, i: usize) -> f32 {
        self.inside.left() + i as f32 * self.cell()
    }

    fn y(&self, share: f32) -> f32 {
        self.inside.bottom() - share.clamp(0.0, 1.0) * self.inside.height()
    }

    fn index(&self, at: Entering) -> Option<usize> {
        self.places.iter().position(|p| *p == at)
    }

    /// Where the point of an entry is.
    fn point(&self, k: &Known, room: &Room) -> Option<Pos2> {
        let share = k.left as f32 / all_of(k.entry.at, room).max(1) as f32;
        Some(pos2(self.x(self.index(k.entry.at)?), self.y(share)))
    }

    /// The place that is nearest, and the share.
    fn under(&self, at: Pos2) -> Option<(Entering, f64)> {
        let i = ((at.x - self.inside.left()) / self.cell()).round().max(0.0) as usize;
        let share = f64::from((self.inside.bottom() - at.y) / self.inside.height().max(1.0)).clamp(0.0, 1.0);
        Some((*self.places.get(i.min(self.places.len().checked_sub(1)?))?, share))
    }
}

/// Tokens of a picture that the stack of a place has.
fn all_of(at: Entering, room: &Room) -> usize {
    match at {
        Entering::Encoder(_) => room.encoder.map_or(0, |e| e.1),
        _ => room.layers.1,
    }
}

fn paint(cx: &Cx, ui: &Ui, frame: &Frame, profile: &[(Entering, usize, usize)], known: &[Known], room: &Room) {
    let painter = ui.painter();
    let (line, font) = (Stroke::new(1.0, cx.theme.line), FontId::proportional(if cx.theme.print { 9.0 } else { 10.0 }));
    let inside = frame.inside;
    for share in [0.0f32, 0.5, 1.0] {
        painter.hline(inside.x_range(), frame.y(share), line);
        let n = (share * room.layers.1 as f32).round();
        let words = if share == 0.0 { "0".to_string() } else { format!("{n}") };
        painter.text(
            pos2(inside.left() - 4.0, frame.y(share)),
            Align2::RIGHT_CENTER,
            words,
            font.clone(),
            cx.theme.weak,
        );
    }
    // A number for each place, or for as many as there is room for.
    let every = (30.0 / frame.cell()).ceil().max(1.0) as usize;
    let mut stack = None;
    for (i, at) in frame.places.iter().enumerate() {
        let (own, layer) = match at {
            Entering::Encoder(l) => ("image encoder", *l),
            Entering::Features => ("", 0),
            Entering::Layer(l) => (if room.writes { "language model" } else { "image encoder" }, *l),
        };
        if stack != Some(own) {
            stack = Some(own);
            if i > 0 {
                painter.vline(frame.x(i), inside.y_range(), line);
            }
            painter.text(
                pos2(frame.x(i) + 2.0, inside.top() - 3.0),
                Align2::LEFT_BOTTOM,
                own,
                font.clone(),
                cx.theme.weak,
            );
        }
        if layer % every == 0 {
            let words =
                if layer == room.layers.0 && matches!(at, Entering::Layer(_)) { "end".into() } else { at.to_string() };
            painter.text(
                pos2(frame.x(i), inside.bottom() + 6.0),
                Align2::CENTER_TOP,
                words,
                font.clone(),
                cx.theme.weak,
            );
        }
    }
    let mut corners = Vec::new();
    for (i, (_, n, all)) in profile.iter().enumerate() {
        let y = frame.y(*n as f32 / (*all).max(1) as f32);
        if i == 0 {
            corners.push(pos2(frame.x(0), frame.y(1.0)));
        }
        corners.extend([pos2(frame.x(i), y), pos2(frame.x(i + 1), y)]);
    }
    painter.add(egui::Shape::line(corners, Stroke::new(2.0, cx.theme.accent)));
    for k in known {
        let Some(at) = frame.point(k, room) else { continue };
        let mark = match (k.entry.how, k.left) {
            (How::Inject, _) => Mark::Up,
            (How::Merge, _) => Mark::Diamond,
            (How::Keep, 0) => Mark::Cross,
            (How::Keep, _) => Mark::Disc,
        };
        painter.circle_filled(at, 7.0, cx.theme.background);
        marks::paint(painter, at, 5.0, mark, cx.theme.accent);
        // Beside the point where there is room, so that no line strikes it through.
        let right = at.x + 44.0 < inside.right();
        let (place, align) = match (right, at.y - 14.0 > inside.top()) {
            (true, true) => (at + vec2(6.0, -5.0), Align2::LEFT_BOTTOM),
            (true, false) => (at + vec2(6.0, 5.0), Align2::LEFT_TOP),
            (false, true) => (at + vec2(-6.0, -5.0), Align2::RIGHT_BOTTOM),
            (false, false) => (at + vec2(-6.0, 5.0), Align2::RIGHT_TOP),
        };
        painter.text(place, align, k.left.to_string(), font.clone(), cx.theme.text);
    }
}

/// The entry whose point is nearest to `at`, if it is near.
fn grabbed(frame: &Frame, known: &[Known], room: &Room, at: Pos2) -> Option<Known> {
    let near = |k: &Known| frame.point(k, room).map(|p| p.distance(at)).filter(|d| *d <= NEAR);
    let all = known.iter().filter_map(|k| Some((near(k)?, *k)));
    all.min_by(|a, b| a.0.total_cmp(&b.0)).map(|a| a.1)
}

fn edit_ui(
    cx: &Cx,
    ui: &mut Ui,
    response: &Response,
    frame: &Frame,
    schedule: &Schedule,
    room: &Room,
    known: &[Known],
) {
    let slot = ui.scope_id().with("point of the schedule");
    let refused = ui.scope_id().with("schedule text").with("refused");
    let done = |ui: &Ui, new: Result<Schedule>| match new.and_then(|s| s.known(room).map(|_| s)) {
        Ok(new) => {
            ui.data_mut(|d| d.remove::<Refused>(refused));
            if new != *schedule {
                put(cx, &new);
            }
            true
        }
        Err(why) => {
            ui.data_mut(|d| {
                d.insert_temp::<Refused>(refused, (schedule.clone(), why.to_string()));
            });
            false
        }
    };
    let pointer = response.interact_pointer_pos().or(response.hover_pos());
    if response.drag_started_by(PointerButton::Primary) {
        // Where the drag began, not where the pointer is by now.
        let from = ui.input(|i| i.pointer.press_origin()).or(pointer);
        let held = from.and_then(|at| grabbed(frame, known, room, at)).map(|k| k.entry.at);
        ui.data_mut(|d| {
            d.insert_temp(slot, held);
        });
    }
    let held: Option<Entering> = ui.data(|d| d.get_temp(slot)).flatten();
    if let (true, Some(from), Some(at)) = (response.dragged_by(PointerButton::Primary), held, pointer) {
        let moved = frame.under(at).map(|(to, share)| (to, moved(schedule, room, from, to, share)));
        if let Some((to, new)) = moved
            && done(ui, new)
        {
            ui.data_mut(|d| {
                d.insert_temp(slot, Some(to));
            });
        }
    }
    if response.drag_stopped() {
        ui.data_mut(|d| d.remove::<Option<Entering>>(slot));
    }
    let near = pointer.and_then(|at| grabbed(frame, known, room, at));
    if response.hovered() {
        let icon = if near.is_some() || held.is_some() { egui::CursorIcon::Grab } else { egui::CursorIcon::Crosshair };
        ui.ctx().set_cursor_icon(icon);
        if let Some(k) = near.filter(|_| held.is_none()) {
            response.clone().on_hover_text(words(&k));
        }
    }
    if response.clicked()
        && near.is_none()
        && let Some((to, share)) = pointer.and_then(|at| frame.under(at))
    {
        done(ui, added(schedule, room, to, share));
    }
    // The menu is about the point that was under the pointer when it opened.
    let menu = slot.with("menu");
    if response.secondary_clicked() {
        ui.data_mut(|d| {
            d.insert_temp(menu, near.map(|k| k.entry));
        });
    }
    response.context_menu(|ui| {
        let Some(entry) = ui.data(|d| d.get_temp::<Option<Entry>>(menu)).flatten() else {
            ui.weak("Click to add a point; a point has a menu of its own.");
            if ui.button("Remove all points").clicked() {
                done(ui, Ok(Schedule::default()));
                ui.close();
            }
            return;
        };
        ui.weak(entry.at.words());
        let all = Amount::Share(1.0);
        for (words, new) in [
            ("The others leave", Some(Entry { how: How::Keep, ..entry })),
            ("The others are merged", Some(Entry { how: How::Merge, ..entry })),
            ("What waits comes in", Some(Entry { how: How::Inject, amount: all, ..entry })),
            ("All leave", Some(Entry { how: How::Keep, amount: Amount::Count(0), ..entry })),
            ("Remove", None),
        ] {
            let same = new == Some(entry);
            if ui.add_enabled(!same, egui::Button::new(words)).clicked() {
                done(ui, schedule.with(entry.at, new));
                ui.close();
            }
        }
    });
}

/// What an entry does, in words.
fn words(k: &Known) -> String {
    let what = match (k.entry.how, k.waits) {
        (How::Inject, _) => "come in",
        (How::Merge, _) => "are merged into the others",
        (How::Keep, true) => "wait",
        (How::Keep, false) => "leave",
    };
    let (at, n) = (k.entry.at.words(), k.before.abs_diff(k.left));
    format!("{at}: {} of {} tokens, {n} {what}", k.left, k.before.max(k.left))
}

/// The schedule with the entry `from` moved to `to` and to a share of all tokens. What would pass another point stays
/// where it is in that direction; more tokens than are there are as many as there can be.
fn moved(schedule: &Schedule, room: &Room, from: Entering, to: Entering, share: f64) -> Result<Schedule> {
    let Some(entry) = schedule.at(from).copied() else { return Ok(schedule.clone()) };
    let fits = to == from || (schedule.at(to).is_none() && all_of(to, room) == all_of(from, room));
    let to = if fits { to } else { from };
    // The kind stays, unless a number says another: one that falls lets nothing in.
    let how = if entry.how == How::Inject { How::Keep } else { entry.how };
    at_share(&schedule.with(from, None)?, room, to, how, share)
}

/// The schedule with a further entry: the others leave, or come in where there are fewer.
fn added(schedule: &Schedule, room: &Room, at: Entering, share: f64) -> Result<Schedule> {
    if schedule.at(at).is_some() {
        return Ok(schedule.clone());
    }
    at_share(schedule, room, at, How::Keep, share)
}

/// The schedule with an entry where there is none yet, of this share of all tokens, or as near to it as there can be.
fn at_share(schedule: &Schedule, room: &Room, at: Entering, how: How, share: f64) -> Result<Schedule> {
    let count = Amount::Share(share).of(all_of(at, room));
    let put = |count: usize| schedule.with(at, Some(Entry { at, how, amount: Amount::Count(count) }));
    let wished = put(count)?;
    if wished.known(room).is_ok() {
        return Ok(wished);
    }
    let before = before(schedule, room, at)?;
    let least = usize::from(how == How::Merge || !room.writes || !matches!(at, Entering::Layer(_)));
    put(count.clamp(least.min(before), before))
}

/// Tokens that there are in front of a place where nothing happens.
fn before(schedule: &Schedule, room: &Room, at: Entering) -> Result<usize> {
    // Behind it entries may no longer be possible; they do not matter.
    let first = Schedule::new(schedule.entries().iter().filter(|e| e.at < at).copied().collect())?;
    Ok(first.profile(room)?.into_iter().find(|p| p.0 == at).map_or(0, |p| p.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { encoder: Some((4, 100)), layers: (6, 100), writes: true };

    fn read(text: &str) -> Schedule {
        Schedule::parse(text).unwrap()
    }

    #[test]
    fn a_point_is_moved_no_further_than_there_are_tokens() {
        let to = |text: &str, from, to, share| moved(&read(text), &ROOM, from, to, share).unwrap().to_string();
        let layer = Entering::Layer;
        assert_eq!(to("1:50 3:20", layer(3), layer(4), 0.3), "1:50 4:30");
        // Above those that are there, so that those that left before wait; merged ones cannot, and there is no way onto
        // another point.
        assert_eq!(to("1:50 3:20", layer(3), layer(3), 0.9), "1:50 3:90");
        assert_eq!(to("1~50 3:20", layer(3), layer(3), 0.9), "1~50 3:50");
        assert_eq!(to("1:50 3:20", layer(3), layer(1), 0.3), "1:50 3:30");
        // A merge leaves one at least; what comes in is a number that rises.
        assert_eq!(to("1~50", layer(1), layer(1), 0.0), "1~1");
        assert_eq!(to("exit@0 inject@2", layer(2), layer(3), 0.4), "exit@0 3:40");
        assert_eq!(to("1:50", layer(1), layer(1), 0.0), "exit@1");
        assert_eq!(to("f:50", Entering::Features, Entering::Features, 0.0), "f:1");
        // What is not there stays so.
        assert_eq!(to("1:50", layer(2), layer(1), 0.0), "1:50");
    }

    #[test]
    fn a_point_is_added_where_there_is_none() {
        let to = |text: &str, at, share| added(&read(text), &ROOM, at, share).unwrap().to_string();
        assert_eq!(to("", Entering::Layer(2), 0.25), "2:25");
        assert_eq!(to("2:25", Entering::Layer(2), 0.5), "2:25");
        assert_eq!(to("2:25", Entering::Layer(3), 0.5), "2:25 3:50");
        assert_eq!(to("2~25", Entering::Layer(3), 0.5), "2~25 3:25");
        assert_eq!(to("", Entering::Encoder(1), 0.0), "e1:1");
    }

    #[test]
    fn the_reduction_that_carries_schedules_out_is_found_by_its_parameter() {
        let call = drawn_call("2:10").unwrap();
        let info = catalog::find(call.method).unwrap().info();
        assert_eq!(&*call.params.text(info.param(Schedule::KEY).unwrap()), "2:10");
    }
}
