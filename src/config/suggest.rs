//! "Did you mean": the nearest known word, or none when nothing is near.

/// Longer words are not typing errors of ours, and comparing them costs time.
const WORD_CHARS_MAX: usize = 64;

/// The candidate with the smallest edit distance to `word`, if it is at most a third of the word's length (always at
/// least one). Case does not count, and `-` and a space are the underscore they were meant to be.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    let word = word.to_lowercase().replace(['-', ' '], "_");
    let distance_max = (length / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= distance_max && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_typing_errors_and_leaves_other_words_alone() {
        let keys = ["limit", "paused", "poll_interval"];
        assert_eq!(nearest("limt", keys), Some("limit"));
        assert_eq!(nearest("Limit", keys), Some("limit"));
        assert_eq!(nearest("poll-intervall", keys), Some("poll_interval"));
        assert_eq!(nearest("concurrency", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest(&"l".repeat(100_000), keys), None);
    }
}
