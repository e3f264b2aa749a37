//! The model servers of a scenario: one of each version, or several of the first that are replaced one by one.
//!
//! Of a rolling update it plays who runs the servers: what the sidecar says is drained is ended, and the new version
//! started in its place after a moment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::model::Model;
use super::super::server::manner::{Asked, Trouble};
use super::super::server::{self, Standing};
use crate::strategy::rolling::{EndpointReport, Place};

/// How long nobody listens where a server is replaced.
const AWAY: Duration = Duration::from_millis(500);

/// All servers.
pub(in crate::demo) struct Servers {
    /// The old version, and the new one.
    models: [Arc<Model>; 2],
    servers: Vec<Server>,
}

struct Server {
    address: SocketAddr,
    /// Index of its version.
    runs: usize,
    /// None while it is replaced, since then.
    standing: Result<Standing, Instant>,
}

impl Servers {
    /// Servers that run these versions, by their index.
    pub(in crate::demo) fn start(models: [Model; 2], runs: &[usize]) -> io::Result<Servers> {
        let models = models.map(Arc::new);
        let start = |runs: &usize| {
            let standing = server::start(Arc::clone(&models[*runs]), 0)?;
            Ok(Server { address: standing.address(), runs: *runs, standing: Ok(standing) })
        };
        let servers: io::Result<Vec<Server>> = runs.iter().map(start).collect();
        Ok(Servers { servers: servers?, models })
    }

    /// Where they listen.
    pub(in crate::demo) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// The new version gets into trouble, wherever it runs.
    pub(in crate::demo) fn begin(&self, trouble: Trouble) {
        self.renewed().for_each(|server| server.manner().begin(trouble));
    }

    /// Its trouble is over.
    pub(in crate::demo) fn mend(&self) {
        self.renewed().for_each(|server| server.manner().mend());
    }

    /// What servers of the new version were asked, all together.
    pub(in crate::demo) fn asked(&self) -> Asked {
        self.renewed().fold(Asked::default(), |sum, server| {
            let Asked { calls, failures, first } = server.manner().asked();
            let first = sum.first.into_iter().chain(first).min();
            Asked { calls: sum.calls + calls, failures: sum.failures + failures, first }
        })
    }

    /// Servers of the new version.
    fn renewed(&self) -> impl Iterator<Item = &Standing> {
        self.servers
            .iter()
            .filter(|server| server.runs == 1)
            .filter_map(|server| server.standing.as_ref().ok())
    }

    /// Ends what is drained, and starts the new version where the old one was ended a moment ago; what was done, in
    /// words.
    pub(in crate::demo) fn tend(&mut self, endpoints: &[EndpointReport]) -> io::Result<Vec<String>> {
        let mut did = Vec::new();
        let version = self.models[1].version();
        for server in &mut self.servers {
            let address = server.address.to_string();
            match server.standing {
                Ok(_) => {
                    let drained = endpoints.iter().find(|endpoint| *endpoint.address == *address);
                    let wants = drained.filter(|endpoint| endpoint.place == Place::Drained);
                    let wants = wants.and_then(|endpoint| endpoint.wanted.as_deref());
                    if server.runs == 0 && wants == Some(version) {
                        server.standing = Err(Instant::now());
                        did.push(format!("whoever runs the servers ends {address}"));
                    }
                }
                Err(since) if since.elapsed() >= AWAY => {
                    match server::start(Arc::clone(&self.models[1]), server.address.port()) {
                        Ok(standing) => {
                            (server.runs, server.standing) = (1, Ok(standing));
                            did.push(format!("and starts version {version} there"));
                        }
                        // The old one is about to let go of the port.
                        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(_) => {}
            }
        }
        Ok(did)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drained_is_replaced_and_nothing_else() {
        let [first, second, _] = Model::bundled().unwrap();
        let mut all = Servers::start([first, second], &[0, 0]).unwrap();
        let [one, other] = all.addresses()[..] else { panic!() };
        let report = |address: SocketAddr, place, wanted: &str| EndpointReport {
            address: address.to_string().into(),
            place,
            ready: true,
            runs: Some("1.0.0".into()),
            wanted: Some(wanted.into()),
            in_flight: 0,
        };
        let drained = [report(one, Place::Drained, "2.0.0"), report(other, Place::Draining, "2.0.0")];
        assert_eq!(all.tend(&drained).unwrap(), [format!("whoever runs the servers ends {one}")]);
        let began = Instant::now();
        let did = loop {
            let did = all.tend(&drained).unwrap();
            if !did.is_empty() {
                break did;
            }
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(did, ["and starts version 2.0.0 there"]);
        assert!(all.tend(&drained).unwrap().is_empty(), "once");
        assert_eq!(all.addresses(), [one, other]);
        assert_eq!(all.servers.iter().map(|server| server.runs).collect::<Vec<_>>(), [1, 0]);
        // One that is to go back is none of its business.
        let back = [report(other, Place::Drained, "1.0.0")];
        assert!(all.tend(&back).unwrap().is_empty());
    }
}
