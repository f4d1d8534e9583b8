//! Tables for people: columns as wide as their content, or as the terminal lets them be.
//!
//! Lines are wrapped at spaces. A word is broken only where it alone is wider than its column, after punctuation if
//! possible, and an id never: it is what the next command needs. Where the columns do not stand beside each other even
//! so, the table is printed in parts that begin with the same column.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Blanks between two columns.
const GAP: usize = 2;
/// No column is made narrower than this for the sake of its words: states, dates and heads are no longer.
const BREAK_CHARS_MIN: usize = 10;
/// As long as nearly all other names are; in parts of a table there is room for them.
const NAME_CHARS: usize = 20;
/// Columns whose words are never broken, because they name what a command can be given.
const IDS: [&str; 10] = ["child", "entry", "id", "instance", "job", "key", "learning", "message", "pid", "run"];
/// The column that every part of a table has, beside the first one.
const REPEATED: &str = "instance";

/// One column with its cells.
struct Column<'a> {
    head: &'a str,
    cells: Vec<&'a str>,
}

/// The lines of a table, none of them wider than `width` unless ids leave no room. Cells may have several lines.
pub(super) fn lines(head: &[&str], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let columns: Vec<Column<'_>> = head
        .iter()
        .enumerate()
        .map(|(at, head)| Column {
            head,
            cells: rows.iter().map(|row| row.get(at).map_or("", String::as_str)).collect(),
        })
        .collect();
    let width = width.unwrap_or(usize::MAX);
    let parts = parts(&columns, width);
    let drawn = parts.iter().enumerate().map(|(at, part)| {
        let mut drawn = drawn(part, &widths(part, width));
        if at > 0 {
            drawn.insert(0, String::new());
        }
        drawn
    });
    drawn.flatten().collect()
}

/// The columns in as few parts as stand beside each other: one where it can be, at the cost of long words.
fn parts<'a>(columns: &'a [Column<'a>], width: usize) -> Vec<Vec<&'a Column<'a>>> {
    let one = divided(columns, width, BREAK_CHARS_MIN);
    if one.len() > 1 { divided(columns, width, NAME_CHARS) } else { one }
}

fn divided<'a>(columns: &'a [Column<'a>], width: usize, chars: usize) -> Vec<Vec<&'a Column<'a>>> {
    let mut parts: Vec<Vec<&Column<'_>>> = vec![Vec::new()];
    for (at, column) in columns.iter().enumerate() {
        let Some(part) = parts.last_mut() else { continue };
        let taken: usize = part.iter().map(|column| column.least(chars) + GAP).sum();
        let keys = || columns[..at].iter().enumerate().filter(|(at, key)| *at == 0 || key.head == REPEATED);
        // What has no other column than those that it repeats says nothing.
        if taken.saturating_add(column.least(chars)) > width && part.len() > keys().count() {
            parts.push(keys().map(|(_, key)| key).chain([column]).collect());
        } else {
            part.push(column);
        }
    }
    parts
}

/// As much for each column as it needs, or its share of `width`.
fn widths(columns: &[&Column<'_>], width: usize) -> Vec<usize> {
    let room = width.saturating_sub(GAP * columns.len().saturating_sub(1));
    // First so that words stay whole, then so that lines do.
    let words: Vec<(usize, usize)> =
        columns.iter().map(|column| (column.least(BREAK_CHARS_MIN), column.word_width())).collect();
    let floors = shared(&words, room);
    let lines: Vec<(usize, usize)> =
        floors.iter().zip(columns).map(|(floor, column)| (*floor, column.line_width().max(*floor))).collect();
    shared(&lines, room)
}

/// For each pair of least and wanted width one between them: all wanted, or the widest ones cut down to one width, so
/// that the sum is at most `room` if the least ones are.
fn shared(pairs: &[(usize, usize)], room: usize) -> Vec<usize> {
    let at = |cap: usize| pairs.iter().map(move |(least, wanted)| (*wanted).min(cap).max(*least));
    let widest = pairs.iter().map(|(_, wanted)| *wanted).max().unwrap_or_default();
    let cap = (0..=widest).rev().find(|cap| at(*cap).sum::<usize>() <= room).unwrap_or_default();
    let mut widths: Vec<usize> = at(cap).collect();
    // What is left over is less than one character for each that was cut.
    let mut left = room.saturating_sub(widths.iter().sum());
    for (width, (_, wanted)) in widths.iter_mut().zip(pairs) {
        if left > 0 && *width < *wanted {
            *width += 1;
            left -= 1;
        }
    }
    widths
}

impl Column<'_> {
    fn texts(&self) -> impl Iterator<Item = &str> {
        [self.head].into_iter().chain(self.cells.iter().copied())
    }

    /// Of its widest line.
    fn line_width(&self) -> usize {
        self.texts().flat_map(str::lines).map(|line| line.trim_end().width()).max().unwrap_or_default()
    }

    /// Of its widest word.
    fn word_width(&self) -> usize {
        self.texts().flat_map(str::split_whitespace).map(UnicodeWidthStr::width).max().unwrap_or_default()
    }

    /// The width of its words, of which longer ones than `chars` may be broken unless they are ids.
    fn least(&self, chars: usize) -> usize {
        if IDS.contains(&self.head) { self.word_width() } else { self.word_width().min(chars) }
    }
}

fn drawn(columns: &[&Column<'_>], widths: &[usize]) -> Vec<String> {
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let heads = columns.iter().map(|column| column.head).collect();
    let cells =
        (0..rows).map(|row| columns.iter().map(|column| column.cells.get(row).copied().unwrap_or("")).collect());
    std::iter::once(heads).chain(cells).flat_map(|texts: Vec<&str>| row(&texts, widths)).collect()
}

/// The lines of one row.
fn row(texts: &[&str], widths: &[usize]) -> Vec<String> {
    let cells: Vec<Vec<String>> = texts.iter().zip(widths).map(|(text, width)| wrapped(text, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or_default().max(1);
    let line = |at: usize| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.get(at).map_or("", String::as_str);
            line.push_str(text);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.width()) + GAP));
        }
        line.truncate(line.trim_end().len());
        line
    };
    (0..height).map(line).collect()
}

/// The text in lines of at most `width`.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines().map(str::trim_end) {
        if paragraph.width() <= width {
            lines.push(paragraph.to_owned());
            continue;
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            while let Some(at) = break_at(&line, width) {
                let rest = line.split_off(at);
                lines.push(std::mem::replace(&mut line, rest));
            }
        }
        lines.push(line);
    }
    lines
}

/// Where to break a word that is wider than `width`: behind its last punctuation that still fits, if that is not in its
/// first half.
fn break_at(word: &str, width: usize) -> Option<usize> {
    if word.width() <= width {
        return None;
    }
    let (mut used, mut hard, mut soft) = (0, 0, 0);
    for (at, c) in word.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width && at > 0 {
            break;
        }
        hard = at + c.len_utf8();
        if c.is_ascii_punctuation() && used * 2 >= width {
            soft = hard;
        }
    }
    let at = if soft > 0 { soft } else { hard };
    (at < word.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(head: &[&str], rows: &[&[&str]], width: usize) -> Vec<String> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        lines(head, &rows, (width > 0).then_some(width))
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them_where_there_is_room() {
        let rows: [&[&str]; 2] = [&["1", "a long text", "x"], &["22", "", "two\nlines"]];
        let shown = ["id  text         end", "1   a long text  x", "22               two", "                 lines"];
        assert_eq!(table(&["id", "text", "end"], &rows, 0), shown);
        assert_eq!(table(&["id", "text", "end"], &rows, 80), shown);
        assert_eq!(table(&["id", "text"], &[], 80), ["id  text"]);
    }

    #[test]
    fn lines_break_at_spaces_and_words_only_where_they_are_wider_than_their_column() {
        let rows: [&[&str]; 1] = [&["completed", "Which jobs failed today?", r#"{"task_type":"simple_chat"}"#]];
        assert_eq!(
            table(&["state", "what", "args"], &rows, 36),
            [
                "state      what    args",
                r#"completed  Which   {"task_type":""#,
                r#"           jobs    simple_chat"}"#,
                "           failed",
                "           today?",
            ]
        );
    }

    #[test]
    fn ids_stay_whole_and_what_does_not_stand_in_a_line_is_shown_in_parts() {
        let id = "0190c0de-0000-7000-8000-000000000001";
        let rows: [&[&str]; 1] = [&["pattern_mining", id, "executing", "3/5"]];
        let head = ["queue", "instance", "state", "running/limit"];
        let shown = table(&head, &rows, 50);
        assert_eq!(
            shown,
            [
                "queue       instance                              state",
                "pattern_    0190c0de-0000-7000-8000-000000000001  executing",
                "mining",
                "",
                "queue       instance                              running/",
                "                                                  limit",
                "pattern_    0190c0de-0000-7000-8000-000000000001  3/5",
                "mining",
            ]
        );
        let rows: [&[&str]; 2] = [&["default", "1", "completed", "no"], &["metrics", "2", "completed", "yes"]];
        assert_eq!(
            table(&["queue", "job", "state", "paused"], &rows, 24),
            [
                "queue    job  state",
                "default  1    completed",
                "metrics  2    completed",
                "",
                "queue    paused",
                "default  no",
                "metrics  yes",
            ]
        );
    }

    #[test]
    fn wide_characters_count_for_two() {
        let rows: [&[&str]; 1] = [&["日本語日本語日本語", "x"]];
        assert_eq!(table(&["text", "b"], &rows, 15), ["text          b", "日本語日本語  x", "日本語"]);
    }
}
