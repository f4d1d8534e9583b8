//! Walks a parsed file along the schema and reports every problem, where serde would stop at the first.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::kind::{Kind, Raw, Rule, shown};
use super::layer::Layer;
use super::problem::{Fault, Flaw, Problems};
use super::rules;
use super::schema::{Layering, Node, ROOT, Table};
use super::suggest::nearest;

/// Known keys that are listed when none is near an unknown one.
const KEYS_LISTED_MAX: usize = 24;

/// Keys that there were once, by their table, and what to do instead.
const RETIRED: [(&str, &str, &str); 1] = [(
    "services.leader",
    "campaign",
    "remove it: an instance campaigns unless nodes of another runtime lead; to decide it yourself, write mode = \"standalone\", \
     \"guest\" or \"peer\" at the top of the file",
)];

/// The layer of a file. With a syntax error, only those are reported: what a broken file means is a guess.
pub(super) fn read(document: &Document<'_>, text: &str, problems: &mut Problems) -> Option<Layer> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = document.place(&error.span().unwrap_or_default(), None);
        problems.push(place, "", Flaw::new(Fault::Syntax, error.message()));
    }
    if !errors.is_empty() {
        return None;
    }
    let mut walk = Walk { document, layer: Layer::default(), problems };
    if let Node::Table(root) = &ROOT {
        walk.table(root, "", table.get_ref());
    }
    Some(walk.layer)
}

type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;

struct Walk<'a> {
    document: &'a Document<'a>,
    layer: Layer,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    fn table(&mut self, schema: &Table, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            match schema.field(key.get_ref()) {
                Some(node) => self.node(node, &below(path, key.get_ref()), key, value),
                None => {
                    let flaw = unknown_key(schema, path, key.get_ref());
                    self.problems.push(self.document.place(&key.span(), None), below(path, key.get_ref()), flaw);
                }
            }
        }
    }

    fn node(&mut self, node: &Node, path: &str, key: &Key<'_>, value: &Spanned<DeValue<'_>>) {
        let place = self.document.place(&key.span(), None);
        match (node, value.get_ref()) {
            (Node::Table(schema), DeValue::Table(table)) => {
                if schema.whole {
                    self.layer.replaced.push(path.to_owned());
                }
                self.layer.set_table(path, place);
                self.table(schema, path, table);
            }
            (Node::Named { entry, layering, name }, DeValue::Table(table)) => {
                if *layering == Layering::Replace && !table.is_empty() {
                    self.layer.replaced.push(path.to_owned());
                }
                self.named(entry, *layering, *name, path, table);
            }
            (Node::Leaf(kind), value_here) => self.leaf(*kind, path, &value.span(), value_here),
            (Node::Table(_) | Node::Named { .. }, other) => {
                self.problems.push(place, path, no_table(node, path, other));
            }
        }
    }

    fn named(&mut self, entry: &Node, layering: Layering, name: Rule, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let entry_path = below(path, key.get_ref());
            if let Err(flaw) = name(key.get_ref()) {
                self.problems.push(self.document.place(&key.span(), None), entry_path, flaw);
                continue;
            }
            if let (Layering::WholeWith(field), DeValue::Table(table)) = (layering, value.get_ref())
                && table.contains_key(field)
            {
                self.layer.replaced.push(entry_path.clone());
            }
            self.node(entry, &entry_path, key, value);
        }
    }

    fn leaf(&mut self, kind: Kind, path: &str, span: &Range<usize>, value: &DeValue<'_>) {
        let place = self.document.place(span, Some(kind));
        match kind.check(&raw(value)) {
            Ok(checked) => self.layer.set(path, checked, place),
            Err(flaws) => {
                for flaw in flaws {
                    let element = flaw.element.and_then(|index| value.as_array().and_then(|array| array.get(index)));
                    let place = match element {
                        Some(element) => self.document.place(&element.span(), Some(kind)),
                        None => place.clone(),
                    };
                    self.problems.push(place, path, flaw);
                }
            }
        }
    }
}

/// A dotted key for people: names that TOML would have to quote are quoted, and long ones cut.
fn below(path: &str, name: &str) -> String {
    let mut key = String::from(path);
    if !key.is_empty() {
        key.push('.');
    }
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare {
        key.push_str(name);
    } else {
        // Writing to a String cannot fail.
        let _infallible = write!(key, "\"{}\"", shown(name));
    }
    key
}

/// What is said of a key that `schema`, the table at `path`, does not have.
pub(super) fn unknown_key(schema: &Table, path: &str, name: &str) -> Flaw {
    let here = if path.is_empty() { "at the top level".into() } else { format!("in [{path}]") };
    let flaw = Flaw::new(Fault::UnknownKey, format!("unknown key \"{}\" {here}", shown(name)));
    if let Some((_, _, instead)) = RETIRED.iter().find(|(table, key, _)| (*table, *key) == (path, name)) {
        return flaw.suggest(*instead);
    }
    if let Some(near) = nearest(name, schema.names()) {
        return flaw.suggest(format!("did you mean \"{near}\"?"));
    }
    if let Some((_, instead)) = rules::QUEUE_KEYS_OF_OBAN.iter().find(|(key, _)| *key == name)
        && schema.field("dispatch_cooldown").is_some()
    {
        return flaw.suggest(*instead);
    }
    if let Node::Table(root) = &ROOT
        && matches!(root.field(name), Some(Node::Leaf(_)))
    {
        return flaw.suggest(format!("move it: \"{name}\" stands at the top of the file, before the first table"));
    }
    if let Some(table) = ROOT.home_of(name) {
        return flaw.suggest(format!("move it: \"{name}\" is a key of [{table}]"));
    }
    let known: Vec<&str> = schema.names().take(KEYS_LISTED_MAX).collect();
    let more = if schema.names().count() > KEYS_LISTED_MAX { ", …" } else { "" };
    flaw.suggest(format!("use one of the keys that are known here: {}{more}", known.join(", ")))
}

/// What is said of a value where a table belongs. The value is not repeated: it may be a key or a password.
fn no_table(node: &Node, path: &str, value: &DeValue<'_>) -> Flaw {
    let found = match value {
        DeValue::Array(_) => "a list",
        DeValue::String(_) => "text",
        _ => "a single value",
    };
    let flaw = Flaw::new(Fault::WrongType, format!("expected a table, found {found}"));
    match node {
        Node::Named { .. } => flaw.suggest(format!("name the entries: [{path}.NAME]")),
        Node::Table(table) if table.field("limit").is_some() && value.is_integer() => {
            flaw.suggest(format!("write [{path}] and below it the line limit = …"))
        }
        Node::Table(_) | Node::Leaf(_) => flaw.suggest(format!("write [{path}] and its keys below it")),
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Huge(value.to_string()),
        },
        DeValue::Float(value) => value.as_str().parse().map_or_else(|_| Raw::Huge(value.to_string()), Raw::Number),
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(table) => Raw::Table(object(table)),
        DeValue::Datetime(_) => Raw::Time,
    }
}

/// A table as a JSON object; `None` when something in it has no JSON form.
fn object(table: &DeTable<'_>) -> Option<Map<String, Value>> {
    table.iter().map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?))).collect()
}

fn json(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::Boolean(value) => Some((*value).into()),
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix()).ok().map(Value::from),
        DeValue::Float(value) => value.as_str().parse().ok().and_then(Number::from_f64).map(Value::Number),
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>().map(Value::Array),
        DeValue::Table(table) => object(table).map(Value::Object),
        DeValue::Datetime(_) => None,
    }
}
