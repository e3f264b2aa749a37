//! TLS: which files, who is let in, and that what is asked for can be had together.

use std::path::PathBuf;
use std::sync::Arc;

use super::Check;
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::Refused;
use crate::config::{ClientTls, Listen, Rights, ServerTls, Tls, raw};
use crate::tls::name::Pattern;

impl Check<'_> {
    /// Everything under `tls` but what endpoints use, which is returned beside it.
    pub(super) fn tls(&mut self, file: &raw::File) -> (Tls, Arc<ClientTls>) {
        let Some(raw) = &file.tls else { return (Tls::default(), Arc::default()) };
        let mut port = |name: &str, raw: Option<&raw::ServerTls>| self.port_tls(&join("tls", name), raw?);
        let tls = Tls {
            listen: port("listen", raw.listen.as_ref()),
            admin: port("admin", raw.admin.as_ref()),
            health: port("health", raw.health.as_ref()),
        };
        let endpoints = raw.endpoints.as_ref().map(|raw| self.client_tls("tls.endpoints", raw));
        (tls, endpoints.unwrap_or_default())
    }

    /// What an `https` collector is reached with.
    pub(super) fn collector_tls(&mut self, file: &raw::File) -> Option<Arc<ClientTls>> {
        let raw = file.tls.as_ref()?.collector.as_ref()?;
        Some(self.client_tls("tls.collector", raw))
    }

    fn port_tls(&mut self, path: &str, raw: &raw::ServerTls) -> Option<Arc<ServerTls>> {
        for (key, given) in [("cert", &raw.cert), ("key", &raw.key)] {
            if given.is_none() {
                let hint = "name the PEM files of the port's certificate and of its key, like /etc/parhelion/tls/tls.crt \
                            and tls.key";
                self.missing(&join(path, key), hint);
            }
        }
        let cert = self.path(&join(path, "cert"), raw.cert.as_deref());
        let key = self.path(&join(path, "key"), raw.key.as_deref());
        let client_ca = self.path(&join(path, "client_ca"), raw.client_ca.as_deref());
        let allow = self.patterns(&join(path, "allow"), raw.allow.as_deref());
        if client_ca.is_none() && !allow.is_empty() {
            let problem = Problem::new(join(path, "allow"), "names callers, but nobody signs for them");
            self.error(problem.with_hint("name the file of their authorities with `client_ca`"));
        }
        Some(Arc::new(ServerTls { cert: cert?, key: key?, client_ca, allow, optional: false }))
    }

    /// What a server is believed by and shown.
    pub(super) fn client_tls(&mut self, path: &str, raw: &raw::ClientTls) -> Arc<ClientTls> {
        let ca = self.path(&join(path, "ca"), raw.ca.as_deref());
        let cert = self.path(&join(path, "cert"), raw.cert.as_deref());
        let key = self.path(&join(path, "key"), raw.key.as_deref());
        for (given, other, missing) in [(&cert, &key, "key"), (&key, &cert, "cert")] {
            if given.is_some() && other.is_none() {
                self.missing(&join(path, missing), "a certificate and its key are named together");
            }
        }
        let server_name = raw.server_name.as_deref().and_then(|name| {
            let good = rustls::pki_types::ServerName::try_from(name).is_ok();
            let refused = || Refused {
                message: "is no name of a server".to_owned(),
                hint: "write a DNS name or an IP address, as its certificate has it".to_owned(),
            };
            if good { Some(name) } else { self.refused(&join(path, "server_name"), name, refused()) }
        });
        let server_name = server_name.map(Arc::from);
        let allow = self.patterns(&join(path, "allow"), raw.allow.as_deref());
        Arc::new(ClientTls { ca, pair: cert.zip(key), server_name, allow })
    }

    fn patterns(&mut self, path: &str, raw: Option<&[Option<String>]>) -> Vec<Pattern> {
        let Some(raw) = raw else { return Vec::new() };
        if raw.is_empty() {
            let problem = Problem::new(path, "is empty, so nobody would be let in");
            self.error(problem.with_hint("leave it out to let in everybody whom the authorities signed for"));
        }
        let mut found = Vec::new();
        for (index, text) in
            raw.iter().enumerate().filter_map(|(index, text)| Some((index, text.as_deref()?)))
        {
            let at = format!("{path}[{index}]");
            match Pattern::parse(text) {
                Ok(pattern) => found.push(pattern),
                Err(hint) => {
                    let problem =
                        Problem::new(at, "is no name of a certificate").with_value(format!("{text:?}"));
                    self.error(problem.with_hint(hint));
                }
            }
        }
        found
    }

    /// Who may do what on the admin port by its certificate.
    pub(super) fn rights(&mut self, raw: Option<&raw::Control>) -> Rights {
        let read = raw.and_then(|control| control.read.as_deref());
        let act = raw.and_then(|control| control.act.as_deref());
        Rights { read: self.patterns("control.read", read), act: self.patterns("control.act", act) }
    }

    /// That TLS, the ports and the rights fit together.
    pub(super) fn fitting(
        &mut self,
        listen: Option<&Listen>,
        tls: &mut Tls,
        (rights, tokens): (&Rights, Option<&PathBuf>),
    ) {
        if tls.listen.is_some() && matches!(listen, Some(Listen::Unix(_))) {
            let problem = Problem::new("tls.listen", "is for a unix socket, which no other machine reaches");
            self.error(problem.with_hint("remove it, or listen on an address"));
        }
        let named = !rights.read.is_empty() || !rights.act.is_empty();
        let asked = tls.admin.as_ref().is_some_and(|admin| admin.client_ca.is_some());
        if named && !asked && !self.broken("tls.admin") {
            let path = if rights.read.is_empty() { "control.act" } else { "control.read" };
            let problem = Problem::new(path, "names certificates, but the admin port asks for none");
            self.error(problem.with_hint("say `tls: {admin: {cert: …, key: …, client_ca: /PATH}}`"));
        }
        if asked && !named && !self.broken("control") {
            let problem =
                Problem::new("tls.admin.client_ca", "asks for certificates, and none of them has a right");
            let hint = "say who may do what: `control: {read: [NAMES], act: [NAMES]}`";
            self.error(problem.with_hint(hint));
        }
        if let Some(admin) = tls.admin.as_mut().filter(|_| tokens.is_some()) {
            // Who has a token needs no certificate.
            Arc::make_mut(admin).optional = true;
        }
    }
}
