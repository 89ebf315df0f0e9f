//! Modules know only what stands before them in the list of their crate's front page: no circle, no arrow up.

use super::{code, name_of, sources};
use std::collections::{BTreeMap, BTreeSet};
use tokenscope_tests::root;

/// Modules of a crate in the order of its list, and those whose items the front page hands on, by item.
struct Order(Vec<String>, BTreeMap<String, String>);

impl Order {
    /// Reads the list under the heading "Modules, from the ground up" in the front page `lib`, and checks that it
    /// holds each module once.
    fn of(lib: &str) -> Self {
        let after = lib.split("# Modules, from the ground up").nth(1).expect("a front page has the list");
        let list: String =
            after.lines().skip(1).take_while(|l| l.starts_with("//!") && !l.starts_with("//! #")).collect();
        let listed: Vec<String> = list.split("[`").skip(1).filter_map(|s| Some(s.split_once("`]")?.0.into())).collect();
        let declared = |l: &str| {
            let name = l.strip_prefix("pub mod ").or(l.strip_prefix("mod "))?;
            Some(name.strip_suffix(';')?.to_string())
        };
        let there: BTreeSet<String> = lib.lines().filter_map(declared).collect();
        assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), there, "the list holds each module");
        assert_eq!(listed.len(), there.len(), "the list holds each module once");
        let mut handed = BTreeMap::new();
        for line in lib.lines().filter_map(|l| l.strip_prefix("pub use ")) {
            let (module, items) = line.trim_end_matches(';').split_once("::").expect("a module and what it hands on");
            for item in items.trim_matches(['{', '}']).split(", ") {
                handed.insert(item.to_string(), module.to_string());
            }
        }
        Self(listed, handed)
    }

    fn place(&self, module: &str) -> Option<usize> {
        let module = self.1.get(module).map_or(module, String::as_str);
        self.0.iter().position(|m| m == module)
    }

    /// The modules after `module` that a line of its code names.
    fn above<'l>(&self, module: &str, line: &'l str) -> Vec<&'l str> {
        let own = self.place(module);
        named(line).into_iter().filter(|m| self.place(m) > own).collect()
    }
}

/// Names that follow `crate::` in a line, those of a list in braces, too.
fn named(line: &str) -> Vec<&str> {
    let word = |s: &'_ str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    let mut out = Vec::new();
    for (at, all) in line.match_indices("crate::") {
        let rest = &line[at + all.len()..];
        match rest.strip_prefix('{') {
            None => out.push(&rest[..word(rest)]),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            out.push(&list[i..i + word(&list[i..])]);
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    out
}

fn check(folder: &str) {
    let order = Order::of(&std::fs::read_to_string(root().join(folder).join("lib.rs")).unwrap());
    for file in sources(&root().join(folder)) {
        let name = name_of(&file);
        let inside = name.strip_prefix(folder).unwrap().trim_start_matches('/');
        let module = inside.split(['/', '.']).next().unwrap();
        if order.place(module).is_none() || inside.ends_with("/tests.rs") {
            continue;
        }
        for (i, line) in code(&file) {
            let above = order.above(module, &line);
            assert!(above.is_empty(), "{name}:{i}: {module} stands below {above:?}: {line}");
        }
    }
}

#[test]
fn no_module_of_the_app_points_up() {
    check("app/src");
}

#[test]
fn no_module_of_the_library_points_up() {
    check("analysis/src");
}

#[test]
fn names_are_found_alone_and_in_lists_and_compared_with_the_list() {
    assert_eq!(named("use crate::state::{Doc, jobs};"), ["state"]);
    assert_eq!(named("let x = crate::a(crate::{b, c::{d, e}, f});"), ["a", "b", "c", "f"]);
    let lib = "//! # Modules, from the ground up\n//! - One: [`a`],\n//!   [`b`].\n//!\n//! # Next [`z`]\npub mod b;\nmod a;\npub use b::{X, Y};\n";
    let order = Order::of(lib);
    assert_eq!(order.0, ["a", "b"]);
    assert_eq!(order.above("a", "use crate::b::X;"), ["b"]);
    assert_eq!(order.above("a", "use crate::{Y, a::Z};"), ["Y"]);
    assert_eq!(order.above("b", "use crate::a::X;"), [""; 0]);
}
