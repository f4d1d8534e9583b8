//! A model provider over real TCP: HTTP/1.1 with keep-alive and chunked streams, in OpenAI's or Anthropic's format.
//!
//! It answers by script, one reply a request in order of arrival, then with its default reply, and records what it was
//! sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Tokens that every complete answer reports.
pub const USAGE: (u64, u64) = (12, 5);
/// The id in the header of every answer.
pub const REQUEST_ID: &str = "req_4711";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Openai,
    Anthropic,
}

/// What happens to one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 200 and a whole stream with this text.
    Stream(String),
    /// 200 and one JSON object, as of a server that ignores `stream: true`.
    Plain(String),
    /// 200 and whatever body.
    Body { content_type: &'static str, body: String },
    /// 200 and a vector of three numbers for each text of the request, see [`vector_of`], the last text's first.
    Vectors,
    /// Any status with headers and an error in the server's format.
    Status { status: u16, headers: Vec<(&'static str, String)>, kind: String, code: String, message: String },
    /// A stream that has begun with this text, then an error event.
    StreamError { text: String, kind: String },
    /// A stream that has begun with this text, then the connection is closed.
    BreakOff(String),
    /// A stream that has begun with this text, then nothing until the client goes.
    Stall(String),
    /// The stream of a whole answer without its usage and end mark, then nothing until the client goes.
    StallAtEnd(String),
    /// Nothing until the client goes.
    Hang,
    /// The connection is closed without an answer.
    Close,
}

impl Reply {
    pub fn stream(text: &str) -> Self {
        Self::Stream(text.to_owned())
    }

    pub fn status(status: u16, kind: &str) -> Self {
        let (kind, message) = (kind.to_owned(), format!("message of {status}"));
        Self::Status { status, headers: Vec::new(), kind, code: String::new(), message }
    }

    pub fn throttled(retry_after: &str) -> Self {
        Self::status(429, "rate_limit_error").with_header("retry-after", retry_after)
    }

    pub fn overloaded() -> Self {
        Self::status(529, "overloaded_error")
    }

    /// Money is used up, as this format says it.
    pub fn exhausted(wire: Wire) -> Self {
        match wire {
            Wire::Openai => Self::status(429, "insufficient_quota").with_code("insufficient_quota"),
            Wire::Anthropic => Self::status(429, "rate_limit_error").with_code("enforced_spend_limit_reached"),
        }
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }

    pub fn with_code(mut self, text: &str) -> Self {
        if let Self::Status { code, .. } = &mut self {
            *code = text.to_owned();
        }
        self
    }

    pub fn with_message(mut self, text: &str) -> Self {
        if let Self::Status { message, .. } = &mut self {
            *message = text.to_owned();
        }
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests read in full.
    pub calls: usize,
    /// Connections accepted.
    pub connections: usize,
    /// Clients that went away while they were kept waiting.
    pub hung_up: usize,
}

/// What a request gets, by its body; `None` leaves it to the script and the default.
type Choose = Box<dyn Fn(&Value) -> Option<Reply> + Send>;

struct Shared {
    wire: Wire,
    choose: Mutex<Choose>,
    script: Mutex<VecDeque<Reply>>,
    default: Mutex<Reply>,
    received: Mutex<Vec<Received>>,
    counts: watch::Sender<Counts>,
}

/// The server; it stops, with all its connections, when this is dropped.
pub struct FakeProvider {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeProvider {
    /// A server on a free port of loopback whose default reply is the stream `Hello`.
    pub async fn start(wire: Wire) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            wire,
            choose: Mutex::new(Box::new(|_| None)),
            script: Mutex::default(),
            default: Mutex::new(Reply::stream("Hello")),
            received: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let server = tokio::spawn(serve(listener, shared.clone()));
        Self { shared, address, server }
    }

    /// A server with a script.
    pub async fn with(wire: Wire, script: impl IntoIterator<Item = Reply>) -> Self {
        let provider = Self::start(wire).await;
        provider.then(script);
        provider
    }

    /// Appends to the script.
    pub fn then(&self, script: impl IntoIterator<Item = Reply>) {
        self.shared.script.lock().unwrap().extend(script);
    }

    /// Replies by what is asked, before the script.
    pub fn choose(&self, choose: impl Fn(&Value) -> Option<Reply> + Send + 'static) {
        *self.shared.choose.lock().unwrap() = Box::new(choose);
    }

    /// What requests get after the script.
    pub fn set_default(&self, reply: Reply) {
        *self.shared.default.lock().unwrap() = reply;
    }

    /// `base_url` of a provider in this format.
    pub fn base_url(&self) -> String {
        match self.shared.wire {
            Wire::Openai => format!("http://{}/v1", self.address),
            Wire::Anthropic => format!("http://{}", self.address),
        }
    }

    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    pub fn calls(&self) -> usize {
        self.counts().calls
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until the counts are as wanted.
    pub async fn until(&self, wanted: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        tokio::time::timeout(DEADLINE, counts.wait_for(wanted)).await.expect("in time").expect("the server lives");
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Owned here, so that aborting the server closes every connection.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        shared.counts.send_modify(|counts| counts.connections += 1);
        connections.spawn(connection(socket, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut socket: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let received = request(&mut socket, &mut buffer).await?;
        let body = received.body.clone();
        shared.received.lock().unwrap().push(received);
        let chosen = (shared.choose.lock().unwrap())(&body);
        let reply = chosen.or_else(|| shared.script.lock().unwrap().pop_front());
        let reply = match reply.unwrap_or_else(|| shared.default.lock().unwrap().clone()) {
            Reply::Vectors => Reply::Body { content_type: "application/json", body: vectors(&body).to_string() },
            other => other,
        };
        shared.counts.send_modify(|counts| counts.calls += 1);
        answer(&mut socket, shared.wire, reply, &shared.counts).await?;
    }
}

/// What [`Reply::Vectors`] makes of a text.
pub fn vector_of(text: &str) -> [f32; 3] {
    [text.len() as f32, f32::from(text.bytes().next().unwrap_or(1)), 0.5]
}

fn vectors(request: &Value) -> Value {
    let texts: Vec<&str> = request["input"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let tokens: usize = texts.iter().map(|text| text.len()).sum();
    let entry =
        |(index, text): (usize, &&str)| json!({"object": "embedding", "index": index, "embedding": vector_of(text)});
    let data: Vec<Value> = texts.iter().enumerate().rev().map(entry).collect();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    json!({"object": "list", "model": "reported", "data": data, "usage": usage})
}

async fn request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        fill(socket, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let end = head_end + 4 + length;
    while buffer.len() < end {
        fill(socket, buffer).await?;
    }
    let body = serde_json::from_slice(&buffer[head_end + 4..end]).unwrap_or(Value::Null);
    buffer.drain(..end);
    Some(Received { path, headers, body })
}

async fn fill(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    let length = socket.read(&mut piece).await.ok().filter(|length| *length > 0)?;
    buffer.extend_from_slice(&piece[..length]);
    Some(())
}

/// `None` closes the connection.
async fn answer(socket: &mut TcpStream, wire: Wire, reply: Reply, counts: &watch::Sender<Counts>) -> Option<()> {
    match reply {
        Reply::Stream(text) => {
            begin_stream(socket, wire, &text).await?;
            chunk(socket, &ending(wire)).await?;
            socket.write_all(b"0\r\n\r\n").await.ok()
        }
        Reply::Plain(text) => whole(socket, 200, "application/json", &[], &plain(wire, &text)).await,
        Reply::Vectors => None,
        Reply::Body { content_type, body } => whole(socket, 200, content_type, &[], &body).await,
        Reply::Status { status, headers, kind, code, message } => {
            let body = error_body(wire, &kind, &code, &message).to_string();
            whole(socket, status, "application/json", &headers, &body).await
        }
        Reply::StreamError { text, kind } => {
            begin_stream(socket, wire, &text).await?;
            let body = error_body(wire, &kind, "", "in the stream");
            chunk(socket, &format!("event: error\ndata: {body}\n\n")).await?;
            socket.write_all(b"0\r\n\r\n").await.ok()
        }
        Reply::BreakOff(text) => {
            begin_stream(socket, wire, &text).await?;
            None
        }
        Reply::Stall(text) => {
            begin_stream(socket, wire, &text).await?;
            wait_for_client_to_go(socket, counts).await
        }
        Reply::StallAtEnd(text) => {
            begin_stream(socket, wire, &text).await?;
            let all = ending(wire);
            let first = all.split_inclusive("\n\n").find(|event| event.contains("_reason")).unwrap();
            chunk(socket, first).await?;
            wait_for_client_to_go(socket, counts).await
        }
        Reply::Hang => wait_for_client_to_go(socket, counts).await,
        Reply::Close => None,
    }
}

async fn wait_for_client_to_go(socket: &mut TcpStream, counts: &watch::Sender<Counts>) -> Option<()> {
    let mut piece = [0; 64];
    while socket.read(&mut piece).await.is_ok_and(|length| length > 0) {}
    counts.send_modify(|counts| counts.hung_up += 1);
    None
}

async fn whole(
    socket: &mut TcpStream,
    status: u16,
    content_type: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Option<()> {
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\
         x-request-id: {REQUEST_ID}\r\n{extra}\r\n{body}"
    );
    socket.write_all(text.as_bytes()).await.ok()
}

/// Head and beginning of a stream, the text in two pieces.
async fn begin_stream(socket: &mut TcpStream, wire: Wire, text: &str) -> Option<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\
         x-request-id: {REQUEST_ID}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.ok()?;
    let opening = match wire {
        Wire::Openai => openai_chunk(&json!({"role": "assistant", "content": ""}), &Value::Null),
        Wire::Anthropic => anthropic_event(&json!({
            "type": "message_start",
            "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "reported", "content": [],
                        "usage": {"input_tokens": USAGE.0, "output_tokens": 1}}
        })),
    };
    chunk(socket, &opening).await?;
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    for piece in [&text[..middle], &text[middle..]].into_iter().filter(|piece| !piece.is_empty()) {
        let event = match wire {
            Wire::Openai => openai_chunk(&json!({"content": piece}), &Value::Null),
            Wire::Anthropic => anthropic_event(&json!({
                "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}
            })),
        };
        chunk(socket, &event).await?;
    }
    Some(())
}

fn ending(wire: Wire) -> String {
    match wire {
        Wire::Openai => {
            let usage = json!({"id": "chatcmpl-1", "model": "reported", "choices": [], "usage": openai_usage()});
            format!("{}data: {usage}\n\ndata: [DONE]\n\n", openai_chunk(&json!({}), &json!("stop")))
        }
        Wire::Anthropic => [
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": USAGE.1}}),
            json!({"type": "message_stop"}),
        ]
        .iter()
        .map(anthropic_event)
        .collect(),
    }
}

fn plain(wire: Wire, text: &str) -> String {
    match wire {
        Wire::Openai => json!({
            "id": "chatcmpl-1", "object": "chat.completion", "model": "reported", "usage": openai_usage(),
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
        }),
        Wire::Anthropic => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "reported", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": USAGE.0, "output_tokens": USAGE.1}
        }),
    }
    .to_string()
}

fn openai_usage() -> Value {
    json!({"prompt_tokens": USAGE.0, "completion_tokens": USAGE.1, "total_tokens": USAGE.0 + USAGE.1})
}

fn openai_chunk(delta: &Value, finish_reason: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    format!("data: {}\n\n", json!({"id": "chatcmpl-1", "model": "reported", "choices": [choice]}))
}

fn anthropic_event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn error_body(wire: Wire, kind: &str, code: &str, message: &str) -> Value {
    let code = if code.is_empty() { Value::Null } else { json!(code) };
    match wire {
        Wire::Openai => json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
        Wire::Anthropic => json!({
            "type": "error", "request_id": REQUEST_ID,
            "error": {"type": kind, "message": message, "details": {"error_code": code}}
        }),
    }
}

async fn chunk(socket: &mut TcpStream, text: &str) -> Option<()> {
    let framed = format!("{:x}\r\n{text}\r\n", text.len());
    socket.write_all(framed.as_bytes()).await.ok()
}
