//! Who paused a queue of this instance, and why, for those who find it paused.
//!
//! Oban's signals do not say it, and Oban for Elixir takes every further key of one for an option, so it comes with the
//! request that an instance of ours is sent beside the signal. Of a pause by a signal alone, or by the configuration,
//! it is not known here; that of a kept setting stands in the setting.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Longest author and longest reason, in characters: they stand in each heartbeat.
const PAUSE_TEXT_CHARS_MAX: usize = 500;

/// Who ordered a pause, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// The reason that was given.
    pub why: Option<String>,
    /// When, by the instance's clock.
    pub at: DateTime<Utc>,
}

impl Pause {
    /// One that begins now; of each text the first 500 characters are kept.
    pub fn now(by: &str, why: Option<&str>) -> Self {
        let kept = |text: &str| text.chars().take(PAUSE_TEXT_CHARS_MAX).collect::<String>();
        Self { by: kept(by), why: why.map(kept), at: Utc::now() }
    }
}
