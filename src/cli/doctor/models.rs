//! Keys and programs of providers, and prices of models: what requests will miss.

use std::collections::BTreeSet;

use super::Check;
use crate::config::{Config, ConfiguredRoute, SecretRef};
use crate::llm::{Gateway, find_program};

/// One finding a provider that has a key, one a program that requests are routed to, and one about the prices.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let routed: BTreeSet<&str> = config.routing.all().flat_map(ConfiguredRoute::models).collect();
    let mut checks: Vec<Check> = config
        .providers
        .iter()
        .filter_map(|(name, provider)| {
            let models = routed_models(config, &routed, name);
            Some(key(name, provider.api_key.as_ref()?, &models))
        })
        .collect();
    checks.extend(config.providers.iter().filter_map(|(name, provider)| {
        let models = routed_models(config, &routed, name);
        // What nobody is routed to need not be installed.
        Some(program(name, &provider.command.as_ref()?.program, &models)).filter(|_| !models.is_empty())
    }));
    checks.push(prices(config, &routed));
    checks
}

/// Models of a provider that requests are routed to.
fn routed_models<'a>(config: &Config, routed: &BTreeSet<&'a str>, provider: &str) -> Vec<&'a str> {
    let is_theirs = |name: &&&str| config.models.get(**name).is_some_and(|model| model.provider == provider);
    routed.iter().filter(is_theirs).copied().collect()
}

fn key(provider: &str, reference: &SecretRef, models: &[&str]) -> Check {
    let (reason, fix) = match reference.read() {
        Ok(Some(_)) => return Check::ok("provider_key", format!("{provider}: {reference} is set")),
        Ok(None) => {
            let fix = match reference {
                SecretRef::Env(name) => format!("export {name}=…"),
                SecretRef::File(path) => format!("write the key to {}", path.display()),
            };
            (format!("{provider}: {reference} is not set"), fix)
        }
        Err(error) => {
            (format!("{provider}: {reference} cannot be read: {error}"), "make it readable for this user".into())
        }
    };
    if models.is_empty() {
        return Check::warn("provider_key", format!("{reason}; requests that name its models will fail"), fix);
    }
    let routed = format!("{reason}, and requests are routed to {}", models.join(", "));
    Check::fail("provider_key", routed, format!("{fix}, or route to other models under [routing]"))
}

fn program(provider: &str, program: &str, models: &[&str]) -> Check {
    match find_program(program) {
        Some(path) => Check::ok("provider_program", format!("{provider}: {}", path.display())),
        None => {
            let text = format!("{provider}: there is no program {program:?} that this user may run");
            let text = format!("{text}, and requests are routed to {}", models.join(", "));
            let fix = "install it, write its path, or route to other models under [routing]";
            Check::fail("provider_program", text, fix)
        }
    }
}

fn prices(config: &Config, routed: &BTreeSet<&str>) -> Check {
    let gateway = match Gateway::new(config) {
        Ok(gateway) => gateway,
        Err(problems) => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Check::fail("models", texts.join("; "), "singularity config check");
        }
    };
    let unpriced: Vec<&str> =
        routed.iter().filter(|name| gateway.model(name).is_none_or(|model| !model.priced)).copied().collect();
    if !unpriced.is_empty() {
        let fix = format!("add [models.{}.price] with dollars per million tokens", unpriced.first().unwrap_or(&"NAME"));
        let text = format!("no price is known for {}; what they cost stays unknown", unpriced.join(", "));
        return Check::warn("models", text, fix);
    }
    let shown = routed.iter().map(|name| {
        let simulated = gateway.model(name).is_some_and(|model| model.simulated);
        if simulated { format!("{name} (simulated)") } else { (*name).to_owned() }
    });
    let shown: Vec<String> = shown.collect();
    let text = format!("requests are routed to {}; prices of {}", shown.join(", "), gateway.prices_version());
    Check::ok("models", text)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::config::{Command, Complexity, Model, Provider, ProviderKind, Route};

    fn config(key: &str) -> Config {
        let mut config = Config::default();
        let provider = Provider {
            kind: ProviderKind::Openai,
            base_url: Some("https://api.example".into()),
            api_key: Some(SecretRef::env(key)),
            ..Provider::default()
        };
        config.providers.insert("acme".into(), provider);
        config.models.insert("m".into(), Model { provider: "acme".into(), name: "acme-1".into(), ..Model::default() });
        config
    }

    #[test]
    fn a_missing_key_fails_only_where_requests_are_routed() {
        let mut config = config("SINGULARITY_TEST_NO_SUCH_KEY");
        assert_eq!(checks(&config)[0].status, Status::Warn);
        config.routing.models.insert(Complexity::Simple, "m".into());
        let check = &checks(&config)[0];
        assert_eq!(check.status, Status::Fail);
        assert!(check.message.contains("routed to m") && check.fix.as_ref().unwrap().contains("export"), "{check:?}");
    }

    #[test]
    fn models_of_named_routes_and_candidates_are_routed_to() {
        let is_told = |route: &dyn Fn(&mut Config)| {
            let mut config = config("SINGULARITY_TEST_NO_SUCH_KEY");
            route(&mut config);
            checks(&config)[0].message.ends_with(" m")
        };
        assert!(!is_told(&|_| {}));
        assert!(is_told(&|config| {
            config.routing.routes.insert("own".into(), Route { models: vec!["m".into()] });
        }));
        assert!(is_told(&|config| {
            config.models.insert("first".into(), Model { provider: "acme".into(), ..Model::default() });
            config.routing.models.insert(Complexity::Simple, "first".into());
            config.routing.candidates.insert(Complexity::Simple, vec!["m".into()]);
        }));
    }

    #[test]
    fn a_missing_program_fails_only_where_requests_are_routed() {
        let mut config = config("PATH");
        let command = Command { program: "singularity-no-such-program".into(), ..Command::default() };
        let provider = Provider { kind: ProviderKind::Command, command: Some(command), ..Provider::default() };
        config.providers.insert("acme".into(), provider);
        assert!(checks(&config).iter().all(|check| check.check != "provider_program"));
        config.routing.models.insert(Complexity::Simple, "m".into());
        assert_eq!(checks(&config)[0].status, Status::Fail);
        config.providers.get_mut("acme").unwrap().command.as_mut().unwrap().program = "sh".into();
        assert_eq!((checks(&config)[0].status, checks(&config)[0].check), (Status::Ok, "provider_program"));
    }

    #[test]
    fn a_routed_model_without_a_price_is_told() {
        // PATH is set wherever tests run; what it holds is not looked at.
        let mut config = config("PATH");
        config.routing.models.insert(Complexity::Simple, "m".into());
        let checks = checks(&config);
        assert_eq!(checks[0].status, Status::Ok);
        assert_eq!(checks[1].status, Status::Warn);
        assert!(checks[1].message.contains("no price is known for m"), "{:?}", checks[1]);
    }
}
