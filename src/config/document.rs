//! The text of a configuration file: where a span is, and what of its line may be shown.
//!
//! A line may hold a secret that was pasted where a reference belongs, under any key and also in a line that is not
//! TOML. So a line is shown whole only when its value is known to be none; otherwise what follows the `=` is left out.

use std::ops::Range;
use std::path::Path;

use super::kind::Kind;
use super::origin::Origin;
use super::problem::{Excerpt, Place};
use super::schema::ROOT;

/// Longer lines are shown without their end.
const LINE_CHARS_MAX: usize = 160;

/// A file's text with the starts of its lines.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    /// `None` for the shipped file.
    path: Option<&'a Path>,
    starts: Vec<usize>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, path: Option<&'a Path>) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, path, starts }
    }

    /// The place of `span`. `kind` is the type of the value there, if one is known.
    pub(super) fn place(&self, span: &Range<usize>, kind: Option<Kind>) -> Place {
        let Some(path) = self.path else { return Place::of(Origin::Default) };
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end);
        let line = self.starts.partition_point(|line| *line <= start);
        let line_start = self.starts[line.saturating_sub(1)];
        let line_text = self.text[line_start..].lines().next().unwrap_or_default();
        let place = Place::of(Origin::File { path: path.to_owned(), line });
        let Some(shown) = visible(line_text, kind) else { return place };
        let shown: String = shown.chars().take(LINE_CHARS_MAX).collect();
        let (from, to) = (start - line_start, end.saturating_sub(line_start).min(line_text.len()));
        let column = line_text.get(..from).map_or(0, |before| before.chars().count()).min(shown.chars().count());
        let marked = line_text.get(from..to).map_or(0, |marked| marked.chars().count());
        let width = marked.min(shown.chars().count() - column).max(1);
        let text = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Place { excerpt: Some(Excerpt { text, column: column + 1, width }), ..place }
    }
}

/// What of a line may be shown; `None` when nothing may.
fn visible(line: &str, kind: Option<Kind>) -> Option<String> {
    let Some((left, right)) = line.split_once('=') else {
        let header = line.trim_start().starts_with('[') && !line.contains(['"', '\'']);
        let element = matches!(kind, Some(kind) if !matches!(kind, Kind::Secret)) && !line.contains('@');
        return (header || element).then(|| line.to_owned());
    };
    if left.contains(['"', '\'', '#', '{', '[']) {
        return None;
    }
    let harmless = match kind {
        Some(kind) => !matches!(kind, Kind::Secret),
        None => is_harmless_key(left.rsplit('.').next().unwrap_or_default().trim()),
    };
    if harmless && !right.contains(['=', '@', '?', '{']) {
        return Some(line.split(" #").next().unwrap_or_default().trim_end().to_owned());
    }
    Some(format!("{left}= …"))
}

/// Whether a key of this name is known and never holds a secret.
fn is_harmless_key(name: &str) -> bool {
    let mut kinds = ROOT.leaves().into_iter().filter(|(path, _)| path.rsplit('.').next() == Some(name)).peekable();
    kinds.peek().is_some() && kinds.all(|(_, kind)| !matches!(kind, Kind::Secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_line_only_when_it_can_hold_no_secret() {
        let shown = |line| visible(line, None);
        assert_eq!(shown("limit = 0 # why").as_deref(), Some("limit = 0"));
        assert_eq!(shown("api_key = \"sk-1\"").as_deref(), Some("api_key = …"));
        assert_eq!(shown("password = \"sk-1\"").as_deref(), Some("password = …"));
        assert_eq!(shown("openai = { kind = \"openai\", api_key = \"sk-1\" }").as_deref(), Some("openai = …"));
        assert_eq!(shown("limit = 5 api_key = \"sk-1\"").as_deref(), Some("limit = …"));
        assert_eq!(shown("base_url = \"https://me:sk-1@host\"").as_deref(), Some("base_url = …"));
        assert_eq!(shown("[queues.default"), Some("[queues.default".into()));
        for hidden in ["sk-1", "  \"sk-1\",", "[\"sk-1\"]", "\"sk-1\" = 1", "# sk-1 = 1", "{ api_key = \"sk-1\" }"] {
            assert_eq!(shown(hidden), None, "{hidden}");
        }
    }

    #[test]
    fn finds_line_and_column_in_characters() {
        let text = "# grüße\r\n[queues.default]\r\nlimit = 0\r\n";
        let document = Document::new(text, Some(Path::new("a.toml")));
        let at = text.find("limit").unwrap();
        let place = document.place(&(at..at + 5), None);
        assert_eq!(place.origin.to_string(), "a.toml:3");
        assert_eq!(place.excerpt, Some(Excerpt { text: "limit = 0".into(), column: 1, width: 5 }));
        assert_eq!(document.place(&(text.len()..text.len() + 9), None).origin.to_string(), "a.toml:4");
    }
}
