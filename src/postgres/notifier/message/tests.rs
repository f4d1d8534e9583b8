//! What is read from channels: tables of texts, and properties of any text.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn ident() -> Option<String> {
    Some("any".to_owned())
}

/// Every signal that is sent, and its text.
fn golden() -> Vec<(Signal, &'static str)> {
    let queue = || "media".to_owned();
    let one = || Some("Oban.worker-1.4711".to_owned());
    vec![
        (Signal::Pause { queue: QUEUE_ANY.into(), ident: ident() }, r#"{"action":"pause","queue":"*","ident":"any"}"#),
        (
            Signal::Resume { queue: queue(), ident: one() },
            r#"{"action":"resume","queue":"media","ident":"Oban.worker-1.4711"}"#,
        ),
        (
            Signal::Scale { queue: queue(), ident: ident(), limit: 20 },
            r#"{"action":"scale","queue":"media","ident":"any","limit":20}"#,
        ),
        (
            Signal::Start { queue: queue(), ident: ident(), limit: 5, paused: false },
            r#"{"action":"start","queue":"media","ident":"any","limit":5,"paused":false}"#,
        ),
        (Signal::Stop { queue: queue(), ident: ident() }, r#"{"action":"stop","queue":"media","ident":"any"}"#),
        (Signal::Pkill { job_id: 4711 }, r#"{"action":"pkill","job_id":4711}"#),
    ]
}

/// One valid text of each kind of message that is read, on every channel.
fn valid() -> Vec<String> {
    let others = [
        r#"{"queue":"media"}"#,
        r#"{"down":"Oban"}"#,
        r#"{"action":"resign","node":"host.4711","name":"Oban"}"#,
        r#"{"node":"app@host","ping":true}"#,
        r#"{"instance":"worker-1.4711","number":7}"#,
    ];
    golden().into_iter().map(|(_, text)| text).chain(others).map(str::to_owned).collect()
}

const KINDS: usize = 11;

#[test]
fn there_is_a_valid_message_of_each_kind() {
    let valid = valid();
    assert_eq!(valid.len(), KINDS);
    for text in &valid {
        let read = [
            decode_insert(text).is_ok(),
            decode_signal(text).is_ok(),
            decode_leader(text).is_ok(),
            decode_sonar(text).is_ok(),
            decode_echo(text).is_ok(),
        ];
        assert!(read.contains(&true), "{text}");
    }
}

#[test]
fn golden_messages_of_insert_and_signal() {
    assert_eq!(serde_json::to_string(&Insert { queue: "media".into() }).unwrap(), r#"{"queue":"media"}"#);
    for (signal, text) in golden() {
        assert_eq!(serde_json::to_string(&signal).unwrap(), text);
        assert_eq!(decode_signal(text), Ok(signal));
    }
}

#[test]
fn reads_what_oban_writes() {
    assert_eq!(decode_insert(r#"{"queue":"default"}"#), Ok(Insert { queue: "default".into() }));
    let queue = || "a".to_owned();
    for (payload, signal) in [
        (json!({"action": "resume", "queue": "a", "extra": 1}), Signal::Resume { queue: queue(), ident: None }),
        (
            json!({"action": "scale", "queue": "a", "ident": "any", "limit": 3, "node": "n"}),
            Signal::Scale { queue: queue(), ident: ident(), limit: 3 },
        ),
        (
            json!({"action": "start", "queue": "a", "ident": "any", "limit": 3, "local_only": false}),
            Signal::Start { queue: queue(), ident: ident(), limit: 3, paused: false },
        ),
        (json!({"action": "stop", "queue": "a", "ident": null}), Signal::Stop { queue: queue(), ident: None }),
    ] {
        assert_eq!(decode_signal(&payload.to_string()), Ok(signal));
    }
}

#[test]
fn reads_whose_leader_leaves() {
    assert_eq!(decode_leader(r#"{"down":"Oban"}"#), Ok(Some("Oban".into())));
    let python = r#"{"action":"resign","node":"a.1","name":"Oban"}"#;
    assert_eq!(decode_leader(python), Ok(None), "of another lease");
    assert!(decode_leader(r#"{"down":7}"#).is_err() && decode_leader("Z:x").is_err());
}

#[test]
fn reads_who_is_there() {
    assert_eq!(decode_sonar(r#"{"node":"app@host","ping":true,"time":1}"#), Ok("app@host".into()));
    assert!(matches!(decode_sonar(r#"{"ping":true}"#), Err(Undecodable::Key { key: "node", .. })));
    let ping = Ping { instance: "one".into(), number: u64::MAX };
    assert_eq!(decode_echo(&serde_json::to_string(&ping).unwrap()), Ok(ping));
    assert!(matches!(decode_echo(r#"{"instance":"one","number":-1}"#), Err(Undecodable::Key { key: "number", .. })));
}

#[test]
fn a_signal_is_for_whom_it_names() {
    let pause = |ident: Option<&str>| Signal::Pause { queue: "a".into(), ident: ident.map(Into::into) };
    for ident in [None, Some("any"), Some("Oban.n")] {
        assert!(pause(ident).is_for("Oban.n"), "{ident:?}");
    }
    assert!(!pause(Some("Oban.m")).is_for("Oban.n"));
    assert!(Signal::Pkill { job_id: 1 }.is_for("Oban.n"));
}

#[test]
fn says_why_it_cannot_read() {
    assert!(matches!(decode_insert("H4sIAAAA"), Err(Undecodable::Compressed { .. })));
    assert!(matches!(decode_signal("Z:H4sIAAAA"), Err(Undecodable::Compressed { .. })));
    assert_eq!(decode_signal(r#"{"action":"explode","queue":"a"}"#), Err(Undecodable::Action));
    assert!(matches!(decode_insert("[1]"), Err(Undecodable::NoObject { .. })));
    assert!(matches!(decode_insert(&"[".repeat(7_000)), Err(Undecodable::NoObject { .. })));
    assert!(matches!(decode_insert(&"x".repeat(9_000)), Err(Undecodable::TooLarge { bytes: 9_000 })));
    for (payload, key) in [
        (json!({"action": "scale", "queue": "a", "limit": -1}), "limit"),
        (json!({"action": "scale", "queue": "a", "limit": 4_294_967_296_u64}), "limit"),
        (json!({"action": "pause", "queue": 7}), "queue"),
        (json!({"action": "pause", "queue": "a", "ident": 7}), "ident"),
        (json!({"action": "start", "queue": "a", "limit": 1, "paused": "yes"}), "paused"),
        (json!({"action": "pkill", "job_id": "9"}), "job_id"),
        (json!({"queue": "a"}), "action"),
    ] {
        match decode_signal(&payload.to_string()) {
            Err(Undecodable::Key { key: found, .. }) => assert_eq!(found, key, "{payload}"),
            other => panic!("{payload}: {other:?}"),
        }
    }
}

/// Every decoder on one text. What an error says never repeats the text, which may be anything, and names what is
/// wrong.
fn decode_all(payload: &str) {
    let errors = [
        decode_insert(payload).err(),
        decode_signal(payload).err(),
        decode_leader(payload).err(),
        decode_sonar(payload).err(),
        decode_echo(payload).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!((4..200).contains(&error.to_string().len()) && !error.kind().is_empty(), "{error}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(any|\\*|default|pause|scale|start|pkill|.{0,20})".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = "(queue|action|ident|limit|paused|job_id|node|down|instance|number|.{0,8})";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let ident = prop::option::of("[!-~]{1,40}");
    ("\\PC{1,30}", ident, 1..=u32::MAX, any::<bool>(), 1..=i64::MAX, 0..6).prop_map(
        |(queue, ident, limit, paused, job_id, which)| match which {
            0 => Signal::Pause { queue, ident },
            1 => Signal::Resume { queue, ident },
            2 => Signal::Scale { queue, ident, limit },
            3 => Signal::Start { queue, ident, limit, paused },
            4 => Signal::Stop { queue, ident },
            _ => Signal::Pkill { job_id },
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(payload in ".{0,200}") {
        decode_all(&payload);
    }

    #[test]
    fn any_bytes_that_are_text_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_json_is_read_or_refused(json in any_json()) {
        decode_all(&json.to_string());
    }

    #[test]
    fn a_valid_message_with_one_value_changed_is_read_or_refused(
        which in 0..KINDS, key in 0..5_usize, value in any_json(), drop in any::<bool>(),
    ) {
        let mut message: Value = serde_json::from_str(&valid()[which]).unwrap();
        let object = message.as_object_mut().unwrap();
        if let Some(key) = object.keys().nth(key).cloned() {
            if drop { object.remove(&key) } else { object.insert(key, value) };
        }
        decode_all(&message.to_string());
    }

    #[test]
    fn a_valid_message_with_bytes_changed_or_cut_is_read_or_refused(
        which in 0..KINDS, changes in prop::collection::vec((0..100_usize, any::<u8>()), 0..4), cut in 0..100_usize,
    ) {
        let mut bytes = valid()[which].as_bytes().to_vec();
        bytes.truncate(cut.max(1));
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        decode_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn who_is_named_is_read_whatever_is_beside_it(name in "\\PC{1,60}", number in any::<u64>(), beside in any_json()) {
        let text = |key: &str| json!({key: name, "number": number, "other": beside}).to_string();
        prop_assert_eq!(decode_insert(&text("queue")), Ok(Insert { queue: name.clone() }));
        prop_assert_eq!(decode_leader(&text("down")), Ok(Some(name.clone())));
        prop_assert_eq!(decode_leader(&text("node")), Ok(None), "about no leader that leaves");
        prop_assert_eq!(decode_sonar(&text("node")), Ok(name.clone()));
        prop_assert_eq!(decode_echo(&text("instance")), Ok(Ping { instance: name, number }));
    }

    #[test]
    fn what_is_written_is_read(signal in any_signal(), queue in "\\PC{1,127}", padding in 0..3_000_usize) {
        let text = encoding::write(&signal).unwrap();
        prop_assert_eq!(decode_signal(text.as_str()), Ok(signal.clone()));
        let insert = Insert { queue };
        prop_assert_eq!(decode_insert(encoding::write(&insert).unwrap().as_str()), Ok(insert));
        // The compressed forms too, as others write them.
        let mut long = serde_json::to_value(&signal).unwrap();
        long["padding"] = "x".repeat(encoding::PAYLOAD_BYTES_MAX + padding).into();
        let packed = encoding::write(&long).unwrap();
        prop_assert!(packed.as_str().starts_with("H4sI"));
        prop_assert_eq!(decode_signal(packed.as_str()), Ok(signal.clone()));
        prop_assert_eq!(decode_signal(&format!("Z:{}", packed.as_str())), Ok(signal));
    }
}
