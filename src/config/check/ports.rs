//! Ports that collide: with each other, or with a model that would be this process itself.

use std::net::{IpAddr, SocketAddr};

use super::Check;
use crate::config::problem::Problem;
use crate::config::{Address, Config, Listen};

impl Check<'_> {
    /// Checks what this process opens against itself and against all endpoints.
    pub(super) fn ports(&mut self, config: &Config) {
        let mut open = vec![("admin", config.admin), ("health", config.health)];
        if let Listen::Tcp(address) = config.listen {
            open.insert(0, ("listen", address));
        }
        for (index, (path, address)) in open.iter().enumerate() {
            let taken = open.iter().take(index).find(|(_, taken)| collide(*address, *taken));
            if let Some((other, taken)) = taken {
                let message = format!("is the address of `{other}` too ({taken})");
                let problem = Problem::new(*path, message).with_value(address.to_string());
                self.error(problem.with_hint("give each its own port"));
            }
        }
        for model in &config.models {
            for variant in &model.variants {
                for endpoint in &variant.endpoints {
                    let path = format!("models.{}.variants.{}", model.name, variant.name);
                    self.own_port(&path, &endpoint.address, &open, &config.listen);
                }
            }
        }
    }

    fn own_port(&mut self, path: &str, address: &Address, open: &[(&str, SocketAddr)], listen: &Listen) {
        let own = match (address, listen) {
            (Address::Unix(socket), Listen::Unix(own)) if socket == own => Some("listen"),
            (Address::Tcp { host, port }, _) => {
                let ip = match &**host {
                    "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
                    host => host.parse::<IpAddr>().ok(),
                };
                ip.and_then(|ip| {
                    let reached = SocketAddr::new(ip, *port);
                    let is_here =
                        |own: SocketAddr| own == reached || (ip.is_loopback() && collide(own, reached));
                    open.iter().find(|(_, own)| is_here(*own)).map(|(path, _)| *path)
                })
            }
            _ => None,
        };
        if let Some(own) = own {
            let message = format!("is this sidecar itself (`{own}`)");
            let problem = Problem::new(path, message).with_value(address.to_string());
            self.error(problem.with_hint("give the model server a port of its own"));
        }
    }
}

/// Whether both cannot be held at once; port 0 never collides.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let all = |ip: IpAddr| ip.is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || all(a.ip()) || all(b.ip()))
}
