//! Endpoints of variants: which of them gets a call, their connections, and their readiness.
//!
//! Everything but [`readiness`], [`probe`], [`names`] and [`introduce`] belongs to one worker and is used by its thread only.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

pub mod connection;
pub mod dial;
pub mod endpoint;
pub mod introduce;
pub mod names;
pub mod probe;
pub mod readiness;

use endpoint::Endpoint;

/// One variant as a worker reaches it.
#[derive(Debug)]
pub struct Upstream {
    endpoints: Vec<Rc<Endpoint>>,
}

impl Upstream {
    /// Over the endpoints of one variant; at least one.
    pub fn new(endpoints: Vec<Rc<Endpoint>>) -> Self {
        Upstream { endpoints }
    }

    /// Whether any endpoint may get calls.
    pub fn is_ready(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.readiness().is_ready())
    }

    /// The endpoint with the fewest calls in flight among those that are ready and not taken out; one of `tried` only
    /// where there is no other, one that is taken out or silent only where all are, one that is cordoned where no other
    /// is ready. `None` where none is ready, unless `even_unready`.
    pub fn choose(&self, tried: &[Arc<str>], now: Instant, even_unready: bool) -> Option<&Rc<Endpoint>> {
        if let [only] = &self.endpoints[..] {
            return (even_unready || only.readiness().is_ready()).then_some(only);
        }
        let eligible =
            self.endpoints.iter().filter(|endpoint| even_unready || endpoint.readiness().is_ready());
        eligible.min_by_key(|endpoint| {
            // Among equals those that had fewer calls so far, or an idle variant would use its first only.
            (
                endpoint.readiness().is_cordoned(),
                endpoint.is_ejected(now) || endpoint.readiness().is_suspected(),
                tried.contains(endpoint.name()),
                endpoint.in_flight(),
                endpoint.started(),
            )
        })
    }

    /// All endpoints, as configured, for a message to people.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.endpoints.iter().map(|endpoint| &**endpoint.name()).collect();
        names.join(", ")
    }

    /// Why none of them may get calls, for a message to people.
    pub fn why(&self) -> String {
        let why = self.endpoints.iter().find_map(|endpoint| endpoint.readiness().why());
        why.map_or_else(|| "not ready: it was not asked yet".to_owned(), |why| format!("not ready: {why}"))
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }
}
