//! The way to the sidecar, and everything that can go wrong on it, said with its remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::causes::innermost;
use crate::config::{Address, ClientTls};
use crate::pb::v1;
use crate::pb::v1::control_client::ControlClient;
use crate::tls;
use crate::upstream::dial::connector;

/// For the connection, and again for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a command was not answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// The sidecar refused, and said why.
    Refused(String),
    /// What was asked for means nothing.
    Usage(String),
    /// No sidecar answered.
    Unreached(String),
    /// What was answered cannot be written.
    Output(io::Error),
}

impl Failure {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) | Failure::Output(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreached(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text) | Failure::Usage(text) | Failure::Unreached(text) => f.write_str(text),
            Failure::Output(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// How an admin port that speaks TLS is reached; any of these means that it does.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Tls {
    /// PEM file with the authorities of the admin port's certificate; else those of this system
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with the certificate to show, with --key
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// What the admin port is called in its certificate, where that is not its address
    #[arg(long, global = true, value_name = "NAME")]
    server_name: Option<String>,
}

impl Tls {
    fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.server_name.is_some()
    }

    fn client(&self) -> Result<Arc<tls::client::Client>, Failure> {
        let settings = ClientTls {
            ca: self.ca.clone(),
            pair: self.cert.clone().zip(self.key.clone()),
            server_name: self.server_name.as_deref().map(Arc::from),
            allow: Vec::new(),
        };
        let client = tls::client::Client::load(&Arc::new(settings));
        client.map(Arc::new).map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Which sidecar is asked, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `HOST:PORT`.
    pub(super) address: String,
    endpoint: Endpoint,
    /// Where it speaks TLS.
    tls: Option<(Address, Arc<tls::client::Client>)>,
    token: Option<AsciiMetadataValue>,
}

impl Place {
    /// What the arguments say, else the environment.
    pub(super) fn of(admin: Option<String>, token_file: Option<&Path>, tls: &Tls) -> Result<Self, Failure> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let address = admin.or_else(|| set("PARHELION_ADMIN")).unwrap_or_else(|| super::ADMIN.to_owned());
        let token = match token_file {
            None => set("PARHELION_TOKEN"),
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|error| Failure::Usage(format!("--token-file {}: {error}", path.display())))?,
            ),
        };
        Self::new(&address, token.as_deref(), tls)
    }

    fn new(address: &str, token: Option<&str>, tls: &Tls) -> Result<Self, Failure> {
        let secure = address.strip_prefix("https://");
        let plain = address.strip_prefix("http://").filter(|_| !tls.is_given());
        let scheme = if secure.is_some() || tls.is_given() { "https" } else { "http" };
        let address = secure.or(plain).unwrap_or(address).trim_end_matches('/');
        let wrong =
            || Failure::Usage(format!("{address:?} is no address: write HOST:PORT, like {}", super::ADMIN));
        let authority: http::uri::Authority = address.parse().map_err(|_| wrong())?;
        let port = authority.port_u16().filter(|_| !authority.host().is_empty() && !address.contains('@'));
        let port = port.ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let place = Address::Tcp { host: host.into(), port };
        let client = (scheme == "https").then(|| tls.client()).transpose()?;
        let tls = client.map(|client| (place, client));
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|_| wrong())?;
        let endpoint = endpoint.connect_timeout(PATIENCE).http2_keep_alive_interval(PATIENCE);
        let token = token.map(|token| format!("Bearer {}", token.trim()).parse()).transpose();
        let token = token.map_err(|_| Failure::Usage("the token is no plain text".to_owned()))?;
        Ok(Place { address: address.to_owned(), endpoint, tls, token })
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let connected = match &self.tls {
            None => self.endpoint.connect().await,
            Some((address, client)) => {
                let connector = connector(address.clone(), Arc::clone(client));
                self.endpoint.connect_with_connector(connector).await
            }
        };
        let channel = connected.map_err(|error| self.unreached(&error))?;
        Ok(Client { place: self.clone(), inner: ControlClient::new(channel) })
    }

    fn unreached(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let cause = innermost(error);
        Failure::Unreached(format!(
            "{} was not reached: {cause}\n  → is the sidecar running, and is this its admin port? Its log says \
             `serving` with `admin` at the start; name another with --admin or PARHELION_ADMIN",
            self.address
        ))
    }

    /// What a status means for who asked.
    fn failed(&self, status: &Status) -> Failure {
        let broken = std::error::Error::source(status).is_some();
        match status.code() {
            Code::Unimplemented => Failure::Unreached(format!(
                "{} does not answer parhelion.v1.Control: {}\n  → is this the admin port of a sidecar, and not its \
                 data or health port?",
                self.address,
                status.message()
            )),
            Code::DeadlineExceeded => {
                let within = PATIENCE.as_secs();
                Failure::Unreached(format!("{}: no answer within {within} s", self.address))
            }
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled if broken => {
                self.unreached(status)
            }
            _ => Failure::Refused(status.message().to_owned()),
        }
    }
}

/// What a rollout can be told without more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    Promote,
    Rollback,
    Pause,
    Resume,
}

/// A connection to a sidecar.
pub(super) struct Client {
    place: Place,
    inner: ControlClient<Channel>,
}

impl Client {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.lasting(message);
        request.set_timeout(PATIENCE);
        request
    }

    /// One whose answer may go on for ever.
    fn lasting<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.place.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    fn answer<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        answer.map(Response::into_inner).map_err(|status| self.place.failed(&status))
    }

    pub(super) async fn list(&mut self) -> Result<Vec<v1::Rollout>, Failure> {
        let answer = self.inner.list_rollouts(self.request(v1::ListRolloutsRequest {})).await;
        Ok(self.answer(answer)?.rollouts)
    }

    pub(super) async fn get(&mut self, model: String) -> Result<v1::Rollout, Failure> {
        let answer = self.inner.get_rollout(self.request(v1::GetRolloutRequest { model })).await;
        self.answer(answer)
    }

    pub(super) async fn watch(&mut self, model: String) -> Result<Watched, Failure> {
        let answer = self.inner.watch_rollouts(self.lasting(v1::WatchRolloutsRequest { model })).await;
        Ok(Watched { place: self.place.clone(), stream: self.answer(answer)? })
    }

    pub(super) async fn tell(
        &mut self,
        word: Word,
        model: String,
        reason: String,
    ) -> Result<v1::CommandResponse, Failure> {
        let request = self.request(v1::CommandRequest { model, reason });
        let answer = match word {
            Word::Promote => self.inner.promote(request).await,
            Word::Rollback => self.inner.rollback(request).await,
            Word::Pause => self.inner.pause(request).await,
            Word::Resume => self.inner.resume(request).await,
        };
        self.answer(answer)
    }

    pub(super) async fn pin(
        &mut self,
        model: String,
        variant: String,
        reason: String,
    ) -> Result<v1::CommandResponse, Failure> {
        let answer = self.inner.pin(self.request(v1::PinRequest { model, variant, reason })).await;
        self.answer(answer)
    }

    pub(super) async fn explain(&mut self, asked: v1::ExplainRequest) -> Result<v1::Explanation, Failure> {
        let answer = self.inner.explain(self.request(asked)).await;
        self.answer(answer)
    }

    pub(super) async fn audit(&mut self, model: String, limit: u32) -> Result<Vec<v1::AuditRecord>, Failure> {
        let answer = self.inner.list_audit(self.request(v1::ListAuditRequest { model, limit })).await;
        Ok(self.answer(answer)?.records)
    }

    pub(super) async fn export(&mut self, model: String) -> Result<v1::ExportResponse, Failure> {
        let answer = self.inner.export(self.request(v1::ExportRequest { model })).await;
        self.answer(answer)
    }

    pub(super) async fn reference(&mut self, model: String, variant: String) -> Result<String, Failure> {
        let asked = v1::GetReferenceRequest { model, variant };
        let answer = self.inner.get_reference(self.request(asked)).await;
        Ok(self.answer(answer)?.file)
    }
}

/// Rollouts as they change.
pub(super) struct Watched {
    place: Place,
    stream: Streaming<v1::Rollout>,
}

impl Watched {
    /// The next change; `None` where the sidecar has no more to say.
    pub(super) async fn next(&mut self) -> Result<Option<v1::Rollout>, Failure> {
        self.stream.message().await.map_err(|status| self.place.failed(&status))
    }
}

/// 32 bytes of chance as hexadecimal digits.
pub(super) fn random() -> Result<String, String> {
    let mut bytes = [0_u8; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:9900", "localhost:1", "[::1]:9900", "http://sidecar.models.svc:9900/"] {
            let place = Place::new(good, Some(" 00ff\n"), &Tls::default()).unwrap();
            assert_eq!(place.token.unwrap(), "Bearer 00ff");
        }
        for bad in ["9900", "localhost", "", ":9900", "a b:1", "https://x", "u@localhost:1"] {
            let told = Place::new(bad, None, &Tls::default()).unwrap_err();
            assert_eq!(told.exit_code(), 2, "{bad}");
            assert!(told.to_string().contains("127.0.0.1:9900"), "{told}");
        }
        assert_eq!(
            Place::new("localhost:1", Some("two\nlines"), &Tls::default()).unwrap_err().exit_code(),
            2
        );
    }

    #[test]
    fn a_status_becomes_an_exit_code() {
        let place = Place::new("localhost:1", None, &Tls::default()).unwrap();
        for (code, exit) in [
            (Code::NotFound, 1),
            (Code::FailedPrecondition, 1),
            (Code::PermissionDenied, 1),
            (Code::Unauthenticated, 1),
            (Code::Unavailable, 1),
            (Code::Unimplemented, 3),
            (Code::DeadlineExceeded, 3),
        ] {
            assert_eq!(place.failed(&Status::new(code, "why")).exit_code(), exit, "{code:?}");
        }
        let broken = Status::from_error(Box::new(io::Error::new(io::ErrorKind::BrokenPipe, "the pipe")));
        let told = place.failed(&broken);
        assert!(told.exit_code() == 3 && told.to_string().contains("the pipe"), "{told}");
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
