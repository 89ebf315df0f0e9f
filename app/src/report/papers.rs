//! The papers behind methods, as a list and as BibTeX.

use serde::Serialize;
use tokenscope_analysis::method::{Info, Paper};

/// A paper, and the methods of it that were used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cited {
    /// Name of its entry.
    pub key: String,
    /// Title as published.
    pub title: String,
    /// Authors as the catalog has them.
    pub authors: String,
    /// Year of first publication.
    pub year: u16,
    /// Where it can be read; empty where the catalog knows no address.
    pub url: String,
    /// Titles of methods.
    pub methods: Vec<String>,
    /// Its entry.
    pub bibtex: String,
}

/// The papers of these methods, each once, by year and title.
pub fn cited(methods: &[&Info]) -> Vec<Cited> {
    let mut out: Vec<Cited> = Vec::new();
    for info in methods {
        let Some(paper) = &info.paper else { continue };
        match out.iter_mut().find(|c| c.title == paper.title) {
            Some(c) if c.methods.iter().any(|m| m == info.title) => {}
            Some(c) => c.methods.push(info.title.into()),
            None => out.push(cite(paper, info)),
        }
    }
    out.sort_by(|a, b| (a.year, &a.title).cmp(&(b.year, &b.title)));
    // Two papers of one author and year are told apart by a letter.
    for i in 0..out.len() {
        let same = out[..i].iter().filter(|c| c.key == out[i].key).count();
        if same > 0 {
            out[i].bibtex = entry(&out[i], &format!("{}{}", out[i].key, (b'a' + same.min(25) as u8) as char));
        }
    }
    // As the entries have them, for whoever cites by them.
    for c in &mut out {
        if let Some(key) = c.bibtex.split(['{', ',']).nth(1) {
            c.key = key.into();
        }
    }
    out
}

fn cite(paper: &Paper, info: &Info) -> Cited {
    let Paper { title, authors, year, arxiv } = *paper;
    let url = if arxiv.is_empty() { String::new() } else { format!("https://arxiv.org/abs/{arxiv}") };
    let surname = names(authors).first().map(|n| last(n).to_lowercase()).unwrap_or_default();
    let surname: String = surname.chars().filter(char::is_ascii_alphanumeric).collect();
    let key = format!("{}{year}", if surname.is_empty() { info.id } else { &surname });
    let mut out = Cited {
        key: key.clone(),
        title: title.into(),
        authors: authors.into(),
        year,
        url,
        methods: vec![info.title.into()],
        bibtex: String::new(),
    };
    out.bibtex = entry(&out, &key);
    out
}

/// Authors one by one; `others` stands for those that are not named.
fn names(authors: &str) -> Vec<&str> {
    let (named, more) = match authors.strip_suffix("et al.") {
        Some(named) => (named.trim_end_matches([' ', ',']), true),
        None => (authors, false),
    };
    let split = named.split([',', '&', ';']).flat_map(|n| n.split(" and "));
    let mut out: Vec<&str> = split.map(str::trim).filter(|n| !n.is_empty()).collect();
    if more {
        out.push("others");
    }
    out
}

fn last(name: &str) -> &str {
    name.split_whitespace().last().unwrap_or(name)
}

fn entry(c: &Cited, key: &str) -> String {
    let authors: Vec<String> = names(&c.authors).into_iter().map(tex).collect();
    let mut out = format!("@misc{{{key},\n  title = {{{{{}}}}},\n", tex(&c.title));
    out += &format!("  author = {{{}}},\n  year = {{{}}},\n", authors.join(" and "), c.year);
    if let Some(id) = c.url.strip_prefix("https://arxiv.org/abs/") {
        out += &format!("  eprint = {{{id}}},\n  archivePrefix = {{arXiv}},\n  url = {{{}}},\n", c.url);
    }
    out + "}\n"
}

/// Text with what TeX takes for commands escaped.
fn tex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '~' => out.push_str(r"\textasciitilde{}"),
            '^' => out.push_str(r"\textasciicircum{}"),
            '\\' => out.push_str(r"\textbackslash{}"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::catalog;
    use tokenscope_analysis::method::Kind;

    #[test]
    fn an_entry_by_hand() {
        let paper =
            Paper { title: "Tokens & 50% of {x}_1", authors: "Ada Lo, Bo Kim et al.", year: 2024, arxiv: "2401.00001" };
        let info = Info { id: "a", title: "A", paper: Some(paper), ..Info::of(Kind::Score) };
        let same = Info { id: "b", title: "B", ..info };
        let other = Info { id: "c", title: "C", paper: Some(Paper { title: "More", arxiv: "", ..paper }), ..info };
        let all = cited(&[&info, &same, &info, &other, &Info::of(Kind::Score)]);
        assert_eq!(all.iter().map(|c| c.methods.join(" ")).collect::<Vec<_>>(), ["C", "A B"]);
        assert_eq!(
            all[0].bibtex,
            "@misc{lo2024,\n  title = {{More}},\n  author = {Ada Lo and Bo Kim and others},\n  year = {2024},\n}\n"
        );
        let want = "@misc{lo2024b,\n  title = {{Tokens \\& 50\\% of \\{x\\}\\_1}},\n  author = {Ada Lo and Bo Kim and others},\n  year = {2024},\n  eprint = {2401.00001},\n  archivePrefix = {arXiv},\n  url = {https://arxiv.org/abs/2401.00001},\n}\n";
        assert_eq!(all[1].bibtex, want);
        assert_eq!([&*all[0].key, &*all[1].key], ["lo2024", "lo2024b"]);
    }

    #[test]
    fn every_paper_of_the_catalog_has_an_entry_with_closed_braces_and_an_author() {
        let all: Vec<&Info> = catalog::infos().collect();
        let papers = cited(&all);
        assert!(papers.len() > 100);
        let mut keys = std::collections::BTreeSet::new();
        for p in &papers {
            let plain = p.bibtex.replace("\\{", "").replace("\\}", "");
            assert_eq!(plain.matches('{').count(), plain.matches('}').count(), "{}", p.bibtex);
            assert!(!p.bibtex.contains("author = {}"), "{}", p.bibtex);
            let key = p.bibtex.split(['{', ',']).nth(1).unwrap();
            assert!(keys.insert(key.to_string()), "{key} twice");
        }
    }
}
