//! What a node answers when it is asked, and the orders of operators that it carries out.
//!
//! Requests come from other programs, perhaps of other versions: each is checked before anything is done.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::steering::{OrderError, Steering};
use crate::config::nearest;
use crate::error::Coded;
use crate::instance::{Answer, EVENT_TEXT_CHARS_MAX, History, Refusal, RefusalKind, Request};
use crate::postgres::notifier::message::{QUEUE_ANY, decode_signal};
use crate::queue::{Pause, QueueOrder};
use crate::supervision::{ChildError, OperateError, Operation, System, TreeNode};

/// Orders carried out at a time: each may take as long as its children take to stop.
const ORDERS_MAX: usize = 4;
/// Longest path that is looked for, in bytes.
const PATH_BYTES_MAX: usize = 4_096;

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("this version knows no action {0:?}; it knows tree, actor, operate, queues and routing")]
    UnknownAction(String),
    #[error("the request {action} cannot be read: {reason}")]
    BadBody { action: String, reason: String },
    #[error("the path has {0} bytes; at most {PATH_BYTES_MAX} are allowed")]
    LongPath(usize),
    #[error("the reason has {0} characters; at most {max} are kept", max = EVENT_TEXT_CHARS_MAX)]
    LongReason(usize),
    #[error("{ORDERS_MAX} orders are being carried out already")]
    Busy,
    #[error("the answer cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
}

impl Coded for RequestError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownAction(_) => "E0715",
            Self::BadBody { .. } => "E0716",
            Self::LongPath(_) => "E0720",
            Self::LongReason(_) => "E0717",
            Self::Busy => "E0718",
            Self::Unwritable(_) => "E0719",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownAction(_) | Self::BadBody { .. } => Some("use the program version of that instance".into()),
            Self::LongPath(_) => Some("see `singularity tree` for the paths of its actors".into()),
            Self::LongReason(_) => Some("write a shorter one".into()),
            Self::Busy => Some("wait until one is done; `singularity tree` shows what stops".into()),
            Self::Unwritable(_) => None,
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let kind = match &error {
            RequestError::UnknownAction(_)
            | RequestError::BadBody { .. }
            | RequestError::LongPath(_)
            | RequestError::LongReason(_) => RefusalKind::Invalid,
            RequestError::Busy => RefusalKind::Refused,
            RequestError::Unwritable(_) => RefusalKind::Failed,
        };
        Self::new(kind, &error)
    }
}

/// The refusal of an order.
fn refusal(error: &OperateError) -> Refusal {
    let kind = match error {
        OperateError::NotFound(_) => RefusalKind::NotFound,
        OperateError::UnknownOperation(_) => RefusalKind::Invalid,
        OperateError::TimedOut(_) => RefusalKind::TimedOut,
        OperateError::Child(ChildError::Start(_)) => RefusalKind::Failed,
        _ => RefusalKind::Refused,
    };
    Refusal::new(kind, error)
}

/// Body of `actor`.
#[derive(Deserialize)]
struct ActorBody {
    path: String,
}

/// Body of `operate`.
#[derive(Deserialize)]
struct OrderBody {
    operation: String,
    path: String,
    why: Option<String>,
}

/// Body of `queues`.
#[derive(Deserialize)]
struct QueuesBody {
    /// The one that is asked about; all without it.
    queue: Option<String>,
    /// An order to carry out first, in the form of a signal.
    signal: Option<Value>,
    /// The reason that was given for it.
    why: Option<String>,
    /// Whether kept settings have changed, which are carried out too.
    #[serde(default)]
    settings: bool,
}

/// What answers for the node of this system.
pub(super) fn answers(system: System, steering: Steering, history: History) -> Answer {
    let orders = Arc::new(Semaphore::new(ORDERS_MAX));
    Arc::new(move |request| {
        let (system, steering, orders) = (system.clone(), steering.clone(), Arc::clone(&orders));
        let history = history.clone();
        Box::pin(async move {
            if request.action == "queues" {
                return queues(&steering, &history, &request).await;
            }
            if request.action == "routing" {
                let holding = steering.look_at_learnings().await.map_err(|error| not_carried_out(&error))?;
                return Ok(serde_json::to_value(holding).map_err(RequestError::from)?);
            }
            answer(&system, &orders, request).await
        })
    })
}

/// Queues as they are, after an order where one is given.
async fn queues(steering: &Steering, history: &History, request: &Request) -> Result<Value, Refusal> {
    let QueuesBody { queue, signal, why, settings } = body(request)?;
    check_reason(why.as_deref())?;
    let mut checks = None;
    if let Some(signal) = signal {
        let bad = |reason: String| RequestError::BadBody { action: request.action.clone(), reason };
        let signal = decode_signal(&signal.to_string()).map_err(|error| bad(error.to_string()))?;
        let order = QueueOrder::of(&signal).ok_or_else(|| bad("the signal is about a job".into()))?;
        tracing::info!(target: "queue", by = request.by, ?order, "order of an operator");
        let by = Pause::now(&request.by, why.as_deref());
        checks = Some(steering.carry_out(&order, Some(&by)).await.map_err(|error| not_carried_out(&error))?);
        // Programs may scale all the time, and the history is bounded: what somebody gives a reason for is kept.
        if why.is_some() || !matches!(order, QueueOrder::Scale { .. }) {
            history.ordered(order.name(), &path_of(order.queue()), &request.by, why.as_deref());
        }
    }
    if settings {
        steering.look_at_settings().await.map_err(|error| not_carried_out(&error))?;
    }
    let checks = checks.unwrap_or_else(|| steering.checks(queue.as_deref()));
    Ok(json!({ "queues": checks }))
}

fn not_carried_out(error: &OrderError) -> Refusal {
    let kind = match error {
        OrderError::Invalid(_) => RefusalKind::Invalid,
        OrderError::Begin { .. } | OrderError::Keeper(_) | OrderError::Settings(_) | OrderError::Learnings(_) => {
            RefusalKind::Failed
        }
    };
    Refusal::new(kind, error)
}

async fn answer(system: &System, orders: &Semaphore, request: Request) -> Result<Value, Refusal> {
    match request.action.as_str() {
        "tree" => Ok(serde_json::to_value(system.snapshot()).map_err(RequestError::from)?),
        "actor" => {
            let ActorBody { path } = body(&request)?;
            check_path(&path)?;
            let Some(detail) = system.describe(&path) else { return Err(not_found(system, path)) };
            Ok(serde_json::to_value(detail).map_err(RequestError::from)?)
        }
        "operate" => {
            let order: OrderBody = body(&request)?;
            let _one = orders.try_acquire().map_err(|_| RequestError::Busy)?;
            operate(system, &order, &request.by).await
        }
        other => Err(RequestError::UnknownAction(other.to_owned()).into()),
    }
}

async fn operate(system: &System, order: &OrderBody, by: &str) -> Result<Value, Refusal> {
    check_path(&order.path)?;
    let operation: Operation = order.operation.parse().map_err(|error| refusal(&error))?;
    check_reason(order.why.as_deref())?;
    match system.operate(operation, &order.path, by, order.why.as_deref()).await {
        Ok(()) => Ok(json!({ "operation": operation, "path": order.path, "actor": system.describe(&order.path) })),
        Err(OperateError::NotFound(path)) => Err(not_found(system, path)),
        Err(error) => Err(refusal(&error)),
    }
}

fn check_reason(why: Option<&str>) -> Result<(), RequestError> {
    let chars = why.map_or(0, |why| why.chars().count());
    if chars > EVENT_TEXT_CHARS_MAX { Err(RequestError::LongReason(chars)) } else { Ok(()) }
}

/// Where a queue stands in the tree, or all of them.
fn path_of(queue: &str) -> String {
    if queue == QUEUE_ANY { "/queues".to_owned() } else { format!("/queues/{queue}") }
}

fn check_path(path: &str) -> Result<(), RequestError> {
    if path.len() > PATH_BYTES_MAX { Err(RequestError::LongPath(path.len())) } else { Ok(()) }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, RequestError> {
    T::deserialize(&request.body)
        .map_err(|error| RequestError::BadBody { action: request.action.clone(), reason: error.to_string() })
}

fn not_found(system: &System, path: String) -> Refusal {
    let near = nearest_path(&system.snapshot(), &path);
    let refusal = refusal(&OperateError::NotFound(path));
    match near {
        Some(near) => Refusal { hint: Some(format!("did you mean {near}?")), ..refusal },
        None => refusal,
    }
}

/// The path that was probably meant: one that ends with what was written, else the one that is spelled most alike.
fn nearest_path(tree: &TreeNode, wanted: &str) -> Option<String> {
    let mut paths = Vec::new();
    collect(tree, &mut paths);
    let wanted = wanted.trim_matches('/');
    let ends = |path: &&&str| path.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('/'));
    let written = paths.iter().find(ends).filter(|_| !wanted.is_empty()).copied();
    // As a whole, else by its last name.
    let spelled = || nearest(wanted, paths.iter().map(|path| path.trim_start_matches('/')));
    let named = || nearest(last(wanted), paths.iter().map(|path| last(path)));
    let found = written.or_else(spelled).or_else(named)?;
    paths.iter().find(|path| path.ends_with(found)).map(|path| (*path).to_owned())
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn collect<'a>(node: &'a TreeNode, paths: &mut Vec<&'a str>) {
    paths.push(node.path.as_str());
    node.children.iter().for_each(|child| collect(child, paths));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: &str, body: Value) -> Request {
        Request { action: action.into(), body, by: "test".into() }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused_with_a_code() {
        let system = System::new("x");
        let long = json!({ "operation": "restart", "path": "/", "why": "x".repeat(EVENT_TEXT_CHARS_MAX + 1) });
        let cases = [
            (request("dance", json!({})), "E0715"),
            (request("actor", json!({})), "E0716"),
            (request("actor", json!({ "path": 7 })), "E0716"),
            (request("operate", json!("restart")), "E0716"),
            (request("operate", json!({ "operation": "explode", "path": "/" })), "E0938"),
            (request("operate", long), "E0717"),
            (request("actor", json!({ "path": "/nowhere" })), "E0930"),
            (request("actor", json!({ "path": "/".repeat(PATH_BYTES_MAX + 1) })), "E0720"),
        ];
        for (request, code) in cases {
            let answered = answer(&system, &Semaphore::new(1), request.clone()).await;
            assert_eq!(answered.unwrap_err().code, code, "{request:?}");
        }
        let order = request("operate", json!({ "operation": "restart", "path": "/" }));
        assert_eq!(answer(&system, &Semaphore::new(0), order).await.unwrap_err().code, "E0718");
    }

    #[test]
    fn a_wrong_path_leads_to_the_one_that_was_meant() {
        let root = System::new("x").snapshot();
        let node = |path: &str, children: Vec<TreeNode>| {
            let mut node = serde_json::to_value(&root).unwrap();
            node["path"] = path.into();
            node["children"] = serde_json::to_value(children).unwrap();
            serde_json::from_value::<TreeNode>(node).unwrap()
        };
        let queues = node("/queues", vec![node("/queues/default", vec![])]);
        let tree = node("/", vec![node("/services", vec![node("/services/stager", vec![])]), queues]);
        for (wanted, found) in [
            ("stager", Some("/services/stager")),
            ("/stager", Some("/services/stager")),
            ("services/stager", Some("/services/stager")),
            ("/services/stagger", Some("/services/stager")),
            ("/jobs/defualt", Some("/queues/default")),
            ("/queue", Some("/queues")),
            ("/something/else/altogether", None),
            ("", None),
        ] {
            assert_eq!(nearest_path(&tree, wanted).as_deref(), found, "{wanted}");
        }
    }
}
