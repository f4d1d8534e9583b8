//! Partition supervisors.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use singularity::supervision::*;

use super::kit::{Do, Kit, Puppet, Start, counts, ms, restarts, root, within};

/// What reaches each partition, by its number.
type Addresses = Arc<Mutex<BTreeMap<usize, Address<Do>>>>;

/// So many partitions of workers, each with its own address.
struct Partitions {
    kit: Kit,
    running: Running,
    handle: PartitionHandle,
    addresses: Addresses,
}

fn spec(kit: &Kit, partitions: usize, addresses: &Addresses) -> PartitionSupervisorSpec {
    let (script, addresses) = (kit.script("p"), addresses.clone());
    PartitionSupervisorSpec::new("parts", partitions, move |number| {
        let address = Address::new("puppet", 10);
        addresses.lock().unwrap().insert(number, address.clone());
        script.journal.note(format!("make {number}"));
        let script = script.clone();
        ChildSpec::actor::<Puppet>("unused", &address, move || (script.clone(), Start::Runs))
    })
}

impl Partitions {
    async fn new(partitions: usize) -> Self {
        let kit = Kit::new();
        let handle = PartitionHandle::new();
        let addresses = Arc::default();
        let child = spec(&kit, partitions, &addresses).into_child(&handle).restart(Restart::Transient);
        let running = kit.start(root(Strategy::OneForOne).child(child.registered("parts"))).await;
        Self { kit, running, handle, addresses }
    }

    async fn id_for(&self, key: impl Into<PartitionKey>) -> String {
        self.handle.child(key).await.unwrap().id().to_string()
    }
}

fn of_supervisor(partitions: usize) -> PartitionSupervisorSpec {
    PartitionSupervisorSpec::new("parts", partitions, |_| {
        SupervisorSpec::new("unused", Strategy::OneForOne).into_child()
    })
}

#[tokio::test(start_paused = true)]
async fn p01_child_spec() {
    let spec = of_supervisor(2).into_child(&PartitionHandle::new());
    let rules = spec.rules();
    assert_eq!((rules.id.as_str(), rules.restart), ("parts", Restart::Permanent));
    assert_eq!((rules.kind, rules.shutdown), (ChildKind::Supervisor, Shutdown::Infinity));
}

#[tokio::test(start_paused = true)]
async fn p02_child_spec_with_a_name() {
    let kit = Kit::new();
    let spec = of_supervisor(2).into_child(&PartitionHandle::new()).registered("by this name");
    assert_eq!(spec.rules().id.as_str(), "parts");
    let _running = kit.start(root(Strategy::OneForOne).child(spec)).await;
    assert_eq!(kit.system.registered()[0].0, "by this name");
    assert_eq!(kit.node("/parts").kind, NodeKind::PartitionSupervisor);
}

#[tokio::test(start_paused = true)]
async fn p03_100_keys() {
    let parts = Partitions::new(3).await;
    let mut found = HashSet::new();
    for number in 0..100 {
        let key = format!("key {number}");
        let child = parts.handle.child(key.as_str()).await.unwrap();
        assert_eq!(parts.handle.route(key.as_str()), child.id().as_str().parse().ok(), "always the same one");
        assert_eq!(child.state(), NodeState::Running);
        found.insert(child.id().to_string());
    }
    assert_eq!(found.len(), 3, "all are used");
}

#[tokio::test(start_paused = true)]
async fn p04_via_name() {
    let parts = Partitions::new(2).await;
    let found = found(&parts.kit).expect("it is found");
    assert_eq!(found.child(1).await.unwrap().id().as_str(), "1");
}

/// What reaches the partitions, by the name of their supervisor.
fn found(kit: &Kit) -> Option<PartitionHandle> {
    kit.system.lookup("parts")
}

#[tokio::test(start_paused = true)]
async fn p05_partitions_and_keys() {
    let parts = Partitions::new(3).await;
    let addresses = parts.addresses.lock().unwrap().clone();
    for (number, address) in &addresses {
        assert_eq!(address.call(Do::Ping, ms(1_000)).await, Ok(1), "partition {number}");
    }
    for (key, number) in [(0, "0"), (1, "1"), (4, "1"), (5, "2"), (-1, "1"), (-4, "1"), (-5, "2")] {
        assert_eq!(parts.id_for(key).await, number, "{key}");
    }
    assert_eq!(parts.handle.route(i64::MIN), Some(2), "2^63 is 2 more than a multiple of 3");
    assert_eq!(parts.handle.route(i64::MAX), Some(1));
    assert_eq!(PartitionKey::of(&("a", 1)), PartitionKey::of(&("a", 1)));
}

/// How the start of it fails under a root.
async fn refused(spec: PartitionSupervisorSpec) -> SpecError {
    let kit = Kit::new();
    let child = spec.into_child(&PartitionHandle::new());
    match kit.system.start(root(Strategy::OneForOne).child(child)).await.unwrap_err() {
        StartError::Child { source, .. } => match *source {
            StartError::InvalidSpec(error) => error,
            other => panic!("{other}"),
        },
        StartError::InvalidSpec(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn p06_option_name() {
    let worker = Kit::new().worker("x").spec;
    let nameless = PartitionSupervisorSpec::new("", 2, move |_| worker.clone());
    assert_eq!(refused(nameless).await, SpecError::EmptyId);
}

#[tokio::test(start_paused = true)]
async fn p07_option_child_spec() {
    let worker = Kit::new().worker("x").spec.backoff(Backoff::new(ms(0), ms(0)));
    let invalid = PartitionSupervisorSpec::new("parts", 2, move |_| worker.clone());
    assert_eq!(invalid.validate(), Err(SpecError::Backoff("0".into())));
    assert_eq!(refused(invalid).await, SpecError::Backoff("0".into()));
}

#[tokio::test(start_paused = true)]
async fn p08_option_partitions() {
    for partitions in [0, CHILDREN_MAX + 1] {
        assert_eq!(of_supervisor(partitions).validate(), Err(SpecError::Partitions(partitions)));
        assert_eq!(refused(of_supervisor(partitions)).await, SpecError::Partitions(partitions));
    }
    let none = Intensity::new(1, ms(0));
    assert_eq!(refused(of_supervisor(1).intensity(none)).await, SpecError::Period);
    assert_eq!(of_supervisor(1).intensity(restarts(0)).validate(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn p09_option_with_arguments() {
    let kit = Kit::new();
    let child = spec(&kit, 3, &Arc::default()).into_child(&PartitionHandle::new());
    let _running = kit.system.start(root(Strategy::OneForOne).child(child)).await.unwrap();
    let made: Vec<_> = kit.journal.take().into_iter().filter(|line| line.starts_with("make")).collect();
    assert_eq!(made, ["make 0", "make 1", "make 2"]);
}

#[tokio::test(start_paused = true)]
async fn p10_option_auto_shutdown() {
    let worker = Kit::new().worker("x").spec.restart(Restart::Transient).significant(true);
    let significant = PartitionSupervisorSpec::new("parts", 2, move |_| worker.clone());
    assert_eq!(refused(significant).await, SpecError::SignificantNever("0".into()));
}

/// Its end by request is done when the request returns.
async fn stops(parts: &Partitions, handle: &PartitionHandle) {
    let addresses = parts.addresses.lock().unwrap().clone();
    assert_eq!(within(handle.supervisor().stop(ExitReason::Normal, None)).await, Ok(()));
    assert!(addresses.values().all(|address| !address.is_up()));
    parts.kit.is("/parts", NodeState::Stopped).await;
    assert_eq!(parts.kit.exits("/parts"), [ExitReason::Normal]);
    assert_eq!(handle.supervisor().stop(ExitReason::Normal, None).await, Err(ChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn p11_stop() {
    let parts = Partitions::new(2).await;
    stops(&parts, &parts.handle).await;
    assert_eq!(parts.running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn p12_stop_via_name() {
    let parts = Partitions::new(2).await;
    stops(&parts, &found(&parts.kit).unwrap()).await;
    assert!(found(&parts.kit).is_none());
}

#[tokio::test(start_paused = true)]
async fn p13_which_children_of_nobody() {
    assert!(found(&Kit::new()).is_none());
    assert_eq!(PartitionHandle::new().which_children().await.unwrap_err(), ChildError::NoProc);
    let parts = Partitions::new(1).await;
    parts.running.stop().await;
    assert_eq!(parts.handle.which_children().await.unwrap_err(), ChildError::NoProc);
}

#[tokio::test(start_paused = true)]
async fn p14_count_children_of_nobody() {
    assert_eq!(PartitionHandle::new().count_children().await, Err(ChildError::NoProc));
    assert_eq!(PartitionHandle::new().child(1).await, Err(ChildError::NotFound));
}

/// Which partitions run, by number.
async fn running(parts: &Partitions) -> Vec<String> {
    let all = parts.handle.which_children().await.unwrap();
    let mut ids: Vec<_> = all.iter().filter(|info| info.child.is_some()).map(|info| info.id.to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn p15_resize() {
    let parts = Partitions::new(3).await;
    for size in [3, 2, 1, 0, 1, 3, 0, 2] {
        assert_eq!(parts.handle.resize(size).await, Ok(()));
        assert_eq!(parts.handle.partitions(), size);
        assert_eq!(running(&parts).await, ["0", "1", "2"][..size]);
        assert_eq!(parts.handle.count_children().await, Ok(counts(3, size, 0, 3)), "specifications are kept");
        for key in 0..10 {
            let expected = (size > 0).then(|| usize::try_from(key).unwrap() % size);
            assert_eq!(parts.handle.route(key), expected);
            if let Some(number) = expected {
                assert_eq!(parts.id_for(key).await, number.to_string());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p16_resize_to_zero() {
    let parts = Partitions::new(2).await;
    parts.handle.resize(0).await.unwrap();
    assert_eq!(parts.handle.child(0).await, Err(ChildError::NotFound));
    assert_eq!(parts.handle.child("x").await, Err(ChildError::NotFound));
    parts.handle.resize(2).await.unwrap();
    assert_eq!(parts.id_for(1).await, "1");
}

#[tokio::test(start_paused = true)]
async fn p17_resize_above_the_first_size() {
    let parts = Partitions::new(2).await;
    let refused = Err(ChildError::Partitions { wanted: 3, initial: 2 });
    assert_eq!(parts.handle.resize(3).await, refused);
    parts.handle.resize(1).await.unwrap();
    assert_eq!(parts.handle.resize(3).await, refused);
    assert_eq!((parts.handle.partitions(), running(&parts).await), (1, vec!["0".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn p18_which_children() {
    let parts = Partitions::new(3).await;
    let all = parts.handle.which_children().await.unwrap();
    let ids: Vec<_> = all.iter().map(|info| (info.id.as_str(), info.kind, info.actor)).collect();
    let worker = |id| (id, ChildKind::Worker, "Puppet");
    assert_eq!(ids, [worker("2"), worker("1"), worker("0")]);
}

#[tokio::test(start_paused = true)]
async fn p19_count_children_of_workers() {
    let parts = Partitions::new(3).await;
    assert_eq!(parts.handle.count_children().await, Ok(counts(3, 3, 0, 3)));
}

#[tokio::test(start_paused = true)]
async fn p20_count_children_of_supervisors() {
    let kit = Kit::new();
    let handle = PartitionHandle::new();
    let _running = kit.start(root(Strategy::OneForOne).child(of_supervisor(4).into_child(&handle))).await;
    assert_eq!(handle.count_children().await, Ok(counts(4, 4, 4, 0)));
}

#[tokio::test(start_paused = true)]
async fn p21_partitions_of_nobody() {
    let nobody = PartitionHandle::new();
    assert_eq!((nobody.partitions(), nobody.route("x"), nobody.route(7)), (0, None, None));
}

#[tokio::test(start_paused = true)]
async fn p22_partitions_via_name() {
    let parts = Partitions::new(3).await;
    assert_eq!(found(&parts.kit).unwrap().partitions(), 3);
    parts.handle.resize(2).await.unwrap();
    assert_eq!(found(&parts.kit).unwrap().partitions(), 2);
}
