//! Values from the environment and the command line: text by dotted key, checked like those of a file.
//!
//! They change what the files define: a queue, provider or model that no file names is an error, because in a name it
//! could not be told from a typing error. Task types have no table of their own and may be added.

use super::ENV_PREFIX;
use super::layer::Layer;
use super::origin::Origin;
use super::problem::{Fault, Flaw, Place, Problems};
use super::schema::{Node, ROOT};
use super::suggest::nearest;
use super::walk::unknown_key;

/// One value with the path that its name stands for.
#[derive(Debug)]
pub(super) struct Given<'a> {
    origin: Origin,
    path: Vec<String>,
    text: &'a str,
}

impl<'a> Given<'a> {
    /// A variable `SINGULARITY__A__B`; `None` for all others.
    pub(super) fn variable(name: &str, text: &'a str) -> Option<Self> {
        let path = name.strip_prefix(ENV_PREFIX)?.to_lowercase().split("__").map(str::to_owned).collect();
        Some(Self { origin: Origin::Environment { name: name.to_owned() }, path, text })
    }

    /// A setting `a.b`.
    pub(super) fn setting(key: &str, text: &'a str) -> Self {
        let path = key.split('.').map(str::to_owned).collect();
        Self { origin: Origin::Override { key: key.to_owned() }, path, text }
    }

    /// The name with the segment at `index` replaced.
    fn renamed(&self, index: usize, segment: &str) -> String {
        let mut path = self.path.clone();
        if let Some(place) = path.get_mut(index) {
            segment.clone_into(place);
        }
        match self.origin {
            Origin::Environment { .. } => format!("{ENV_PREFIX}{}", path.join("__").to_uppercase()),
            Origin::File { .. } | Origin::Override { .. } | Origin::Program | Origin::Default => path.join("."),
        }
    }
}

/// The layer of `given`, the later of two for one key. `lower` holds the entries that may be changed; `None` when they
/// are not known because the file could not be read.
pub(super) fn read<'a>(
    given: impl IntoIterator<Item = Given<'a>>,
    lower: Option<&[Layer]>,
    problems: &mut Problems,
) -> Layer {
    let mut layer = Layer::default();
    for one in given {
        let key = one.path.join(".");
        let place = Place::of(one.origin.clone());
        let checked = resolve(&one, lower).map_err(|flaw| vec![flaw]).and_then(|node| match node {
            Node::Leaf(kind) => kind.check(&kind.read(one.text)),
            Node::Table(_) | Node::Named { .. } => Err(vec![table_named(&one, node)]),
        });
        match checked {
            Ok(value) => layer.set(&key, value, place),
            Err(flaws) => flaws.into_iter().for_each(|flaw| problems.push(place.clone(), &*key, flaw)),
        }
    }
    layer
}

/// The node that the path leads to.
fn resolve(given: &Given<'_>, lower: Option<&[Layer]>) -> Result<&'static Node, Flaw> {
    let mut node = &ROOT;
    for (index, segment) in given.path.iter().enumerate() {
        let above = given.path[..index].join(".");
        node = match node {
            Node::Leaf(_) => {
                return Err(Flaw::new(Fault::UnknownKey, format!("{above} is a value and has no keys below it")));
            }
            Node::Table(table) => table.field(segment).ok_or_else(|| {
                let near =
                    nearest(segment, table.names()).map(|near| format!("did you mean {}?", given.renamed(index, near)));
                unknown_key(table, &above, segment).maybe_suggest(near)
            })?,
            Node::Named { entry: entry @ Node::Leaf(_), name, .. } => {
                name(segment)?;
                entry
            }
            Node::Named { entry, .. } => {
                let names = || lower.into_iter().flatten().flat_map(|layer| layer.names_in(&above));
                if lower.is_some() && !names().any(|name| name == segment) {
                    return Err(missing_entry(given, index, &above, names()));
                }
                entry
            }
        };
    }
    Ok(node)
}

fn missing_entry<'n>(given: &Given<'_>, index: usize, table: &str, names: impl Iterator<Item = &'n str>) -> Flaw {
    let segment = &given.path[index];
    let message = format!("[{table}.{segment}] is not defined, and entries are added in a file only");
    let near = nearest(segment, names).map(|near| format!("did you mean {}?", given.renamed(index, near)));
    Flaw::new(Fault::Override, message)
        .suggest(format!("add [{table}.{segment}] to the configuration file"))
        .maybe_suggest(near)
}

fn table_named(given: &Given<'_>, node: &Node) -> Flaw {
    let next = match node {
        Node::Table(table) => table.names().next().unwrap_or_default(),
        Node::Named { .. } | Node::Leaf(_) => "NAME",
    };
    let last = given.path.len().saturating_sub(1);
    let separator = if matches!(given.origin, Origin::Environment { .. }) { "__" } else { "." };
    let example = given.path.last().map(|segment| given.renamed(last, &format!("{segment}{separator}{next}")));
    Flaw::new(Fault::Override, "names a table, and only single values can be given here")
        .suggest(format!("name one of its keys, for example {}", example.unwrap_or_default()))
}
