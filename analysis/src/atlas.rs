//! The atlas: every published paper that the program is to show, and what it does of each today.
//!
//! The papers are the lines of one file; what is computed follows from the catalog, by the names of raw entries, so that
//! a method that lands shows here without another line.

use crate::catalog;
use crate::method::Info;
use std::sync::LazyLock;

/// One line per paper: number, name, title, family, what is shown of it, and the raw entries it takes.
const FILE: &str = include_str!("../../assets/atlas.tsv");

/// One paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paper {
    /// Its number in the list, from 1.
    pub row: u16,
    /// Short name.
    pub name: &'static str,
    /// Title as published.
    pub title: &'static str,
    /// Heading that it stands under.
    pub family: &'static str,
    /// What the program shows of it, once all of it is there.
    pub shows: &'static str,
    /// Names of the raw entries that its references run through, comma-separated, each with its family before a slash.
    references: &'static str,
}

/// How much of a paper the program computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extent {
    /// Everything that the list asks for has its code.
    All,
    /// Some of it.
    Part,
    /// Nothing yet.
    NotYet,
}

impl Extent {
    /// Every extent.
    pub const ALL: [Extent; 3] = [Extent::All, Extent::Part, Extent::NotYet];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Extent::All => "computed",
            Extent::Part => "in part",
            Extent::NotYet => "not yet",
        }
    }
}

impl Paper {
    /// Names of the raw entries that it takes.
    pub fn entries(&self) -> impl Iterator<Item = &'static str> {
        let name = |r: &'static str| r.trim().rsplit('/').next().filter(|n| !n.is_empty());
        self.references.split(',').filter_map(name)
    }

    /// The methods of the catalog whose code these entries run, each once, in the order of the catalog.
    pub fn methods(&self) -> Vec<&'static Info> {
        let serves = |i: &&'static Info| i.raw.iter().any(|a| self.entries().any(|e| e == a.name));
        catalog::infos().filter(serves).collect()
    }

    /// How much of it is computed.
    pub fn extent(&self) -> Extent {
        let there = |e: &str| catalog::raw(e).is_ok();
        match (self.entries().all(there), self.entries().any(there)) {
            (true, true) => Extent::All,
            (_, true) => Extent::Part,
            _ => Extent::NotYet,
        }
    }

    /// Whether every word of `words` occurs in what is known about it, or in its methods' names.
    pub fn fits(&self, words: &str) -> bool {
        let methods: String = self.methods().iter().map(|i| format!(" {} {}", i.id, i.title)).collect();
        let text = format!("{} {} {} {} {}{methods}", self.name, self.title, self.family, self.shows, self.references);
        let text = text.to_lowercase();
        words.to_lowercase().split_whitespace().all(|w| text.contains(w))
    }
}

/// Every paper, in the order of the list.
pub fn papers() -> &'static [Paper] {
    static ALL: LazyLock<Vec<Paper>> = LazyLock::new(|| FILE.lines().skip(1).filter_map(parse).collect());
    &ALL
}

/// Published methods of the catalog that stand for no paper of the list.
pub fn others() -> Vec<&'static Info> {
    let listed = |i: &&'static Info| papers().iter().any(|p| p.methods().iter().any(|m| m.id == i.id));
    catalog::infos().filter(|i| i.paper.is_some() && !listed(i)).collect()
}

fn parse(line: &'static str) -> Option<Paper> {
    let mut fields = line.split('\t').map(str::trim);
    Some(Paper {
        row: fields.next()?.parse().ok()?,
        name: fields.next()?,
        title: fields.next()?,
        family: fields.next()?,
        shows: fields.next()?,
        references: fields.next()?,
    })
}

/// The families in the order in which they first come.
pub fn families() -> Vec<&'static str> {
    let mut out: Vec<&'static str> = Vec::new();
    for p in papers() {
        if !out.contains(&p.family) {
            out.push(p.family);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_file_is_a_paper_and_they_are_numbered_on() {
        assert_eq!(papers().len(), FILE.lines().count() - 1);
        assert_eq!(papers().len(), 237);
        assert!(papers().iter().enumerate().all(|(i, p)| usize::from(p.row) == i + 1));
        for p in papers() {
            assert!([p.name, p.title, p.family, p.shows].iter().all(|t| !t.is_empty()), "{p:?}");
            assert!(p.entries().next().is_some(), "{} names no entry", p.name);
        }
    }

    #[test]
    fn list_and_catalog_are_in_step() {
        for p in papers() {
            // A method that names the paper runs at least one of the entries that the paper takes.
            for info in catalog::infos().filter(|i| i.paper.is_some_and(|own| own.title == p.title)) {
                assert!(p.methods().iter().any(|m| m.id == info.id) || info.raw.is_empty(), "{}: {}", p.name, info.id);
            }
            let there = p.entries().filter(|e| catalog::raw(e).is_ok()).count();
            let extent = match there {
                0 => Extent::NotYet,
                n if n == p.entries().count() => Extent::All,
                _ => Extent::Part,
            };
            assert_eq!(p.extent(), extent, "{}", p.name);
            assert_eq!(p.methods().is_empty(), extent == Extent::NotYet, "{}", p.name);
        }
        let divprune = papers().iter().find(|p| p.entries().any(|e| e == "divprune")).unwrap();
        assert_eq!(divprune.methods().iter().map(|i| i.id).collect::<Vec<_>>(), ["divprune"]);
        assert!(others().iter().any(|i| i.id == "tome") && others().iter().all(|i| i.paper.is_some()));
    }

    #[test]
    fn words_find_papers_and_extents_add_up() {
        let of = |e: Extent| papers().iter().filter(|p| p.extent() == e).count();
        assert_eq!(Extent::ALL.map(of).iter().sum::<usize>(), papers().len());
        assert!(papers().iter().any(|p| p.fits("divprune")));
        assert!(!papers().iter().any(|p| p.fits("divprune zzz")));
    }
}
