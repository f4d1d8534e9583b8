//! The four types of learnings.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PAYLOAD_BYTES_MAX;
use super::cell::Cell;
use super::check::{bad, count, name, share, word};
use super::error::LearningError;
use super::routing::ModelRouting;

/// Version of the payloads' shapes.
pub const SCHEMA_VERSION: i32 = 1;

/// Most benchmarks of one learning.
const BENCHMARKS_MAX: usize = 256;

/// What a learning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Which models serve a cell.
    ModelRouting,
    /// A way of working that succeeds again and again.
    PatternDiscovery,
    /// A proven claim: one model is as good as another and costs less.
    CostOptimization,
    /// What was measured, for people to look at.
    PerformanceBenchmark,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 4] =
        [Self::ModelRouting, Self::PatternDiscovery, Self::CostOptimization, Self::PerformanceBenchmark];

    /// The word in the log and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModelRouting => "model_routing",
            Self::PatternDiscovery => "pattern_discovery",
            Self::CostOptimization => "cost_optimization",
            Self::PerformanceBenchmark => "performance_benchmark",
        }
    }
}

/// What a learning says, by its type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Payload {
    /// See [`Kind::ModelRouting`].
    ModelRouting(ModelRouting),
    /// See [`Kind::PatternDiscovery`].
    PatternDiscovery(PatternDiscovery),
    /// See [`Kind::CostOptimization`].
    CostOptimization(CostOptimization),
    /// See [`Kind::PerformanceBenchmark`].
    PerformanceBenchmark(PerformanceBenchmark),
}

/// `pattern_discovery`. Its key is the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternDiscovery {
    /// Such as `classifier>decomposition>coder`.
    pub pattern_name: String,
    /// What it consists of, an object.
    pub pattern_definition: Value,
}

/// `cost_optimization`. Its key is the cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostOptimization {
    /// What it saves.
    pub estimated_savings: EstimatedSavings,
    /// What to prefer to what.
    pub settings: Preference,
}

/// What a claim saves, for each success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimatedSavings {
    /// Share of the cost, 0 to 1. A claim that is taken back prefers what it was compared with, and saves 0.
    pub fraction: f64,
    /// Nano-dollars a success.
    pub per_success_nanousd: i64,
}

/// Which model to prefer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// Where it holds.
    pub cell: Cell,
    /// The cheaper model that is not worse.
    pub prefer: String,
    /// The model it was compared with.
    pub instead_of: String,
}

/// `performance_benchmark`. Its key is the cell of its benchmarks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerformanceBenchmark {
    /// One a model, all of one cell.
    pub benchmarks: Vec<Benchmark>,
}

/// What was measured of one model in one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// Type of the jobs.
    pub job_type: String,
    /// Route of the requests.
    pub route: String,
    /// Name in `[models]`.
    pub model: String,
    /// Attempts that say something about the model.
    pub n: u64,
    /// Share of them that succeeded.
    pub success_rate: f64,
    /// Lower end of Wilson's 95 % interval of the share.
    pub success_low: f64,
    /// Its upper end.
    pub success_high: f64,
    /// Nano-dollars of all attempts for each success; `None` without a success or without prices.
    pub cost_per_success_nanousd: Option<i64>,
    /// Half of the attempts took at most so long.
    pub latency_p50_ms: Option<u64>,
    /// 95 % of them did.
    pub latency_p95_ms: Option<u64>,
}

impl Payload {
    /// Reads and checks a payload of the type `kind`.
    ///
    /// # Errors
    /// `E1102`, `E1103`, `E1104` of [`LearningError`].
    pub fn read(kind: &str, schema_version: i32, payload: &Value) -> Result<Self, LearningError> {
        let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind && schema_version == SCHEMA_VERSION);
        let Some(known) = known else {
            let names = Kind::ALL.map(Kind::as_str).join(", ");
            return Err(LearningError::Unknown {
                kind: kind.to_owned(),
                schema_version,
                known: format!("{names} with version {SCHEMA_VERSION}"),
            });
        };
        let read = match known {
            Kind::ModelRouting => Self::ModelRouting(shape(known, payload)?),
            Kind::PatternDiscovery => Self::PatternDiscovery(shape(known, payload)?),
            Kind::CostOptimization => Self::CostOptimization(shape(known, payload)?),
            Kind::PerformanceBenchmark => Self::PerformanceBenchmark(shape(known, payload)?),
        };
        read.check()?;
        Ok(read)
    }

    /// Whether its values are allowed. What is published is checked too, so that a mistake here reaches nobody.
    ///
    /// # Errors
    /// `E1104`, naming the first value that is not.
    pub fn check(&self) -> Result<(), LearningError> {
        match self {
            Self::ModelRouting(routing) => routing.check(),
            Self::PatternDiscovery(pattern) => pattern.check(),
            Self::CostOptimization(claim) => claim.check(),
            Self::PerformanceBenchmark(measured) => measured.check(),
        }?;
        let bytes = self.to_json().to_string().len();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(bad(self.kind(), "its size", bytes, format!("at most {PAYLOAD_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ModelRouting(_) => Kind::ModelRouting,
            Self::PatternDiscovery(_) => Kind::PatternDiscovery,
            Self::CostOptimization(_) => Kind::CostOptimization,
            Self::PerformanceBenchmark(_) => Kind::PerformanceBenchmark,
        }
    }

    /// What it is about: the latest learning of one type and key holds.
    pub fn key(&self) -> String {
        let cell = match self {
            Self::ModelRouting(routing) => routing.routing_rules.first().map(|rule| rule.cell()),
            Self::PatternDiscovery(pattern) => return pattern.pattern_name.clone(),
            Self::CostOptimization(claim) => Some(claim.settings.cell.clone()),
            Self::PerformanceBenchmark(measured) => measured.benchmarks.first().map(Benchmark::cell),
        };
        cell.map(|cell| cell.to_string()).unwrap_or_default()
    }

    /// As it stands in the log.
    pub fn to_json(&self) -> Value {
        // Fails only for keys that are no text, which these types do not have.
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn shape<T: DeserializeOwned>(kind: Kind, payload: &Value) -> Result<T, LearningError> {
    T::deserialize(payload).map_err(|error| LearningError::Shape { kind, reason: error.to_string() })
}

impl PatternDiscovery {
    fn check(&self) -> Result<(), LearningError> {
        name(Kind::PatternDiscovery, "pattern_name", &self.pattern_name)?;
        if self.pattern_definition.is_object() {
            return Ok(());
        }
        Err(bad(Kind::PatternDiscovery, "pattern_definition", &self.pattern_definition, "an object"))
    }
}

impl CostOptimization {
    fn check(&self) -> Result<(), LearningError> {
        let kind = Kind::CostOptimization;
        let Preference { prefer, instead_of, .. } = &self.settings;
        name(kind, "prefer", prefer)?;
        name(kind, "instead_of", instead_of)?;
        if prefer == instead_of {
            return Err(bad(kind, "instead_of", instead_of, "another model than prefer"));
        }
        let EstimatedSavings { fraction, per_success_nanousd } = self.estimated_savings;
        share(kind, "fraction", fraction)?;
        if per_success_nanousd < 0 {
            return Err(bad(kind, "per_success_nanousd", per_success_nanousd, "0 or more"));
        }
        Ok(())
    }
}

impl PerformanceBenchmark {
    fn check(&self) -> Result<(), LearningError> {
        let kind = Kind::PerformanceBenchmark;
        count(kind, "benchmarks", self.benchmarks.len(), BENCHMARKS_MAX)?;
        let cell = self.benchmarks.first().map(Benchmark::cell);
        for (index, benchmark) in self.benchmarks.iter().enumerate() {
            benchmark.check()?;
            if Some(benchmark.cell()) != cell {
                return Err(bad(kind, "benchmarks", benchmark.cell().to_string(), "all of one cell"));
            }
            if self.benchmarks[..index].iter().any(|earlier| earlier.model == benchmark.model) {
                return Err(bad(kind, "benchmarks", &benchmark.model, "each model once"));
            }
        }
        Ok(())
    }
}

impl Benchmark {
    /// Where it was measured.
    pub fn cell(&self) -> Cell {
        Cell::new(&*self.job_type, &*self.route)
    }

    fn check(&self) -> Result<(), LearningError> {
        let kind = Kind::PerformanceBenchmark;
        word(kind, "job_type", &self.job_type)?;
        word(kind, "route", &self.route)?;
        name(kind, "model", &self.model)?;
        share(kind, "success_rate", self.success_rate)?;
        share(kind, "success_low", self.success_low)?;
        share(kind, "success_high", self.success_high)?;
        if self.success_low > self.success_rate || self.success_rate > self.success_high {
            let interval = (self.success_low, self.success_rate, self.success_high);
            return Err(bad(kind, "success_low, success_rate, success_high", interval, "in rising order"));
        }
        Ok(())
    }
}
