//! What stands behind the sidecar of the split: three model servers, and a collector for its spans.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::caller::Known;
use super::super::collector::Collector;
use super::super::model::Model;
use super::super::server::{self, Standing};
use super::super::{DemoError, Ports};
use crate::tasks::Tasks;

/// Those that answer.
pub(in crate::demo) const VARIANTS: [&str; 2] = ["v1", "v2"];
const SHADOW: &str = "v3";

/// What stands behind the sidecar.
pub(in crate::demo) struct World {
    pub(in crate::demo) model: String,
    pub(in crate::demo) variants: [Known; 2],
    pub(in crate::demo) shadow: Known,
    /// `None` where the environment names another collector.
    pub(in crate::demo) collector: Option<(Collector, SocketAddr)>,
    _servers: [Standing; 3],
}

impl World {
    /// `shadow` is a server of the third version elsewhere, if any.
    pub(in crate::demo) fn start(
        tasks: &Tasks,
        collect: bool,
        shadow: Option<SocketAddr>,
    ) -> Result<World, DemoError> {
        let models = Model::bundled()?;
        let stand = |model: Model| server::start(Arc::new(model), 0).map_err(DemoError::Bind);
        let model = models[0].name().to_owned();
        let versions = models.each_ref().map(|model| model.version().to_owned());
        let [first, second, third] = models;
        let servers = [stand(first)?, stand(second)?, stand(third)?];
        let known = |index: usize, name: &str| Known {
            name: name.to_owned(),
            variant: name.to_owned(),
            version: versions[index].clone(),
            server: servers[index].address(),
        };
        let variants = [known(0, VARIANTS[0]), known(1, VARIANTS[1])];
        let own = known(2, SHADOW);
        let shadow = Known { server: shadow.unwrap_or(own.server), ..own };
        let collector = Collector::default();
        let collector = if collect {
            let address = collector.start(tasks).map_err(DemoError::Bind)?;
            Some((collector, address))
        } else {
            None
        };
        Ok(World { model, variants, shadow, collector, _servers: servers })
    }

    pub(in crate::demo) fn spans(&self) -> Option<u64> {
        self.collector.as_ref().map(|(collector, _)| collector.spans())
    }

    /// The sidecar's configuration, as a user would write it.
    pub(in crate::demo) fn configuration(&self, ports: Ports) -> String {
        let [listen, admin, health] = match ports {
            Ports::Free => [0; 3],
            Ports::Usual => [9000, 9900, 9901],
        };
        let [first, second] = &self.variants;
        let otlp = self.collector.as_ref().map(|(_, at)| format!("otlp: \"http://{at}\", "));
        format!(
            "# Two versions of one model: 70 % of the users get the first, 30 % the second, and each keeps it.
# The third gets copies of half the calls and answers nobody.
# The model servers at these ports run as long as the demo that wrote this.
listen: 127.0.0.1:{listen}
admin: 127.0.0.1:{admin}
health: 127.0.0.1:{health}
models:
  {model}:
    variants:
      {v1}: {{endpoint: \"http://{s1}\", version: {ver1}}}
      {v2}: {{endpoint: \"http://{s2}\", version: {ver2}}}
      {v3}: {{endpoint: \"http://{s3}\", version: {ver3}}}
    unit: [metadata:x-user-id]
    strategy:
      kind: ab
      baseline: {v1}
      weights: {{{v1}: 70%, {v2}: 30%}}
    shadows:
      - {{variant: {v3}, sample: 50%}}
telemetry: {{{otlp}sample: 100%}}",
            model = self.model,
            v1 = first.name,
            v2 = second.name,
            s1 = first.server,
            s2 = second.server,
            ver1 = first.version,
            ver2 = second.version,
            v3 = self.shadow.name,
            s3 = self.shadow.server,
            ver3 = self.shadow.version,
            otlp = otlp.unwrap_or_default(),
        )
    }
}
