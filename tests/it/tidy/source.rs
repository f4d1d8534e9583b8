//! The files of the project, and a view on Rust text that knows code, strings and comments apart.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// A broken rule: where, and what to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.advice)
    }
}

/// Fails with all findings, one a line.
#[track_caller]
pub fn assert_none(findings: Vec<Finding>) {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} findings:\n{}\n", lines.len(), lines.join("\n"));
}

/// What a rule finds where nothing is wrong.
pub const NOWHERE: [usize; 0] = [];

/// Lines of a single file in which a rule finds something.
pub fn lines(rule: fn(&[Text]) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
    rule(&[Text::new(path, text)]).into_iter().map(|finding| finding.line).collect()
}

/// A text file, its path relative to the project.
#[derive(Debug)]
pub struct Text {
    pub path: String,
    pub text: String,
}

impl Text {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn finding(&self, at: usize, advice: impl Into<String>) -> Finding {
        let line = self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Finding { file: self.path.clone(), line, advice: advice.into() }
    }
}

/// Hidden folders that belong to the project; all others are somebody's working data.
const HIDDEN: [&str; 3] = [".ci", ".cargo", ".sqlx"];

/// Every text file of the project.
pub fn all() -> Vec<Text> {
    let mut files = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 100, "the project was not found");
    files
}

fn collect(root: &Path, folder: &str, files: &mut Vec<Text>) {
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "target" && (!name.starts_with('.') || HIDDEN.contains(&name.as_str())) {
            collect(root, &path, files);
        } else if kind.is_file()
            && name != ".git"
            && let Ok(text) = std::fs::read_to_string(entry.path())
        {
            files.push(Text { path, text });
        }
    }
}

/// Rust files that make up the library and the binary.
pub fn in_src(files: &[Text]) -> Vec<Rust<'_>> {
    let tests: BTreeSet<String> = files.iter().filter(|file| file.is_rust()).flat_map(test_modules).collect();
    let is_test = |path: &str| {
        let module = module_folder(path);
        tests
            .iter()
            .any(|test| module == *test || module.strip_prefix(test.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    let sources = files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/"));
    sources.map(|file| Rust::new(file, is_test(&file.path))).collect()
}

/// Folder of a module's children: `src/a/b` for `src/a/b.rs`, `src/a` for `src/a/mod.rs`.
fn module_folder(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").or(path.strip_suffix("/lib")).or(path.strip_suffix("/main")).unwrap_or(path).to_owned()
}

/// Modules that this file declares for tests alone, as folders.
fn test_modules(file: &Text) -> Vec<String> {
    let masks = Masks::of(&file.text);
    let code = masks.view(&file.text, Kind::Code);
    let regions = test_regions(&code);
    let declared = regions.into_iter().filter_map(|(from, to)| {
        let item = code[from..to].trim_end().strip_suffix(';')?;
        Some(item.rsplit_once("mod ")?.1.trim().to_owned())
    });
    declared.map(|name| format!("{}/{name}", module_folder(&file.path))).collect()
}

/// A Rust file in three views of equal length: what does not belong to a view is blank there.
#[derive(Debug)]
pub struct Rust<'a> {
    pub file: &'a Text,
    /// Whether the whole file is compiled for tests alone.
    pub is_test: bool,
    /// Code outside of tests, without comments and without what strings say.
    pub code: String,
    /// The same with tests.
    pub code_and_tests: String,
    /// What strings outside of tests say.
    pub strings: String,
    /// Comments, documentation included.
    pub comments: String,
}

impl<'a> Rust<'a> {
    pub fn new(file: &'a Text, is_test: bool) -> Self {
        let masks = Masks::of(&file.text);
        let code_and_tests = masks.view(&file.text, Kind::Code);
        let (mut code, mut strings) = (code_and_tests.clone(), masks.view(&file.text, Kind::Str));
        let regions = if is_test { vec![(0, file.text.len())] } else { test_regions(&code) };
        for (from, to) in regions {
            for view in [&mut code, &mut strings] {
                let blank: String = view[from..to].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
                view.replace_range(from..to, &blank);
            }
        }
        Self { file, is_test, code, code_and_tests, strings, comments: masks.view(&file.text, Kind::Comment) }
    }

    /// Name of the top module: `queue` for `src/queue/engine/claim.rs`; `None` for `lib.rs` and `main.rs`.
    pub fn module(&self) -> Option<&str> {
        let path = self.file.path.strip_prefix("src/")?;
        let first = path.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then_some(name)
    }

    /// Places of a word in the code: whole where it starts or ends with a letter.
    pub fn places(&self, word: &str) -> Vec<usize> {
        places(&self.code, word)
    }
}

/// Places of `word` in `text`, not as a part of a longer name.
pub fn places(text: &str, word: &str) -> Vec<usize> {
    let is_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    let whole = |at: &usize| {
        let end = at + word.len();
        let before = is_name(word.as_bytes().first()) && *at > 0 && is_name(bytes.get(at - 1));
        let after = is_name(word.as_bytes().last()) && is_name(bytes.get(end));
        !before && !after
    };
    text.match_indices(word).map(|(at, _)| at).filter(whole).collect()
}

/// Which bytes of a Rust text are part of a string.
pub fn in_strings(text: &str) -> Vec<bool> {
    Masks::of(text).0.into_iter().map(|kind| kind == Kind::Str).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Str,
    Comment,
}

/// What each byte of a Rust text is.
struct Masks(Vec<Kind>);

impl Masks {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut kinds = vec![Kind::Code; bytes.len()];
        let mut at = 0;
        while at < bytes.len() {
            let rest = &text.as_bytes()[at..];
            let (length, kind) = if rest.starts_with(b"//") {
                (rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()), Kind::Comment)
            } else if rest.starts_with(b"/*") {
                (block_comment(rest), Kind::Comment)
            } else if rest[0] == b'"' {
                (quoted(rest), Kind::Str)
            } else if let Some(length) = raw_string(rest).filter(|_| at == 0 || !is_name(bytes[at - 1])) {
                (length, Kind::Str)
            } else if let Some(length) = character(rest) {
                (length, Kind::Str)
            } else {
                (1, Kind::Code)
            };
            let end = (at + length).min(bytes.len());
            kinds[at..end].fill(kind);
            at = end;
        }
        Self(kinds)
    }

    fn view(&self, text: &str, kind: Kind) -> String {
        let bytes = text.bytes().zip(&self.0).map(|(byte, of)| if *of == kind || byte == b'\n' { byte } else { b' ' });
        String::from_utf8(bytes.collect()).unwrap()
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Length of a raw string, with `b` or `c` before it or not; `None` when this is none.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = if matches!(rest[0], b'b' | b'c') { 2 } else { 1 };
    if rest.get(prefix - 1) != Some(&b'r') {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let begin = prefix + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = rest[begin..].windows(end.len()).position(|window| window == end.as_bytes());
    Some(length.map_or(rest.len(), |length| begin + length + end.len()))
}

/// Length of a character in quotes; `None` for anything else, such as the quote of a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|byte| *byte == b'\'').map(|at| at + 4);
    }
    // A character has at most four bytes.
    let end = rest.iter().skip(2).take(4).position(|byte| *byte == b'\'')? + 2;
    (std::str::from_utf8(&rest[1..end]).ok()?.chars().count() == 1).then_some(end + 1)
}

/// Items under `#[cfg(test)]`, from the attribute to their end.
fn test_regions(code: &str) -> Vec<(usize, usize)> {
    let mut regions: Vec<(usize, usize)> = Vec::new();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (from, _) in code.match_indices(attribute) {
            let mut depth = 0_usize;
            let end = code[from..].bytes().enumerate().find_map(|(at, byte)| {
                match byte {
                    b'{' => depth += 1,
                    b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                (depth == 0 && matches!(byte, b'}' | b';')).then_some(from + at + 1)
            });
            regions.push((from, end.unwrap_or(code.len())));
        }
    }
    regions
}

#[test]
fn strings_comments_and_code_are_told_apart() {
    let text = Text::new(
        "src/a.rs",
        "let a = r#\"x \" // \"#; // c \"\nlet b = '\"'; let c: &'a str = b\"\\\"d\"; /* /* */ */ e",
    );
    let rust = Rust::new(&text, false);
    let words: Vec<_> = rust.code.split_whitespace().collect();
    assert_eq!(words.join(" "), "let a = ; let b = ; let c: &'a str = b ; e");
    assert_eq!(rust.comments.split_whitespace().collect::<Vec<_>>(), ["//", "c", "\"", "/*", "/*", "*/", "*/"]);
    assert!(rust.strings.contains("r#\"x \" // \"#"));
}

#[test]
fn code_for_tests_is_no_code() {
    let text = Text::new(
        "src/a.rs",
        "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { \"}\"; } }\nfn c() {}\n#[cfg(test)]\nmod d;\n",
    );
    let files = [text, Text::new("src/a/d.rs", "fn e() {}"), Text::new("src/a/d/f.rs", "fn g() {}")];
    let sources = in_src(&files);
    assert_eq!(sources[0].code.split_whitespace().collect::<Vec<_>>().join(" "), "fn a() {} fn c() {}");
    assert!(sources[1].is_test && sources[2].is_test);
}

#[test]
fn a_finding_names_its_line() {
    let text = Text::new("a.md", "one\ntwo\n");
    assert_eq!(text.finding(4, "mend it").to_string(), "a.md:2: mend it");
}
