//! Specifications: defaults, what is refused, and what is accepted.

use singularity::supervision::*;

use super::kit::{Do, Kit, Puppet, Script, Start, counts, ms, restarts, root};

fn child(id: impl Into<ChildId>) -> ChildSpec {
    ChildSpec::new(id, |_| Box::pin(async { Ok(Started::Ignore) }))
}

fn over(child: ChildSpec) -> SupervisorSpec {
    SupervisorSpec::new("root", Strategy::OneForOne).auto_shutdown(AutoShutdown::AnySignificant).child(child)
}

/// Children that are invalid under a supervisor which allows significant ones.
fn invalid_children() -> Vec<(ChildSpec, SpecError)> {
    let long = "x".repeat(ID_BYTES_MAX + 1);
    let backoffs = [Backoff::new(ms(0), ms(1)), Backoff::new(ms(2), ms(1))];
    let factor = Backoff { factor: 0.5, ..Backoff::new(ms(1), ms(1)) };
    let mut children = vec![
        (child(""), SpecError::EmptyId),
        (child("a/b"), SpecError::SlashInId("a/b".into())),
        (child(long.as_str()), SpecError::LongId(long.len())),
        (child("x").significant(true), SpecError::SignificantPermanent("x".into())),
    ];
    for backoff in backoffs.into_iter().chain([factor]) {
        children.push((child("x").backoff(backoff), SpecError::Backoff("x".into())));
    }
    children
}

#[tokio::test(start_paused = true)]
async fn s15_sup_start_map_faulty_specs() {
    let kit = Kit::new();
    let error = kit.system.start(over(child(""))).await.unwrap_err();
    assert_eq!(error, StartError::InvalidSpec(SpecError::EmptyId));
    assert_eq!(error.to_string().split(':').next(), Some("invalid supervisor specification"));
}

#[tokio::test(start_paused = true)]
async fn s26_child_specs() {
    let kit = Kit::new();
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    for (invalid, error) in invalid_children() {
        assert_eq!(over(invalid.clone()).validate(), Err(error.clone()));
        assert_eq!(handle.start_child(invalid).await, Err(StartChildError::InvalidSpec(error)));
    }
    let twice = over(child("a")).child(child("b")).child(child("a"));
    assert_eq!(twice.validate(), Err(SpecError::DuplicateId("a".into())));
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for shutdown in [Shutdown::BrutalKill, Shutdown::Infinity, Shutdown::Timeout(ms(0)), Shutdown::Timeout(ms(9))] {
            let valid = child("x").restart(restart).shutdown(shutdown);
            assert_eq!(over(valid.clone()).validate(), Ok(()));
            let sub = SupervisorSpec::new("sub", Strategy::OneForAll).child(valid).into_child();
            assert_eq!(over(sub.restart(restart).shutdown(shutdown)).validate(), Ok(()));
        }
    }
}

#[test]
fn s27_child_specs_map() {
    for mode in [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            for significant in [false, true] {
                let spec = root(Strategy::OneForOne)
                    .auto_shutdown(mode)
                    .child(child("x").restart(restart).significant(significant));
                let expected = match (significant, restart, mode) {
                    (false, ..) => Ok(()),
                    (true, Restart::Permanent, _) => Err(SpecError::SignificantPermanent("x".into())),
                    (true, _, AutoShutdown::Never) => Err(SpecError::SignificantNever("x".into())),
                    (true, ..) => Ok(()),
                };
                assert_eq!(spec.validate(), expected, "{mode:?} {restart} {significant}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s28_sup_flags() {
    let kit = Kit::new();
    let many = MAX_RESTARTS_MAX + 1;
    for (intensity, error) in
        [(Intensity::new(many, ms(1)), SpecError::MaxRestarts(many)), (Intensity::new(0, ms(0)), SpecError::Period)]
    {
        let spec = root(Strategy::OneForOne).intensity(intensity);
        assert_eq!(spec.validate(), Err(error.clone()));
        assert_eq!(kit.system.start(spec.clone()).await.unwrap_err(), StartError::InvalidSpec(error.clone()));
        // Also one level down, where the start of the child fails.
        let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(intensity).into_child();
        let expected = StartError::Child { id: "sub".into(), source: Box::new(StartError::InvalidSpec(error)) };
        assert_eq!(kit.system.start(root(Strategy::OneForOne).child(sub)).await.unwrap_err(), expected);
    }
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let spec = SupervisorSpec::new("root", strategy).intensity(restarts(0));
        assert_eq!(kit.system.start(spec).await.unwrap().stop().await, ExitReason::Shutdown);
    }
}

#[test]
fn e01_child_spec_defaults() {
    let rules = child("x").rules().clone();
    assert_eq!((rules.id.as_str(), rules.restart, rules.kind), ("x", Restart::Permanent, ChildKind::Worker));
    assert_eq!((rules.shutdown, rules.significant), (Shutdown::Timeout(ms(5_000)), false));
    let rules = SupervisorSpec::new("s", Strategy::OneForOne).into_child().rules().clone();
    assert_eq!((rules.kind, rules.shutdown), (ChildKind::Supervisor, Shutdown::Infinity));
}

#[test]
fn e02_child_spec_overrides() {
    let spec = child("x")
        .with_id("y")
        .restart(Restart::Temporary)
        .shutdown(Shutdown::BrutalKill)
        .significant(true)
        .backoff(Backoff::new(ms(1), ms(2)))
        .on_zombie(OnZombie::Escalate);
    let rules = spec.rules();
    assert_eq!((rules.id.as_str(), rules.restart), ("y", Restart::Temporary));
    assert_eq!((rules.shutdown, rules.significant), (Shutdown::BrutalKill, true));
    assert_eq!((rules.backoff, rules.on_zombie), (Some(Backoff::new(ms(1), ms(2))), OnZombie::Escalate));
    let error = over(child("a/b")).validate().unwrap_err();
    assert_eq!(error.to_string(), "child id \"a/b\" contains \"/\", which separates the parts of a path");
}

#[tokio::test(start_paused = true)]
async fn e03_init_defaults() {
    let kit = Kit::new();
    let _running = kit.start(SupervisorSpec::new("root", Strategy::RestForOne)).await;
    let root = kit.node("/");
    assert_eq!((root.strategy, root.restart_limit), (Some(Strategy::RestForOne), Some(3)));
    assert_eq!(root.restart_period_ms, Some(5_000));
}

#[tokio::test(start_paused = true)]
async fn e10_start_from_what_init_makes() {
    let kit = Kit::new();
    let x = kit.worker("x");
    let inner = x.spec.clone();
    let sub = ChildSpec::supervisor("sub", move || {
        Ok(Some(SupervisorSpec::new("unused", Strategy::OneForAll).intensity(restarts(7)).child(inner.clone())))
    });
    assert_eq!((sub.rules().kind, sub.rules().shutdown), (ChildKind::Supervisor, Shutdown::Infinity));
    let _running = kit.start(root(Strategy::OneForOne).child(sub)).await;
    assert_eq!((kit.node("/sub").strategy, kit.node("/sub").restart_limit), (Some(Strategy::OneForAll), Some(7)));
    assert_eq!(x.ping().await, Ok(1));
    // At its next start it is made again.
    kit.kill("/sub");
    kit.runs("/sub/x", 2).await;
}

/// A child by its type and its arguments.
fn by_type(kit: &Kit, name: &str) -> (ChildSpec, Address<Do>) {
    let address = Address::new("puppet", 10);
    let script: Script = kit.script(name);
    (ChildSpec::actor::<Puppet>(name, &address, move || (script.clone(), Start::Runs)), address)
}

#[tokio::test(start_paused = true)]
async fn e13_start_child_by_type_and_argument() {
    let kit = Kit::new();
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    let (spec, address) = by_type(&kit, "x");
    handle.start_child(spec).await.unwrap();
    assert_eq!(kit.journal.take(), ["start x"]);
    assert_eq!(address.call(Do::Ping, ms(1_000)).await, Ok(1));
    assert_eq!(handle.which_child("x").await.unwrap().actor, "Puppet");
}

#[tokio::test(start_paused = true)]
async fn e14_start_child_with_invalid_specs() {
    // Nobody is reached: the specification is refused where it is given.
    let nobody = SupervisorHandle::new();
    let kit = Kit::new();
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    for (invalid, error) in invalid_children() {
        let refused = nobody.start_child(invalid.clone()).await.unwrap_err();
        assert_eq!(refused, StartChildError::InvalidSpec(error.clone()));
        assert_eq!(refused.to_string(), format!("invalid child specification: {error}"));
        assert_eq!(handle.start_child(invalid).await, Err(StartChildError::InvalidSpec(error)));
    }
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn d03_child_spec_of_a_dynamic_supervisor() {
    let spec = DynamicSupervisorSpec::new("jobs", 1).into_child(&DynamicHandle::new());
    let rules = spec.rules();
    assert_eq!((rules.id.as_str(), rules.restart), ("jobs", Restart::Permanent));
    assert_eq!((rules.kind, rules.shutdown), (ChildKind::Supervisor, Shutdown::Infinity));
    let changed = spec.with_id("other").restart(Restart::Temporary).shutdown(Shutdown::Timeout(ms(9)));
    let rules = changed.rules();
    assert_eq!(
        (rules.id.as_str(), rules.restart, rules.shutdown),
        ("other", Restart::Temporary, Shutdown::Timeout(ms(9)))
    );
}

#[tokio::test(start_paused = true)]
async fn d04_defaults_of_a_dynamic_supervisor() {
    let kit = Kit::new();
    let handle = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", 9).into_child(&handle);
    let _running = kit.start(root(Strategy::OneForOne).child(jobs)).await;
    let jobs = kit.node("/jobs");
    assert_eq!((jobs.kind, jobs.restart_limit), (NodeKind::DynamicSupervisor, Some(3)));
    assert_eq!((jobs.restart_period_ms, handle.max_children()), (Some(5_000), 9));
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn d05_invalid_settings_of_a_dynamic_supervisor() {
    let many = MAX_RESTARTS_MAX + 1;
    for (spec, error) in [
        (DynamicSupervisorSpec::new("jobs", 1).intensity(restarts(many)), SpecError::MaxRestarts(many)),
        (DynamicSupervisorSpec::new("jobs", 1).intensity(Intensity::new(1, ms(0))), SpecError::Period),
        (DynamicSupervisorSpec::new("jobs", CHILDREN_MAX + 1), SpecError::TooManyChildren(CHILDREN_MAX + 1)),
    ] {
        let kit = Kit::new();
        let jobs = spec.into_child(&DynamicHandle::new());
        let refused = kit.system.start(root(Strategy::OneForOne).child(jobs)).await.unwrap_err();
        let source = Box::new(StartError::InvalidSpec(error));
        assert_eq!(refused, StartError::Child { id: "jobs".into(), source });
    }
}

#[tokio::test(start_paused = true)]
async fn d12_start_child_with_a_specification() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, super::kit::WIDE).await;
    let x = kit.worker("x");
    let started = handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!((started.path().as_str(), started.state()), ("/jobs/x", NodeState::Running));
    assert_eq!(x.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn d13_start_child_by_type() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, super::kit::WIDE).await;
    let (spec, address) = by_type(&kit, "x");
    let child = handle.start_child(spec).await.unwrap();
    assert_eq!(address.call(Do::Ping, ms(1_000)).await, Ok(1));
    assert_eq!(handle.which_child(&child).await.unwrap().actor, "Puppet");
}

#[tokio::test(start_paused = true)]
async fn d15_invalid_specs_never_reach_a_dynamic_supervisor() {
    let nobody = DynamicHandle::new();
    for (invalid, error) in invalid_children() {
        assert_eq!(nobody.start_child(invalid).await, Err(StartChildError::InvalidSpec(error)));
    }
    let significant = child("x").restart(Restart::Temporary).significant(true);
    let refused = StartChildError::InvalidSpec(SpecError::SignificantNever("x".into()));
    assert_eq!(nobody.start_child(significant).await, Err(refused));
}
