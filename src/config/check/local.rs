//! Which variant is at home: one file serves all pods of a fleet, and `PARHELION_LOCAL` says whose pod this is.

use std::sync::Arc;

use super::Check;
use super::endpoint::address;
use crate::config::problem::{Problem, suggestion};
use crate::config::{Endpoint, Environment, LOCAL, LOCAL_ENDPOINT, Model};

impl Check<'_> {
    /// Gives the variant at home the endpoint at home, in every model that has it.
    pub(super) fn localise(&mut self, models: &mut [Model], environment: &Environment) {
        let Some(local) = environment.local.as_deref() else { return };
        let (address, secure) = match address(&environment.local_endpoint) {
            Ok(address) => address,
            Err(refused) => {
                return self.refused(LOCAL_ENDPOINT, &environment.local_endpoint, refused).unwrap_or(());
            }
        };
        let tls = secure.then(|| Arc::clone(&self.https));
        let (model_name, variant_name) = match local.rsplit_once('/') {
            Some((model, variant)) => (Some(model), variant),
            None => (None, local),
        };
        let mut found = false;
        for model in models.iter_mut().filter(|model| model_name.is_none_or(|name| *model.name == *name)) {
            for variant in model.variants.iter_mut().filter(|variant| *variant.name == *variant_name) {
                variant.endpoints = vec![Endpoint { address: address.clone(), hop: false, tls: tls.clone() }];
                found = true;
            }
        }
        if !found && !self.broken("models") {
            let known: Vec<String> = models
                .iter()
                .flat_map(|model| {
                    let name = model_name.map(|_| &*model.name);
                    model.variants.iter().map(move |variant| match name {
                        Some(name) => format!("{name}/{}", variant.name),
                        None => variant.name.to_string(),
                    })
                })
                .collect();
            let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
            known.sort_unstable();
            known.dedup();
            let problem = Problem::new(LOCAL, "is no variant of any model").with_value(format!("{local:?}"));
            self.error(problem.with_hint(suggestion(local, &known)));
        }
    }
}
