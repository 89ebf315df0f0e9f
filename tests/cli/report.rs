//! Reports as others read them: as strict XML, as a PDF with its fonts, whatever the prompt is.

use super::again::HOSTILE;
use super::{fails_with, tokenscope};
use std::collections::BTreeSet;
use std::path::Path;

fn report(out: &Path, more: &[&str]) -> String {
    let out = out.to_str().unwrap();
    let run = tokenscope(&[&["report", "--out", out], more].concat());
    let err = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{more:?}: {err}");
    err
}

/// A page is well-formed, runs nothing, and takes nothing from elsewhere.
fn harmless(page: &roxmltree::Document) {
    let mut ids = BTreeSet::new();
    for node in page.descendants().filter(|n| n.is_element()) {
        let tag = node.tag_name().name();
        assert!(!["script", "iframe", "object", "embed", "link", "base", "form"].contains(&tag), "a <{tag}>");
        for a in node.attributes() {
            let (name, value) = (a.name(), a.value());
            assert!(!name.starts_with("on"), "{name}={value} on a <{tag}>");
            match name {
                "href" | "src" => {
                    let own = value.starts_with('#') || value.starts_with("data:image/png;base64,");
                    assert!(own || tag == "a" && value.starts_with("https://arxiv.org/abs/"), "<{tag} {name}={value}>");
                }
                "id" => assert!(ids.insert(value), "{value} twice"),
                _ => {}
            }
            assert!(!value.contains("url(") || value.starts_with("url(#"), "<{tag} {name}={value}>");
        }
    }
    let clips = page.descendants().filter_map(|n| n.attribute("clip-path"));
    for id in clips.filter_map(|c| c.strip_prefix("url(#")?.strip_suffix(')')) {
        assert!(ids.contains(id), "{id} is nowhere");
    }
}

fn parse(text: &str) -> roxmltree::Document<'_> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    roxmltree::Document::parse_with_options(text, options).unwrap_or_else(|e| panic!("{e}"))
}

fn words(node: roxmltree::Node) -> String {
    node.descendants().filter_map(|n| if n.is_text() { n.text() } else { None }).collect()
}

fn all<'a>(page: &'a roxmltree::Document<'a>, tag: &str) -> Vec<roxmltree::Node<'a, 'a>> {
    page.descendants().filter(|n| n.tag_name().name() == tag).collect()
}

#[test]
fn hostile_prompts_stand_in_the_page_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{} end", "very long ".repeat(40));
    for (i, prompt) in HOSTILE.iter().copied().chain([long.as_str()]).enumerate() {
        let file = dir.path().join(format!("{i}.html"));
        report(&file, &["--views", "segmentation,importance", "--prompt", prompt]);
        let text = std::fs::read_to_string(&file).unwrap();
        let page = parse(&text);
        harmless(&page);
        assert!(!text.contains("49") || !prompt.contains("7 * 7") || !words(page.root()).contains("{{ 49"));
        let barred = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || (c as u32) & 0xfffe == 0xfffe;
        let shown = prompt.replace("\r\n", "\n").replace(barred, "\u{fffd}");
        let there = all(&page, "pre").into_iter().any(|n| words(n) == shown);
        assert!(there || prompt.is_empty(), "{prompt:?} is not in the page");
        assert!(!text.contains(barred), "a character that no page may hold");
    }
}

#[test]
fn a_report_has_settings_figures_commands_numbers_and_papers() {
    let dir = tempfile::tempdir().unwrap();
    let (file, bib) = (dir.path().join("r.html"), dir.path().join("r.bib"));
    report(&file, &["--bibtex", bib.to_str().unwrap(), "--example", "recall", "--score", "attention_rollout"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let page = parse(&text);
    harmless(&page);
    // Light and dark of each view, and a command for each that names it.
    let figures = all(&page, "figure");
    assert!(figures.len() >= 4, "{} figures", figures.len());
    for f in &figures {
        assert_eq!(f.descendants().filter(|n| n.tag_name().name() == "svg").count(), 2);
        assert!(f.descendants().any(|n| n.tag_name().name() == "text"), "letters are text");
        assert!(words(*f).contains("tokenscope render --view"), "no command");
    }
    assert!(all(&page, "table").len() > figures.len());
    let said = words(page.root());
    let config = tokenscope_app::samples::files("sample-lm").find(|f| f.0 == "config.json").unwrap().1;
    for want in
        [concat!("Tokenscope ", env!("CARGO_PKG_VERSION")), &tokenscope_app::hash::sha256(config), "Abnar", "SHA-256"]
    {
        assert!(said.contains(want), "no {want}");
    }
    let bib = std::fs::read_to_string(&bib).unwrap();
    assert!(bib.starts_with("@misc{") && bib.contains("Quantifying Attention Flow"), "{bib}");
    assert!(said.contains(bib.trim()), "the page has other entries than the file");
    let again = dir.path().join("s.html");
    report(&again, &["--example", "recall", "--score", "attention_rollout"]);
    assert!(std::fs::read_to_string(&again).unwrap() == text, "another report of the same");
}

#[test]
fn a_picture_is_part_of_the_page_and_what_has_no_figure_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.html");
    let more = ["--model", "sample-vlm", "--image", "scene:test+2", "--prompt", "What is there?"];
    report(&file, &[&more[..], &["--views", "importance,drafts"]].concat());
    let text = std::fs::read_to_string(&file).unwrap();
    let page = parse(&text);
    harmless(&page);
    assert_eq!(all(&page, "img").len(), 1);
    let bert = super::models().join("bert_base_model");
    let err =
        report(&file, &["--model", bert.to_str().unwrap(), "--prompt", "a boat", "--views", "segmentation,drafts"]);
    assert!(err.contains("Drafts is left out"), "{err}");
    let out = file.to_str().unwrap();
    fails_with(&["report", "--model", "/nowhere", "--out", out], &["no view has anything to show", "/nowhere"]);
    fails_with(&["report", "--out", "x.docx"], &["html", "pdf", "x.docx"]);
    fails_with(&["report", "--views", "tomato", "--out", out], &["tomato", "segmentation"]);
}

/// How often a name of PDF occurs in a file.
fn count(pdf: &[u8], name: &str) -> usize {
    pdf.windows(name.len()).filter(|w| *w == name.as_bytes()).count()
}

#[test]
fn pdf_holds_the_fonts_of_its_letters_and_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.pdf");
    report(&file, &["--views", "importance,flow", "--prompt", "naïve العربية 漢字 boats"]);
    let pdf = std::fs::read(&file).unwrap();
    assert!(pdf.starts_with(b"%PDF-1."));
    // Words, tokens and two more scripts.
    assert!(count(&pdf, "/FontFile") >= 4, "{} fonts", count(&pdf, "/FontFile"));
    assert_eq!(count(&pdf, "/FontFile"), count(&pdf, "/ToUnicode"));
    assert!(count(&pdf, "/URI") >= 2 && !pdf.windows(11).any(|w| w == b"/JavaScript"));
    for view in ["segmentation", "findings"] {
        let file = dir.path().join("f.pdf");
        let run = tokenscope(&["render", "--view", view, "--width-mm", "85", "--out", file.to_str().unwrap()]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let pdf = std::fs::read(&file).unwrap();
        assert!(count(&pdf, "/FontFile") >= 1 && count(&pdf, "/ToUnicode") >= 1, "{view}");
        // 85 mm in points of an inch's 72nd.
        assert!(count(&pdf, "240.94") > 0, "{view}: not as wide as it was asked for");
    }
}
