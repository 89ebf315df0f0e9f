//! Whose work is in the program and on what terms: the crates it is linked from on any system, its fonts and tables.
//!
//! `.ci/licences` writes the file behind this from what cargo says is linked.

use serde::{Deserialize, Serialize};
use std::io::Read as _;

/// The notices of third parties.
#[derive(Debug, Serialize, Deserialize)]
pub struct Licences {
    /// Crates by name.
    pub crates: Vec<Crate>,
    /// Fonts by file.
    pub fonts: Vec<BuiltIn>,
    /// Tables by file.
    pub data: Vec<BuiltIn>,
    /// Texts, each once; crates and files name them by index.
    pub texts: Vec<String>,
}

/// A crate that the program is linked from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Crate {
    /// Name on crates.io.
    pub name: String,
    /// Version.
    pub version: String,
    /// Its terms, as an SPDX expression.
    pub licence: String,
    /// Where its source is; empty where it does not say.
    pub source: String,
    /// Its texts, as indices.
    pub texts: Vec<usize>,
}

/// A file that is built in.
#[derive(Debug, Serialize, Deserialize)]
pub struct BuiltIn {
    /// File in `assets/fonts`, or in `assets`.
    pub name: String,
    /// Its texts, as indices.
    pub texts: Vec<usize>,
}

/// The notices, unpacked. Errors: the file that was built in is damaged.
pub fn licences() -> anyhow::Result<Licences> {
    let packed: &[u8] = include_bytes!("../../assets/licences.json.gz");
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

impl Licences {
    /// The notices as a text to read: a list of crates and files, then every text below those that it is of.
    pub fn text(&self) -> String {
        let mut out = String::from("Tokenscope is under the MIT licence. It holds the work of others:\n\n");
        let mut of: Vec<Vec<String>> = vec![Vec::new(); self.texts.len()];
        for c in &self.crates {
            out += &format!("{} {}: {}{}\n", c.name, c.version, c.licence, gap(&c.source));
        }
        out += "\nFonts\n";
        for f in &self.fonts {
            out += &format!("{}\n", f.name);
        }
        out += "\nTables\n";
        for f in &self.data {
            out += &format!("{}\n", f.name);
        }
        let crates = self.crates.iter().map(|c| (format!("{} {}", c.name, c.version), &c.texts));
        let files = self.fonts.iter().chain(&self.data).map(|f| (f.name.clone(), &f.texts));
        for (name, texts) in crates.chain(files) {
            for &i in texts {
                if let Some(names) = of.get_mut(i) {
                    names.push(name.clone());
                }
            }
        }
        for (names, text) in of.iter().zip(&self.texts) {
            out += &format!("\n{}\n{}\n\n{text}", "=".repeat(80), names.join(", "));
        }
        out
    }
}

fn gap(source: &str) -> String {
    if source.is_empty() { String::new() } else { format!(" ({source})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_text_and_every_text_stands_for_something() {
        let all = licences().unwrap();
        let files = || all.fonts.iter().chain(&all.data);
        let lists = || all.crates.iter().map(|c| &c.texts).chain(files().map(|f| &f.texts));
        assert!(lists().all(|l| !l.is_empty() && l.iter().all(|&i| i < all.texts.len())));
        assert!((0..all.texts.len()).all(|i| lists().any(|l| l.contains(&i))));
        let of = |name: &str| {
            let c = all.crates.iter().find(|c| c.name == name).unwrap();
            (c.licence.as_str(), all.texts[c.texts[0]].as_str())
        };
        assert!(of("option-ext").0 == "MPL-2.0" && of("option-ext").1.contains("Mozilla Public License"));
        let text = all.text();
        assert!(text.contains("option-ext 0.") && text.contains("JetBrainsMono-Regular.ttf"));
        assert!(text.contains("\ncodebooks.bin\n\nThe code books of the GGUF types"));
    }

    #[test]
    fn fonts_are_on_the_terms_that_stand_in_their_files() {
        use skrifa::MetadataProvider as _;
        let all = licences().unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fonts");
        let files = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
        let files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "ttf" || e == "otf")).collect();
        assert_eq!(files.len(), all.fonts.len());
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let font = skrifa::FontRef::new(&bytes).unwrap();
            let terms = font.localized_strings(skrifa::string::StringId::LICENSE_DESCRIPTION).english_or_first();
            let terms = terms.map(|s| s.to_string()).unwrap_or_default();
            let name = file.file_name().unwrap().to_string_lossy();
            let notice = all.fonts.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name} has no notice"));
            let text: String = notice.texts.iter().map(|&i| all.texts[i].to_lowercase()).collect();
            let ofl = terms.contains("SIL Open Font License");
            assert_eq!(ofl, text.contains("open font license"), "{name}: {terms}");
        }
    }
}
