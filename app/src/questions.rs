//! Pictures and questions with their answers, of a user's own: a table in CSV or lines of JSON, beside the pictures that
//! it names. A row that cannot be used is said and the others are read.

use crate::picture_source::PictureSource;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokenscope_analysis::weights::read_bounded;
use tokenscope_analysis::{Error, Result, utf};

/// A question with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Line of the file that it begins in, from 1.
    pub line: u64,
    /// The picture, or several; `None` where the file has no such column.
    pub picture: Option<PictureSource>,
    /// What is asked.
    pub question: String,
    /// Answers that count as right; at least one, none of them empty.
    pub answers: Vec<String>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// The file.
    pub path: PathBuf,
    /// Its rows that can be used.
    pub rows: Vec<Question>,
    /// What is wrong with those that cannot, each with its line.
    pub bad: Vec<String>,
    /// Columns that are not read.
    pub unread: Vec<String>,
}

/// The cells of a row: names of its pictures, its question, its answers; or what is wrong with it.
type Cells = Result<(Option<Vec<String>>, String, Vec<String>), String>;

/// The largest file, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// The most rows.
const MAX_ROWS: usize = 100_000;
/// The most pictures of one row.
const MAX_PICTURES: usize = 64;
/// Ends of files of questions.
const ENDS: [&str; 3] = ["csv", "jsonl", "ndjson"];
/// How the file of a folder is called where it has several tables.
const NAMED: &str = "questions";

/// A column: what it is called, the first name being the one that is said.
const IMAGE: [&str; 4] = ["image", "picture", "file_name", "images"];
const QUESTION: [&str; 3] = ["question", "prompt", "text"];
const ANSWER: [&str; 3] = ["answer", "answers", "label"];

const FORM: &str = "write a CSV with the columns image, question and answer, or a JSON object with these a line";

impl Questions {
    /// The file that a path means: itself, or the one file of questions in a folder.
    ///
    /// Errors: a folder with none or several of them.
    pub fn file(path: &Path) -> Result<PathBuf> {
        if path.is_dir() { table_of(path) } else { Ok(path.to_path_buf()) }
    }

    /// Reads a file, or the one file of questions in a folder. Pictures are named relative to the file.
    ///
    /// Errors: no such file; a folder with none or several of them; a table without a column for questions or answers;
    /// not one row that can be used.
    pub fn open(path: &Path) -> Result<Self> {
        let path = Self::file(path)?;
        let text = utf::text(read_bounded(&path, MAX_FILE)?).map_err(|what| Error::file(&path, what, FORM))?;
        // Line ends of any system count as one.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        if text.contains('\0') {
            return Err(Error::file(&path, "it holds zeros, so it is no text", FORM));
        }
        let mut out = Self { path, rows: Vec::new(), bad: Vec::new(), unread: Vec::new() };
        let end = out.path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        // Lines of JSON begin with a brace, whatever their file is called.
        if end == "jsonl" || end == "ndjson" || text.trim_start().starts_with('{') {
            out.read_lines(&text)?;
        } else {
            out.read_table(&text)?;
        }
        match (out.rows.is_empty(), out.bad.first()) {
            (true, Some(first)) => Err(Error::file(&out.path, format!("no row can be used; {first}"), FORM)),
            (true, None) => Err(Error::file(&out.path, "there are no rows", FORM)),
            _ => Ok(out),
        }
    }

    fn read_table(&mut self, text: &str) -> Result<()> {
        let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("");
        let count = |d: u8| first.bytes().filter(|b| *b == d).count();
        // The last of the largest, so that the comma wins where none stands out.
        let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|d| count(*d)).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
        let strange = |path: &Path, e: csv::Error| Error::file(path, format!("this is no table: {e}"), FORM);
        let head = reader.headers().map_err(|e| strange(&self.path, e))?.clone();
        let names: Vec<String> = head.iter().map(|n| n.trim().to_lowercase()).collect();
        let column = |of: &[&str]| of.iter().find_map(|name| names.iter().position(|n| n == name));
        let missing = |of: &[&str]| {
            let there = head.iter().map(str::trim).collect::<Vec<_>>().join(", ");
            Error::file(&self.path, format!("it has no column named {}; there are: {there}", of[0]), FORM)
        };
        let image = column(&IMAGE);
        let question = column(&QUESTION).ok_or_else(|| missing(&QUESTION))?;
        let answer = column(&ANSWER).ok_or_else(|| missing(&ANSWER))?;
        let read = [image, Some(question), Some(answer)];
        let unread = head.iter().enumerate().filter(|(i, _)| !read.contains(&Some(*i)));
        self.unread = unread.map(|(_, n)| n.trim().to_string()).collect();
        for record in reader.records() {
            self.has_room()?;
            let record = match record {
                Ok(record) => record,
                Err(e) => {
                    let line = e.position().map_or(0, csv::Position::line);
                    self.bad.push(format!("line {line}: {e}"));
                    continue;
                }
            };
            let line = record.position().map_or(0, csv::Position::line);
            // Lines of nothing but separators are how spreadsheets end.
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            let cell = |i: usize, name: &str| {
                let n = record.len();
                record.get(i).map(str::trim).ok_or_else(|| format!("it has {n} cells, and none for {name}"))
            };
            let row = (|| {
                let pictures = image.map(|i| cell(i, IMAGE[0])).transpose()?;
                let pictures = pictures.map(|p| p.split('|').map(|p| p.trim().to_string()).collect());
                Ok((pictures, cell(question, QUESTION[0])?.to_string(), vec![cell(answer, ANSWER[0])?.to_string()]))
            })();
            self.put(line, row);
        }
        Ok(())
    }

    fn read_lines(&mut self, text: &str) -> Result<()> {
        for (i, line) in text.lines().enumerate().filter(|l| !l.1.trim().is_empty()) {
            self.has_room()?;
            let row = object(line, &mut self.unread);
            self.put(i as u64 + 1, row);
        }
        Ok(())
    }

    fn has_room(&self) -> Result<()> {
        if self.rows.len() + self.bad.len() < MAX_ROWS {
            return Ok(());
        }
        Err(Error::file(&self.path, format!("it has more than {MAX_ROWS} rows"), "cut the file"))
    }

    /// Takes in a row: its pictures, question and answers, or what is wrong with it.
    fn put(&mut self, line: u64, row: Cells) {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let made = row.and_then(|(pictures, question, answers)| {
            let empty = |what: &str| Err(format!("the {what} is empty"));
            if question.trim().is_empty() {
                return empty("question");
            }
            if answers.is_empty() || answers.iter().any(|a| a.trim().is_empty()) {
                return empty("answer");
            }
            let picture = match pictures {
                None => None,
                Some(names) if names.len() > MAX_PICTURES => {
                    return Err(format!("{} pictures are more than the {MAX_PICTURES} of one prompt", names.len()));
                }
                Some(names) => {
                    if names.is_empty() || names.iter().any(String::is_empty) {
                        return empty("name of the picture");
                    }
                    let all: Result<Vec<PictureSource>, String> = names.iter().map(|n| found(folder, n)).collect();
                    PictureSource::joined(all?)
                }
            };
            Ok(Question { line, picture, question, answers })
        });
        match made {
            Ok(row) => self.rows.push(row),
            Err(why) => self.bad.push(format!("line {line}: {why}")),
        }
    }
}

/// The file of questions in a folder: the only one, or the one that is called so.
fn table_of(folder: &Path) -> Result<PathBuf> {
    let io = |why: std::io::Error| Error::io(folder, why);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let end = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if path.is_file() && end.is_some_and(|e| ENDS.contains(&e.as_str())) {
            all.push(path);
        }
    }
    all.sort();
    let named = |p: &&PathBuf| p.file_stem().is_some_and(|s| s.eq_ignore_ascii_case(NAMED));
    match (&all[..], all.iter().find(named)) {
        ([one], _) | (_, Some(one)) => Ok(one.clone()),
        ([], _) => Err(Error::file(folder, "the folder holds no file of questions (.csv or .jsonl)", FORM)),
        (several, None) => {
            let names: Vec<String> =
                several.iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into())).collect();
            let what = format!("the folder holds several tables: {}", names.join(", "));
            Err(Error::file(folder, what, format!("name one of them, or call it {NAMED}.csv")))
        }
    }
}

/// A picture beside the table; a drawn scene has the name that it has everywhere.
fn found(folder: &Path, name: &str) -> Result<PictureSource, String> {
    match PictureSource::parse(name.into()).map_err(|e| e.to_string())? {
        PictureSource::File(path) => {
            let path = folder.join(path);
            if path.is_file() {
                Ok(PictureSource::File(path))
            } else {
                Err(format!("there is no picture {}", path.display()))
            }
        }
        PictureSource::Clip(path, n) => Ok(PictureSource::Clip(folder.join(path), n)),
        drawn => Ok(drawn),
    }
}

/// A row that is a JSON object. Pictures and answers may be lists.
fn object(line: &str, unread: &mut Vec<String>) -> Cells {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("this is no JSON: {e}"))?;
    let Value::Object(fields) = value else { return Err("this is no JSON object".into()) };
    let get = |of: &[&'static str]| of.iter().find_map(|name| fields.get(*name).map(|v| (*name, v)));
    let words = |(name, v): (&str, &Value)| -> Result<Vec<String>, String> {
        let word = |v: &Value| match v {
            Value::String(s) => Ok(s.trim().to_string()),
            Value::Number(_) | Value::Bool(_) => Ok(v.to_string()),
            _ => Err(format!("{name} is neither text nor a list of texts")),
        };
        match v {
            Value::Array(all) => all.iter().map(word).collect(),
            one => word(one).map(|w| vec![w]),
        }
    };
    let needed = |of: &[&'static str]| get(of).ok_or_else(|| format!("it has no field {}", of[0])).and_then(words);
    let known = |name: &str| IMAGE.iter().chain(&QUESTION).chain(&ANSWER).any(|k| *k == name);
    for name in fields.keys().filter(|n| !known(n)) {
        if unread.len() < 64 && !unread.contains(name) {
            unread.push(name.clone());
        }
    }
    let question = needed(&QUESTION)?;
    let [question] = &question[..] else { return Err("it has several questions".into()) };
    Ok((get(&IMAGE).map(words).transpose()?, question.clone(), needed(&ANSWER)?))
}

/// Whether what a model wrote gives one of the answers: it begins with it, letter case, white space and punctuation
/// around it aside, and no letter or digit goes on behind it.
pub fn is_right(written: &str, answers: &[String]) -> bool {
    let plain = |s: &str| s.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let edge = |c: char| !c.is_alphanumeric();
    let whole = plain(written);
    let bare_written = whole.trim_start_matches(edge);
    answers.iter().any(|a| {
        let a = plain(a);
        // An answer of signs alone is taken as it is.
        let bare = a.trim_matches(edge);
        let (a, written) = if bare.is_empty() { (a.as_str(), whole.as_str()) } else { (bare, bare_written) };
        written.strip_prefix(a).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(name: &str, bytes: &[u8]) -> Result<Questions> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a b.png"), b"x").unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        Questions::open(&dir.path().join(name))
    }

    #[test]
    fn a_table_with_marks_quotes_and_any_line_ends_is_read_and_bad_rows_are_named() {
        let table = "\u{feff}Answer,note, IMAGE ,question\r\n\
            red,n,a b.png,\"What, \"\"now\"\"?\nTwo lines\"\r\n\
            ,n,a b.png,No answer?\r\n\
            blue,n,../a b.png,Gone?\r\n\
            blue,n\r\n\
            ,,,\r\n\
            2,n,scene:7,How many?\r\n";
        let q = read("q.csv", table.as_bytes()).unwrap();
        let asked: Vec<&str> = q.rows.iter().map(|r| r.question.as_str()).collect();
        assert_eq!(asked, ["What, \"now\"?\nTwo lines", "How many?"]);
        assert_eq!((q.rows[0].line, q.rows[1].line, q.rows[1].picture.clone()), (2, 8, Some(PictureSource::Scene(7))));
        assert_eq!(q.unread, ["note"]);
        assert_eq!(q.bad.len(), 3, "{:?}", q.bad);
        assert!(q.bad[0].starts_with("line 4: the answer is empty"), "{:?}", q.bad);
        assert!(q.bad[1].contains("line 5: there is no picture") && q.bad[1].contains("a b.png"), "{:?}", q.bad);
        assert!(q.bad[2].contains("line 6: it has 2 cells, and none for image"), "{:?}", q.bad);
        // Semicolons, and a table without pictures.
        let q = read("q.csv", b"question;answer\nA?;b, c\n").unwrap();
        assert_eq!((q.rows[0].answers[0].as_str(), q.rows[0].picture.clone()), ("b, c", None));
    }

    #[test]
    fn lines_of_json_may_list_pictures_and_answers() {
        let lines = "{\"image\": [\"a b.png\", \"scene:1\"], \"question\": \"Q\", \"answer\": [\"one\", 1], \"id\": 3}\n\n\
            {\"question\": \"Q\"}\nnonsense\n[1]\n{\"question\": \"Q\", \"answer\": {}}\n{\"question\": \"Q\", \"answer\": true}\n";
        let q = read("q.jsonl", lines.as_bytes()).unwrap();
        assert_eq!(q.rows.len(), 2);
        assert_eq!(q.rows[0].answers, ["one", "1"]);
        assert_eq!(q.rows[0].picture.as_ref().unwrap().each().count(), 2);
        assert_eq!((q.rows[1].line, q.rows[1].answers[0].as_str()), (7, "true"));
        assert_eq!(q.unread, ["id"]);
        let begins: Vec<&str> = q.bad.iter().map(|b| &b[..7]).collect();
        assert_eq!(begins, ["line 3:", "line 4:", "line 5:", "line 6:"]);
    }

    #[test]
    fn what_is_no_file_of_questions_says_so() {
        for (bytes, words) in [
            (&b"image,question\na,b\n"[..], "no column named answer; there are: image, question"),
            (b"", "no column"),
            (b"question,answer\n", "there are no rows"),
            (b"question,answer\nA?,\n", "no row can be used; line 2: the answer is empty"),
            (b"\xff\xff\xff", "not UTF-8"),
            (b"question,answer\n\0", "zeros"),
        ] {
            let why = read("q.csv", bytes).unwrap_err().to_string();
            assert!(why.contains(words) && why.contains("q.csv"), "{words}: {why}");
        }
        let dir = tempfile::tempdir().unwrap();
        let open = || Questions::open(dir.path());
        assert!(open().unwrap_err().to_string().contains("no file of questions"));
        let table = |name: &str| fs::write(dir.path().join(name), "question,answer\nA?,b\n").unwrap();
        table("b.csv");
        assert_eq!(open().unwrap().rows.len(), 1);
        table("a.csv");
        assert!(open().unwrap_err().to_string().contains("several tables: a.csv, b.csv"));
        table("Questions.csv");
        assert!(open().unwrap().path.ends_with("Questions.csv"));
        assert!(Questions::open(&dir.path().join("none.csv")).unwrap_err().to_string().contains("none.csv"));
    }

    #[test]
    fn an_answer_counts_where_it_begins_what_is_written_and_ends_there() {
        let right = |written: &str, answer: &str| is_right(written, &[answer.to_string()]);
        assert!(right(" Red.", "red") && right("\"red\"\nand", " Red! ") && right("two  circles on", "Two circles"));
        assert!(!right("redder", "red") && !right("dark red", "red") && !right("", "red") && !right("12", "1"));
        assert!(is_right("one", &["1".into(), "one".into()]));
        // Signs alone are not taken off.
        assert!(right(" +, I think", "+") && right("?", "?") && !right("-", "+") && !right("plus", "+"));
    }
}
