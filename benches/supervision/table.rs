//! The ratios that supervision is held to, measured side by side and printed with their targets.

use std::time::{Duration, Instant};

use super::alone::{self, Kind};
use super::ours::Ours;
use super::{bare, on_one_thread, on_threads, ours};

/// Rounds of each measurement; its median counts.
pub const ROUNDS: usize = 7;

/// Measures in turn, so that whatever else the machine does meets all of them.
fn medians<const N: usize>(mut measure: impl FnMut(usize) -> Duration) -> [f64; N] {
    let mut rounds = [(); N].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        for (which, round) in rounds.iter_mut().enumerate() {
            round.push(measure(which).as_secs_f64());
        }
    }
    rounds.map(|mut round| {
        round.sort_by(f64::total_cmp);
        round[ROUNDS / 2]
    })
}

/// Snapshots that are taken of each tree, as `tree --watch` does.
const SNAPSHOTS: u64 = 10;

/// How long snapshots took.
pub struct Snapshots {
    /// The first one, which takes its memory from the system.
    pub first: Duration,
    /// All of them, the first included, each.
    pub mean: Duration,
}

/// Takes so many snapshots of 100 supervisors with so many children each.
pub async fn snapshots(children: u64, times: u64) -> Snapshots {
    let ours = Ours::start(100).await;
    ours.children(children).await;
    let (mut first, mut all) = (None, Duration::ZERO);
    for _ in 0..times {
        let begin = Instant::now();
        let tree = std::hint::black_box(ours.system.snapshot());
        let took = begin.elapsed();
        all += took;
        first.get_or_insert(took);
        drop(tree);
    }
    ours.end().await;
    Snapshots { first: first.unwrap(), mean: all.div_f64(u32::try_from(times).unwrap().into()) }
}

/// Starts children under a new supervisor.
pub fn started_by_us(threads: usize, children: u64) -> Duration {
    on_threads(threads, async move {
        let ours = Ours::start(1).await;
        let took = ours.children(children).await;
        ours.end().await;
        took
    })
}

/// Starts children under a new bare parent.
pub fn started_bare(threads: usize, children: u64, in_a_row: u64) -> bare::Took {
    on_threads(threads, async move {
        let parent = bare::parent().await;
        let took = bare::start(&parent, children, in_a_row).await;
        bare::end(parent).await;
        took
    })
}

/// Prints every ratio, its target and whether it holds.
pub fn print(quick: bool) {
    let (few, many, times) = if quick { (100, 1_000, 100) } else { (1_000, 100_000, 20_000) };
    if quick {
        println!("\ntried once, with few children and perhaps not optimised: these figures say nothing");
    }
    println!("\nmeasure                                           figure      target  holds");
    let line = |name: &str, figure: f64, target: f64| {
        let holds = if figure <= target { "yes" } else { "NO" };
        println!("{name:<46} {figure:>9.2} {target:>11.1}  {holds}");
    };
    let each = |seconds: f64| seconds / f64::from(u32::try_from(times).unwrap_or(u32::MAX)) * 1e6;
    for threads in [1, 2] {
        let mut returned = Duration::ZERO;
        let measured = medians::<6>(|which| match which {
            0 => started_by_us(threads, times),
            1 => started_bare(threads, times, 1).ran,
            2 => {
                let took = started_bare(threads, times, bare::MANY);
                returned = took.returned;
                took.ran
            }
            3 => returned,
            4 => on_threads(threads, ours::restart(times)),
            _ => on_threads(threads, bare::restart(times)),
        });
        let [start, bare_one, bare_many, bare_returned, restart, restart_bare] = measured;
        println!("runtime threads: {threads}");
        line("start_child / spawn_linked, each until it runs", start / bare_one, 2.0);
        line("restart / spawn_linked, many in a row", restart / bare_many, 3.0);
        println!("{:<46} {:>9.2}", "start_child / spawn_linked, many in a row", start / bare_many);
        println!("{:<46} {:>9.2}", "start_child / spawn_linked as it returns", start / bare_returned);
        println!("{:<46} {:>9.2}", "restart / the same by hand on ractor", restart / restart_bare);
        println!(
            "  start_child {:.1} us; spawn_linked {:.1} us, {:.1} many in a row, {:.1} as it returns; restart {:.1} us, \
             by hand {:.1} us",
            each(start),
            each(bare_one),
            each(bare_many),
            each(bare_returned),
            each(restart),
            each(restart_bare)
        );
    }
    println!("runtime threads: 1");
    let [few_ours, many_ours, few_bare, many_bare] = [
        alone::start(Kind::Supervised, few),
        alone::start(Kind::Supervised, many),
        alone::start(Kind::Bare, few),
        alone::start(Kind::Bare, many),
    ];
    line(&format!("start of {many} / of {few}, each"), many_ours.new / few_ours.new, 1.5);
    println!("{:<46} {:>9.2}", "  the same of spawn_linked", many_bare.new / few_bare.new);
    println!("{:<46} {:>9.2}", "  again, after as many had ended", many_ours.again / few_ours.again);
    println!("{:<46} {:>9.2}", "  the same of spawn_linked", many_bare.again / few_bare.again);
    println!(
        "  start_child {:.1} and {:.1} us, again {:.1} and {:.1}; spawn_linked {:.1} and {:.1}, again {:.1} and {:.1}",
        few_ours.new,
        many_ours.new,
        few_ours.again,
        many_ours.again,
        few_bare.new,
        many_bare.new,
        few_bare.again,
        many_bare.again
    );
    let mut first = Duration::ZERO;
    let [snapshot, first] = medians::<2>(|which| {
        if which == 0 {
            let took = on_one_thread(snapshots(many / 100, SNAPSHOTS));
            first = took.first;
            took.mean
        } else {
            first
        }
    });
    line(&format!("snapshot of {many} nodes, ms"), snapshot * 1_000.0, 60.0);
    println!("{:<46} {:>9.2}", "  the first of them", first * 1_000.0);
    let [stop, killed] = medians::<2>(|which| match which {
        0 => on_one_thread(async move {
            let ours = Ours::start(1).await;
            ours.children(many).await;
            ours.end().await
        }),
        _ => on_one_thread(async move {
            let parent = bare::parent().await;
            bare::start(&parent, many, bare::MANY).await;
            bare::end(parent).await
        }),
    });
    println!("{:<46} {:>9.2}", format!("stop of {many}, in order / killed, bare"), stop / killed);
    println!("  in order {:.0} ms, killed {:.0} ms", stop * 1e3, killed * 1e3);
    match (alone::rss(Kind::Supervised, many), alone::rss(Kind::Bare, many)) {
        (Some(supervised), Some(bare)) => {
            line("memory of a child / of a linked actor", supervised / bare, 1.5);
            println!("{:<46} {supervised:>9.0} {bare:>11.0}", "bytes of a child, of a linked actor (RSS)");
        }
        _ => println!("memory: skipped, /proc/self/statm cannot be read here"),
    }
}
