//! The markets, what must hold in them, and the table of what was measured.

use super::market::{Market, Run, STEP};

const ALWAYS: usize = usize::MAX;

macro_rules! model {
    ($success:expr, $cost:expr) => {
        |_| Some(($success, $cost))
    };
    ($success:expr, $cost:expr; from $from:expr) => {
        |job| (job >= $from).then_some(($success, $cost))
    };
    ($success:expr, $cost:expr; at $at:expr, $later_success:expr, $later_cost:expr) => {
        |job| Some(if job < $at { ($success, $cost) } else { ($later_success, $later_cost) })
    };
}

const EQUAL: Market =
    Market { name: "equal models", models: &[model!(0.92, 1e7), model!(0.92, 1e7)], jobs: 6_000, delay: 0, runs: 100 };
const WORSE: Market = Market {
    name: "4 points worse, 40 % cheaper",
    models: &[model!(0.92, 1e7), model!(0.88, 6e6)],
    jobs: 6_000,
    delay: 0,
    runs: 300,
};
const BETTER: Market = Market {
    name: "3 points better, 40 % cheaper",
    models: &[model!(0.92, 1e7), model!(0.95, 6e6)],
    jobs: 4_000,
    delay: 0,
    runs: 100,
};
const CHEAPER: Market = Market {
    name: "as good, 40 % cheaper",
    models: &[model!(0.92, 1e7), model!(0.92, 6e6)],
    jobs: 12_000,
    delay: 0,
    runs: 40,
};
const PRICE_DROP: Market = Market {
    name: "price halves at job 2,000",
    models: &[model!(0.92, 1e7), model!(0.93, 1.2e7; at 2_000, 0.93, 6e6)],
    jobs: 6_000,
    delay: 0,
    runs: 100,
};
const QUALITY_DROP: Market = Market {
    name: "10 points worse from job 3,000",
    models: &[model!(0.92, 1e7), model!(0.92, 6e6; at 3_000, 0.82, 6e6)],
    jobs: 5_000,
    delay: 0,
    runs: 200,
};
const NEW_MODEL: Market = Market {
    name: "a new model at job 2,000",
    models: &[model!(0.92, 1e7), model!(0.92, 8e6), model!(0.94, 5e6; from 2_000)],
    jobs: 6_000,
    delay: 0,
    runs: 100,
};
const TWO_NEW: Market = Market {
    name: "two candidates from the start",
    models: &[model!(0.92, 1e7), model!(0.92, 8e6), model!(0.94, 5e6)],
    jobs: 4_000,
    delay: 0,
    runs: 100,
};
const DELAYED: Market = Market {
    name: "better, results 300 jobs late",
    models: &[model!(0.92, 1e7), model!(0.95, 6e6)],
    jobs: 4_000,
    delay: 300,
    runs: 100,
};
const HARDER: Market = Market {
    name: "all 10 points worse from 3,000",
    models: &[model!(0.92, 1e7; at 3_000, 0.82, 1e7), model!(0.92, 6e6; at 3_000, 0.82, 6e6)],
    jobs: 9_000,
    delay: 0,
    runs: 100,
};

/// Without optimisation arithmetic takes ten times as long: fewer runs then, and shorter ones where that tells as
/// much.
fn scaled(market: Market, jobs: usize) -> Market {
    if !cfg!(debug_assertions) {
        return market;
    }
    // Wrong claims are rare, so that their market needs all of its runs.
    let runs = if market.runs == WORSE.runs { market.runs } else { market.runs / 10 };
    Market { runs, jobs: market.jobs.min(jobs), ..market }
}

/// All runs of a market, on as many threads as there are processors.
fn runs(market: &Market) -> Vec<Run> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let seeds = (worker..market.runs).step_by(threads as usize);
                scope.spawn(move || seeds.map(|seed| market.run(seed)).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// After how many jobs from `from` on the share of `model` meets `holds` for the first time.
fn jobs_until(run: &Run, from: usize, model: usize, holds: fn(f64) -> bool) -> usize {
    let steps = run.weights.iter().enumerate().skip(from / STEP);
    let found =
        steps.filter(|(_, weights)| weights.len() > model && holds(weights[model])).map(|(step, _)| step).next();
    found.map_or(ALWAYS, |step| step * STEP - from)
}

/// The value that this share of the sorted values does not exceed.
fn quantile(mut values: Vec<usize>, share: f64) -> usize {
    values.sort_unstable();
    values[((values.len() as f64 * share).ceil() as usize).saturating_sub(1)]
}

fn jobs(value: usize) -> String {
    if value == ALWAYS { "never".into() } else { value.to_string() }
}

struct Line {
    market: Market,
    /// Which model is to be given 80 %, or left, from which job on.
    target: Option<(usize, usize, bool)>,
    /// Claims for models of which they would be wrong.
    wrong: fn(usize) -> bool,
    runs: Vec<Run>,
}

impl Line {
    fn of(market: Market, target: Option<(usize, usize, bool)>, wrong: fn(usize) -> bool) -> Self {
        Self { market, target, wrong, runs: runs(&market) }
    }

    fn until(&self, share: f64) -> usize {
        let Some((model, from, rises)) = self.target else { return ALWAYS };
        let holds: fn(f64) -> bool = if rises { |share| share >= 0.8 } else { |share| share <= 0.051 };
        quantile(self.runs.iter().map(|run| jobs_until(run, from, model, holds)).collect(), share)
    }

    fn with_claims(&self, wrong: bool) -> usize {
        let counts = |run: &&Run| run.claims.iter().any(|(_, model)| (self.wrong)(*model) == wrong);
        self.runs.iter().filter(counts).count()
    }

    fn sum(&self, of: fn(&Run) -> (f64, f64)) -> (f64, f64) {
        self.runs.iter().map(of).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn print(&self) {
        let ratio = |(cost, successes): (f64, f64)| cost / successes;
        let (own, reference, best) = (self.sum(|run| run.own), self.sum(|run| run.reference), self.sum(|run| run.best));
        let n = self.runs.len();
        let total = (self.market.jobs * n) as f64;
        let mean = |of: fn(&Run) -> usize| self.runs.iter().map(of).sum::<usize>() as f64 / n as f64;
        println!(
            "| {:30} | {:4} | {:6} | {:>6} | {:>6} | {:>6} | {:>6} | {:5.1} | {:5.1} | {:7.1} | {:+7.2} | {:6.1} |",
            self.market.name,
            n,
            self.market.jobs,
            self.target.map_or("".into(), |_| jobs(self.until(0.5))),
            self.target.map_or("".into(), |_| jobs(self.until(0.95))),
            self.with_claims(false),
            self.with_claims(true),
            mean(|run| run.rollbacks.len()),
            mean(|run| run.published),
            (1.0 - ratio(own) / ratio(reference)) * 100.0,
            (own.1 - reference.1) / total * 100.0,
            (ratio(own) / ratio(best) - 1.0) * 100.0,
        );
    }
}

/// What [`Line::print`] prints, by name and width.
const COLUMNS: [(&str, usize); 12] = [
    ("market", 30),
    ("runs", 4),
    ("jobs", 6),
    ("median", 6),
    ("95 %", 6),
    ("claims", 6),
    ("wrong", 6),
    ("backs", 5),
    ("publ.", 5),
    ("saved %", 7),
    ("success", 7),
    ("regret", 6),
];

fn print_header() {
    let names = COLUMNS.map(|(name, width)| if width == 30 { format!("{name:30}") } else { format!("{name:>width$}") });
    let lines = COLUMNS.map(|(_, width)| "-".repeat(width - 1) + if width == 30 { "-" } else { ":" });
    println!("| {} |\n| {} |", names.join(" | "), lines.join(" | "));
}

#[test]
fn markets() {
    let none: fn(usize) -> bool = |_| false;
    let any: fn(usize) -> bool = |_| true;
    print_header();
    let show = |market, jobs, target, wrong| {
        let line = Line::of(scaled(market, jobs), target, wrong);
        line.print();
        line
    };
    let equal = show(EQUAL, 1_000, None, any);
    let worse = show(WORSE, 3_000, None, any);
    let better = show(BETTER, 2_000, Some((1, 0, true)), none);
    let cheaper = show(CHEAPER, 3_000, Some((1, 0, true)), none);
    let price = show(PRICE_DROP, 4_000, Some((1, 2_000, true)), none);
    let drop = show(QUALITY_DROP, 4_000, Some((1, 3_000, false)), none);
    let new = show(NEW_MODEL, 4_000, Some((2, 2_000, true)), none);
    let two = show(TWO_NEW, 3_000, Some((2, 0, true)), none);
    let delayed = show(DELAYED, 3_000, Some((1, 0, true)), none);
    let harder = show(HARDER, 9_000, Some((1, 4_000, true)), none);

    assert!(worse.with_claims(true) * 100 <= worse.runs.len(), "wrong claims");
    assert!(equal.with_claims(true) * 20 <= equal.runs.len(), "wrong claims between equal models");
    assert!(better.until(0.95) <= 2_000, "a better and cheaper model has 80 % of the requests");
    assert!(two.until(0.95) <= 2_000, "also where two candidates share the nursery");
    assert!(drop.until(0.95) <= 500, "a model whose success fell is left");
    assert!(new.until(0.5) <= 2_000 && delayed.until(0.5) <= 3_000 && price.until(0.5) <= 2_000);
    assert!(cheaper.until(0.5) <= 2_000 && harder.until(0.5) <= 5_000);
}
