//! What is said on the channels of a database, as any program hears it.

use serde_json::Value;
use singularity::postgres::Database;
use sqlx::postgres::PgListener;

use super::db::DEADLINE;

/// Says the end of what a test wants to hear.
const END: &str = "{\"end\":true}";

/// A connection that listens to some of Oban's channels.
pub struct Heard {
    listener: PgListener,
    database: Database,
    last: String,
}

impl Heard {
    /// Listens from here on; channels as in `insert`.
    pub async fn on(database: &Database, channels: &[&str]) -> Self {
        let mut listener = PgListener::connect_with(database.pool()).await.unwrap();
        let names: Vec<String> = channels.iter().map(|name| database.channel(name)).collect();
        listener.listen_all(names.iter().map(String::as_str)).await.unwrap();
        Self { listener, database: database.clone(), last: names[0].clone() }
    }

    /// All that was said since the last time: channel without its prefix, and payload.
    pub async fn all(&mut self) -> Vec<(String, Value)> {
        let mut heard = Vec::new();
        let sql = "SELECT pg_notify($1, $2)";
        sqlx::query(sql).bind(&self.last).bind(END).execute(self.database.pool()).await.unwrap();
        loop {
            let notice = tokio::time::timeout(DEADLINE, self.listener.recv()).await.expect("a notice").unwrap();
            if notice.payload() == END {
                return heard;
            }
            let (_, channel) = notice.channel().split_once(".oban_").unwrap();
            heard.push((channel.to_owned(), serde_json::from_str(notice.payload()).unwrap()));
        }
    }
}
