//! Checks that need more than one value: references between tables, and values that must fit each other.
//!
//! They run on what all layers make together. What follows from a mistake that is already reported is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::command;
use super::cron;
use super::embedding::ModelKind;
use super::layer::{Layer, is_at_or_below};
use super::limits;
use super::model::{Config, Provider, ProviderKind};
use super::origin::Origin;
use super::period::Period;
use super::problem::{Fault, Flaw, Place, Problems};
use super::suggest::nearest;

/// Heartbeats that must fit into `stale_after`, so that one lost heartbeat costs nothing.
const HEARTBEATS_MIN: u32 = 3;

/// Prices need both sides; an incomplete one is reported and taken out, so that the rest can be looked at.
pub(super) fn complete_prices(layers: &mut [Layer], problems: &mut Problems) {
    let mut models: Vec<String> =
        layers.iter().flat_map(|layer| layer.names_in("models")).map(|name| format!("models.{name}")).collect();
    models.sort();
    models.dedup();
    for price in models.iter().map(|model| format!("{model}.price")) {
        let given = |key: &str| layers.iter().rev().find(|layer| layer.has(key));
        let any = layers.iter().rev().find_map(|layer| layer.places().find(|(key, _)| is_at_or_below(key, &price)));
        let Some((_, place)) = any else { continue };
        let missing: Vec<&str> =
            ["input", "output"].into_iter().filter(|side| given(&format!("{price}.{side}")).is_none()).collect();
        if missing.is_empty() {
            continue;
        }
        if !problems.touch(&price) {
            let flaw = Flaw::bad(format!("the price does not state {}", missing.join(" and ")))
                .suggest("state input and output in dollars per million tokens");
            problems.push(place.clone(), &*price, flaw);
        }
        layers.iter_mut().for_each(|layer| layer.remove(&price));
    }
}

/// Every cross reference of `config`.
pub(super) fn references(config: &Config, places: &BTreeMap<String, Place>, problems: &mut Problems) {
    let mut check = Check { places, problems };
    check.liveness(config);
    check.cron(config);
    check.workflows(config);
    check.instances(config);
    check.providers(config);
    check.models(config);
    check.routing(config);
    check.budgets(config);
    check.agents(config);
}

/// Checks what several values have to do with each other, and no names: a program may leave out what it has no use for.
pub(super) fn values(config: &Config, problems: &mut Problems) {
    Check { places: &BTreeMap::new(), problems }.liveness(config);
}

struct Check<'a> {
    places: &'a BTreeMap<String, Place>,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn report(&mut self, key: &str, flaw: Flaw) {
        if !self.problems.touch(key) {
            let place = self.place(key).cloned();
            self.problems.push(place.unwrap_or_else(|| Place::of(Origin::Default)), key, flaw);
        }
    }

    /// Where `key` was given, or else the table around it.
    fn place(&self, key: &str) -> Option<&Place> {
        let mut key = Some(key);
        std::iter::from_fn(|| {
            let here = key?;
            key = here.rsplit_once('.').map(|(above, _)| above);
            Some(here)
        })
        .find_map(|key| self.places.get(key))
    }

    fn is_given(&self, key: &str) -> bool {
        self.places.get(key).is_some_and(|place| place.origin != Origin::Default)
    }

    fn liveness(&mut self, config: &Config) {
        let (heartbeat, stale_after) = (config.instance.heartbeat, config.instance.stale_after);
        let least = heartbeat.get() * HEARTBEATS_MIN;
        if stale_after.get() >= least || self.problems.touch("instance.heartbeat") {
            return;
        }
        let raise = u64::try_from(least.as_millis()).map(Period::from_millis).map(|least| format!("\"{least}\""));
        let only_heartbeat = self.is_given("instance.heartbeat") && !self.is_given("instance.stale_after");
        let key = if only_heartbeat { "instance.heartbeat" } else { "instance.stale_after" };
        let message = format!(
            "stale_after is {stale_after} and heartbeat {heartbeat}: an instance that misses one heartbeat must not \
             count as dead, so stale_after is at least {HEARTBEATS_MIN} heartbeats"
        );
        let flaw = Flaw::bad(message)
            .suggest(format!("set stale_after to {} or more, or heartbeat lower", raise.unwrap_or_default()));
        self.report(key, flaw);
    }

    fn cron(&mut self, config: &Config) {
        for (name, entry) in &config.cron {
            if let Some(flaw) = cron::incomplete(entry) {
                self.report(&format!("cron.{name}"), flaw);
            }
        }
    }

    fn workflows(&mut self, config: &Config) {
        let workflows = &config.workflows;
        let mut reported = BTreeSet::new();
        for (name, queue) in [
            ("llm_request", &workflows.llm_request.queue),
            ("embedding", &workflows.embedding.queue),
            ("agent_coordination", &workflows.agent_coordination.queue),
            ("agent_task", &workflows.agent_task.queue),
        ] {
            let known = config.queues.contains_key(queue) || self.problems.refuse_a_name_in("queues");
            // One missing queue is one mistake, also where several workflows have it by default.
            if known || !reported.insert(queue) {
                continue;
            }
            let message = format!("there is no queue \"{queue}\": a file that names queues runs only those it names");
            let flaw = unknown(message, queue, config.queues.keys())
                .or_suggest(format!("add [queues.{queue}], with paused = true if this instance shall not work on it"));
            self.report(&format!("workflows.{name}.queue"), flaw);
        }
        self.model("workflows.embedding.model", &workflows.embedding.model, ModelKind::Embedding, config);
    }

    /// That there is a model `name`, and that it answers with what is needed.
    fn model(&mut self, key: &str, name: &str, kind: ModelKind, config: &Config) {
        let word = |kind| match kind {
            ModelKind::Chat => "chat",
            ModelKind::Embedding => "embedding",
        };
        match config.models.get(name) {
            Some(model) if model.kind == kind => {}
            Some(model) => {
                let message = format!("model \"{name}\" is one of kind \"{}\"", word(model.kind));
                let flaw = Flaw::bad(message).suggest(format!("name a model with kind = \"{}\"", word(kind)));
                self.report(key, flaw);
            }
            None if self.problems.refuse_a_name_in("models") => {}
            None => {
                let flaw = unknown(format!("there is no model \"{name}\""), name, config.models.keys())
                    .or_suggest(format!("add [models.{name}]"));
                self.report(key, flaw);
            }
        }
    }

    fn instances(&mut self, config: &Config) {
        if self.problems.refuse_a_name_in("queues") {
            return;
        }
        for (id, table) in &config.instances {
            for name in table.queues.keys().filter(|name| !config.queues.contains_key(*name)) {
                let message = format!("there is no queue \"{name}\" that this table could change");
                let add = format!("add [queues.{name}], with start = false if the other instances shall not run it");
                let flaw = unknown(message, name, config.queues.keys()).or_suggest(add);
                self.report(&format!("instances.{id}.queues.{name}"), flaw);
            }
        }
    }

    fn providers(&mut self, config: &Config) {
        for (name, provider) in &config.providers {
            let key = format!("providers.{name}");
            self.program(&key, provider);
            if provider.output_limit.is_some() && provider.kind != ProviderKind::Openai {
                let flaw = Flaw::bad("only providers of the kind \"openai\" have two names for the output limit");
                self.report(&format!("{key}.output_limit"), flaw.suggest("remove the key"));
            }
            let example = match provider.kind {
                ProviderKind::Anthropic => "https://api.anthropic.com",
                ProviderKind::Openai => "https://api.openai.com/v1",
                ProviderKind::Command | ProviderKind::Simulated => continue,
            };
            if provider.base_url.is_none() {
                let flaw = Flaw::bad("base_url is missing: this kind of provider is reached over the network")
                    .suggest(format!("add base_url = \"{example}\" or the address of your server"));
                self.report(&key, flaw);
            }
        }
    }

    fn program(&mut self, key: &str, provider: &Provider) {
        match (&provider.command, provider.kind) {
            (Some(program), ProviderKind::Command) => {
                if let Some(flaw) = command::incomplete(program) {
                    self.report(&format!("{key}.command"), flaw);
                }
                if provider.base_url.is_some() {
                    let flaw = Flaw::bad("a program has no address").suggest("remove base_url");
                    self.report(&format!("{key}.base_url"), flaw);
                }
            }
            (None, ProviderKind::Command) => {
                let flaw = Flaw::bad("the program is missing: this kind of provider runs one")
                    .suggest(format!("add [{key}.command] with program and args"));
                self.report(key, flaw);
            }
            (Some(_), _) => {
                let flaw = Flaw::bad("the provider is not of the kind \"command\", so no program is run")
                    .suggest("remove the table, or write kind = \"command\"");
                self.report(&format!("{key}.command"), flaw);
            }
            (None, _) => {}
        }
    }

    fn models(&mut self, config: &Config) {
        for (name, model) in &config.models {
            let key = format!("models.{name}");
            let missing: Vec<&str> = [("provider", &model.provider), ("name", &model.name)]
                .into_iter()
                .filter_map(|(field, value)| value.is_empty().then_some(field))
                .collect();
            if !missing.is_empty() {
                let flaw = Flaw::bad(format!("{} is missing", missing.join(" and ")))
                    .suggest("state the provider, one of [providers], and the name that it knows the model by");
                self.report(&key, flaw);
                continue;
            }
            match config.providers.get(&model.provider) {
                None if !self.problems.refuse_a_name_in("providers") => {
                    let message = format!("there is no provider \"{}\"", model.provider);
                    let flaw = unknown(message, &model.provider, config.providers.keys())
                        .or_suggest(format!("add [providers.{}]", model.provider));
                    self.report(&format!("{key}.provider"), flaw);
                }
                Some(provider) if provider.kind != ProviderKind::Simulated && model.simulated.is_some() => {
                    let message = format!("the model's provider \"{}\" is not simulated", model.provider);
                    let flaw =
                        Flaw::bad(message).suggest("remove the table, or name a provider with kind = \"simulated\"");
                    self.report(&format!("{key}.simulated"), flaw);
                }
                _ => {}
            }
            let vectors = model.embedding.clone().unwrap_or_default();
            if model.kind == ModelKind::Chat && model.embedding.is_some() {
                let flaw = Flaw::bad("the model's kind is \"chat\", and this table is for embedding models");
                self.report(
                    &format!("{key}.embedding"),
                    flaw.suggest("remove the table, or state kind = \"embedding\""),
                );
            } else if vectors.shorten && vectors.dimensions.is_none() {
                let flaw = Flaw::bad("vectors shall be shortened, and dimensions does not say to what");
                self.report(&format!("{key}.embedding.shorten"), flaw.suggest("state dimensions as well"));
            }
        }
    }

    fn agents(&mut self, config: &Config) {
        for (name, agent) in &config.agents {
            if agent.capabilities.is_empty() {
                let flaw = Flaw::bad("the agent states no capabilities, so it would never be given a task");
                self.report(
                    &format!("agents.{name}"),
                    flaw.suggest("state at least one, such as capabilities = [\"code\"]"),
                );
            }
            if let Some(route) = agent.route.as_ref().filter(|route| !config.routing.routes.contains_key(*route)) {
                let flaw = unknown(format!("there is no route \"{route}\""), route, config.routing.routes.keys())
                    .or_suggest(format!("add [routing.routes.{route}]"));
                self.report(&format!("agents.{name}.route"), flaw);
            }
            if let Some(model) = &agent.model {
                self.model(&format!("agents.{name}.model"), model, ModelKind::Chat, config);
            }
        }
    }

    fn routing(&mut self, config: &Config) {
        for (complexity, model) in &config.routing.models {
            self.model(&format!("routing.models.{complexity}"), model, ModelKind::Chat, config);
        }
        for (complexity, models) in &config.routing.candidates {
            let key = format!("routing.candidates.{complexity}");
            self.models_of_a_route(config, &key, config.routing.models.get(complexity), models);
        }
        for (name, route) in &config.routing.routes {
            let key = format!("routing.routes.{name}");
            if route.models.is_empty() {
                let flaw = Flaw::bad("the route has no model").suggest("add models = [\"NAME\"], the reference first");
                self.report(&key, flaw);
            }
            self.models_of_a_route(config, &format!("{key}.models"), None, &route.models);
        }
    }

    /// A `reference` that stands elsewhere is looked at there.
    fn models_of_a_route(&mut self, config: &Config, key: &str, reference: Option<&String>, models: &[String]) {
        let mut seen: BTreeSet<&String> = reference.into_iter().collect();
        for model in models {
            self.model(key, model, ModelKind::Chat, config);
            if !seen.insert(model) {
                self.report(key, Flaw::bad(format!("model \"{model}\" stands twice")).suggest("name it once"));
            }
        }
    }

    fn budgets(&mut self, config: &Config) {
        for (name, budget) in &config.budgets {
            let key = format!("budgets.{name}");
            if let Some(flaw) = limits::incomplete(budget) {
                self.report(&key, flaw);
            }
            if let Some(route) = &budget.route
                && !["simple", "medium", "complex"].contains(&route.as_str())
                && !config.routing.routes.contains_key(route)
            {
                let flaw = unknown(format!("there is no route \"{route}\""), route, config.routing.routes.keys())
                    .or_suggest(format!("write simple, medium or complex, or add [routing.routes.{route}]"));
                self.report(&format!("{key}.route"), flaw);
            }
            if let Some(provider) = &budget.provider
                && !config.providers.contains_key(provider)
                && !self.problems.refuse_a_name_in("providers")
            {
                let flaw = unknown(format!("there is no provider \"{provider}\""), provider, config.providers.keys())
                    .or_suggest(format!("add [providers.{provider}]"));
                self.report(&format!("{key}.provider"), flaw);
            }
        }
    }
}

fn unknown<'n>(message: String, name: &str, known: impl Iterator<Item = &'n String>) -> Flaw {
    let near = nearest(name, known.map(String::as_str)).map(|near| format!("did you mean \"{near}\"?"));
    Flaw::new(Fault::UnknownReference, message).maybe_suggest(near)
}
