//! The models that are part of the program: the folders of `sample_data/models`, as they were when it was built.

use tokenscope_analysis::{Error, Result};

/// A file by name.
pub type Embedded = (&'static str, &'static [u8]);

include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// Those that draft for others: they read text and guess ahead.
pub static DRAFTERS: [&str; 2] = ["sample-draft", "sample-lm"];

/// The one that writes by filling in.
pub const FILLER: &str = "sample-diffusion";

/// What a sample is, in a few words.
pub fn about(name: &str) -> &'static str {
    match name {
        "sample-lm" => "tells short stories, copies, counts",
        "sample-draft" => "a smaller one that drafts for sample-lm",
        "sample-vlm" => "answers questions about drawn scenes",
        FILLER => "fills masked words in, any order",
        _ => "",
    }
}

/// The name as one of [`NAMES`], if it is one.
pub fn find(name: &str) -> Option<&'static str> {
    NAMES.iter().copied().find(|n| *n == name)
}

/// The files of a sample, by name; none where there is no such sample.
pub fn files(name: &str) -> impl Iterator<Item = Embedded> {
    FILES.iter().filter(move |s| s.0 == name).flat_map(|s| s.1.iter().copied())
}

/// A sample as a folder, so that it loads through the same code as any model. It goes when the value does.
pub fn unpack(name: &str) -> Result<tempfile::TempDir> {
    let (_, files) =
        FILES.iter().find(|s| s.0 == name).ok_or_else(|| Error::invalid(format!("no sample named {name}")))?;
    let dir = tempfile::tempdir().map_err(|e| Error::invalid(format!("no temporary folder for the sample: {e}")))?;
    for (file, bytes) in *files {
        let path = dir.path().join(file);
        std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ModelSource;

    #[test]
    fn every_sample_opens_and_those_that_are_named_in_the_code_are_there() {
        assert_eq!(NAMES[0], "sample-lm");
        assert!(NAMES.iter().all(|n| !about(n).is_empty()), "a sample without a word about it");
        assert!(DRAFTERS.iter().all(|n| find(n).is_some()) && find(FILLER).is_some());
        for name in NAMES {
            let open = crate::work::open(
                &ModelSource::Sample(name),
                Default::default(),
                Default::default(),
                &Default::default(),
            )
            .unwrap();
            assert!(open.tokenizer.is_some(), "{name}");
            assert_eq!(open.processor.is_some(), *name == "sample-vlm", "{name}");
        }
        assert!(unpack("nothing").is_err_and(|e| e.to_string().contains("nothing")));
    }
}
