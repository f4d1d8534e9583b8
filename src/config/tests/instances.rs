//! Tables of single instances: what they change, where, and what is said of mistakes in them.

use super::Case;
use crate::config::{Config, OnStuck, Origin, Period, Queue, entries, print};

const FILE: &str = "[queues.default]\nlimit = 7\npoll_interval = \"2s\"\n[queues.gpu]\nlimit = 2\nstart = false\n\
    [instances.instance_a.queues.default]\nlimit = 20\n[instances.Box-2.queues.gpu]\nstart = true\n";

#[test]
fn a_table_holds_on_its_instance_alone_and_changes_what_it_states() {
    let config = Case::new(FILE).loaded().config;
    let common = config.queues_of("somebody_else");
    assert_eq!(common, config.queues);
    assert_eq!((common["default"].limit, common["gpu"].start), (7, false));
    let a = config.queues_of("instance_a");
    assert_eq!((a["default"].limit, a["default"].poll_interval), (20, Period::from_secs(2)));
    assert_eq!(a["gpu"], common["gpu"]);
    let b = config.queues_of("Box-2");
    assert_eq!((b["gpu"].limit, b["gpu"].start), (2, true));
    assert_eq!(b["default"], common["default"]);
}

#[test]
fn every_key_of_a_queue_can_differ() {
    let file = "[instances.a.queues.default]\nlimit = 1\npaused = true\nstart = false\npoll_interval = \"9s\"\n\
        dispatch_cooldown = \"5ms\"\non_stuck = \"release\"\nblocking_max = 4";
    let a = Case::new(file).loaded().config.queues_of("a");
    let wanted = Queue {
        limit: 1,
        paused: true,
        start: false,
        poll_interval: Period::from_secs(9),
        dispatch_cooldown: Period::from_millis(5),
        on_stuck: OnStuck::Release,
        blocking_max: Some(4),
    };
    assert_eq!(a["default"], wanted);
    assert_eq!(a.len(), Config::shipped().unwrap().queues.len(), "the shipped queues stay");
}

#[test]
fn the_environment_changes_tables_that_exist() {
    let name = "SINGULARITY__INSTANCES__INSTANCE_A__QUEUES__DEFAULT__LIMIT";
    let config = Case::new(FILE).env(name, "30").loaded().config;
    assert_eq!(config.queues_of("instance_a")["default"].limit, 30);
    let missing = "SINGULARITY__INSTANCES__INSTANCE_B__QUEUES__DEFAULT__LIMIT";
    let problems = Case::new(FILE).env(missing, "30").problems();
    assert_eq!(problems, ["E0108 0 instances.instance_b.queues.default.limit"]);
    let report = Case::new(FILE).env(missing, "30").report();
    assert!(report.contains("did you mean SINGULARITY__INSTANCES__INSTANCE_A__QUEUES__DEFAULT__LIMIT?"), "{report}");
}

#[test]
fn what_holds_on_an_instance_is_printed_with_its_origin_and_loads_as_the_same() {
    let loaded = Case::new(FILE).env("SINGULARITY__INSTANCES__INSTANCE_A__QUEUES__DEFAULT__LIMIT", "30").loaded();
    let line = |text: &str, key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let everywhere = print(&loaded);
    assert!(line(&everywhere, "queues.default.limit = 7").ends_with("actors.toml:2"));
    assert!(line(&everywhere, "instances.Box-2.queues.gpu.start = true").ends_with("actors.toml:10"));
    let here = loaded.on_instance("instance_a");
    let text = print(&here);
    assert!(line(&text, "queues.default.limit = 30").ends_with("INSTANCES__INSTANCE_A__QUEUES__DEFAULT__LIMIT"));
    assert!(line(&text, "queues.default.poll_interval").ends_with("actors.toml:3"));
    assert_eq!(Case::new(&text).loaded().config, here.config, "{text}");
    let entry =
        entries(&loaded.on_instance("Box-2")).into_iter().find(|entry| entry.key == "queues.gpu.start").unwrap();
    assert_eq!((entry.value, matches!(entry.origin, Origin::File { line: 10, .. })), (true.into(), true));
    assert_eq!(loaded.on_instance("nobody"), loaded);
}

#[test]
fn mistakes_are_reported_with_what_was_probably_meant() {
    for (file, problem, advice) in [
        (
            "[instances.a.queues.default]\nlimt = 3",
            "E0101 2 instances.a.queues.default.limt",
            "did you mean \"limit\"?",
        ),
        ("[instances.a.queues.default]\nlimit = 0", "E0103 2 instances.a.queues.default.limit", ""),
        ("[instances.a.queues.defualt]\nlimit = 3", "E0104 1 instances.a.queues.defualt", "did you mean \"default\"?"),
        ("[instances.a.queues.novel]\nlimit = 3", "E0104 1 instances.a.queues.novel", "add [queues.novel]"),
        ("[instances.a.queue.default]\nlimit = 3", "E0101 1 instances.a.queue", "did you mean \"queues\"?"),
        ("[instances.a]\nlimit = 3", "E0101 2 instances.a.limit", "\"limit\" is a key of [queues.NAME]"),
        ("[instances.\"a b\"]", "E0103 1 instances.\"a b\"", ""),
        ("[instances.\"a.b\"]", "E0103 1 instances.\"a.b\"", "give the instance such an id"),
        ("[instances.auto]", "E0103 1 instances.auto", "give the instance an id"),
        ("[queues.x]\nrefresh_interval = 1", "E0101 2 queues.x.refresh_interval", "write poll_interval"),
        ("[queues.x]\ndispatch_cooldown = 5", "E0102 2 queues.x.dispatch_cooldown", "name the unit"),
    ] {
        let case = Case::new(file);
        // A file that names a queue runs it alone, and then the workflow's is missing.
        let problems: Vec<String> = case.problems().into_iter().filter(|text| !text.contains("workflows")).collect();
        assert_eq!(problems, [problem], "{file}");
        assert!(case.report().contains(advice), "{advice:?} is not in {}", case.report());
    }
    assert_eq!(Case::new("[instances.nobody_has_this_id.queues.default]\nlimit = 3").problems(), [""; 0]);
}
