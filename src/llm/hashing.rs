//! An embedder without model and network: words and their three-letter pieces, hashed into a vector with signs.
//!
//! It knows no meaning, only spelling: texts that share words are near each other, synonyms are not. That is enough to
//! try everything around embeddings, and what it makes is marked as simulated wherever it is shown. The method is
//! feature hashing with signs (Weinberger and others, "Feature Hashing for Large Scale Multitask Learning", 2009).

use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Numbers of a vector where the configuration does not say.
pub(crate) const DIMENSIONS_DEFAULT: u32 = 256;
/// What the embedder is called in results.
pub(crate) const EMBEDDER: &str = "hashed words and letters, made here without a model";
/// Letters of a piece of a word.
const PIECE_CHARS: usize = 3;
/// Weight of a piece beside that of a whole word.
const PIECE_WEIGHT: f32 = 0.4;

/// The vector of a text, of length 1: the same text gives the same vector in every version and on every machine.
pub(crate) fn embed(text: &str, dimensions: u32) -> Vec<f32> {
    let mut vector = vec![0.0_f32; usize::try_from(dimensions).unwrap_or(1).max(1)];
    for ((kind, feature), count) in features(text) {
        let hash = hash(kind, &feature);
        let weight = if kind == Kind::Word { 1.0 } else { PIECE_WEIGHT };
        // Saying a word ten times does not make a text ten times as much about it.
        let weight = weight * (1.0 + count.ilog2() as f32);
        let place = usize::try_from(hash % vector.len() as u64).unwrap_or(0);
        vector[place] += if hash >> 63 == 0 { weight } else { -weight };
    }
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > f32::EPSILON {
        vector.iter_mut().for_each(|number| *number /= length);
    } else {
        // Nothing but signs that cancel each other, or no feature at all: still a direction of its own.
        vector.fill(0.0);
        let place = usize::try_from(hash(Kind::Whole, text) % vector.len() as u64).unwrap_or(0);
        vector[place] = 1.0;
    }
    vector
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Word = 1,
    Piece = 2,
    Whole = 3,
}

/// How often each feature occurs. In order, because sums of floats depend on it.
fn features(text: &str) -> BTreeMap<(Kind, String), NonZeroU32> {
    let mut features: BTreeMap<_, NonZeroU32> = BTreeMap::new();
    let mut add = |kind, feature: String| {
        let more = |count: &mut NonZeroU32| *count = count.saturating_add(1);
        features.entry((kind, feature)).and_modify(more).or_insert(NonZeroU32::MIN);
    };
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        let padded: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
        padded.windows(PIECE_CHARS).for_each(|piece| add(Kind::Piece, piece.iter().collect()));
        add(Kind::Word, word);
    }
    features
}

/// FNV-1a, and the finaliser of `SplitMix64` behind it, because FNV's low bits alone are poor.
fn hash(kind: Kind, feature: &str) -> u64 {
    let bytes = std::iter::once(kind as u8).chain(feature.bytes());
    let fnv =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(left: &str, right: &str) -> f32 {
        embed(left, 256).iter().zip(embed(right, 256)).map(|(left, right)| left * right).sum()
    }

    #[test]
    fn vectors_have_length_one_and_their_dimensions_whatever_the_text() {
        for text in
            ["", "!?", "a", "The queue holds each job", "Grüße aus Köln 🦀", "日本語の文章", &"word ".repeat(500)]
        {
            for dimensions in [1, 2, 7, 256, 1_536] {
                let vector = embed(text, dimensions);
                assert_eq!(vector.len(), dimensions as usize);
                let length: f32 = vector.iter().map(|number| number * number).sum();
                assert!((length - 1.0).abs() < 1e-4, "{text:?} in {dimensions}: {length}");
            }
        }
    }

    #[test]
    fn texts_that_share_words_are_nearer_than_others() {
        let near = likeness("how do I restart a failed job", "restarting jobs that failed");
        let far = likeness("how do I restart a failed job", "the weather in Lisbon is mild");
        assert!(near > far + 0.2, "{near} and {far}");
        assert!((likeness("Retry the JOB!", "retry, the job") - 1.0).abs() < 1e-5, "case and signs do not count");
    }

    /// The literal numbers are the contract: stored vectors stay comparable with those of later versions.
    #[test]
    fn the_same_text_gives_the_same_vector_in_every_build() {
        let vector = embed("queue", 8);
        let rounded: Vec<i32> = vector.iter().map(|number| (number * 1_000.0).round() as i32).collect();
        assert_eq!(rounded, [485, 0, 0, 0, 0, -485, 0, 728]);
    }
}
