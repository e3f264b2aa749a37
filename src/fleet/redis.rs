//! The store as a Redis or Valkey server keeps it: alone, behind sentinels, or as a cluster.
//!
//! Each exchange is one call of a script that does what [`super::ledger`] does, so that a server executes it as a whole.
//! All keys of a model carry its name as their hash tag, so a cluster has them in one place. A connection is made when
//! one is needed and dropped when it fails; nothing is tried twice here, for whoever asks asks again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ErrorKind, RedisError, Script,
    TlsCertificates, TlsMode, Value, cmd,
};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tonic::codegen::tokio_stream::StreamExt as _;
use url::Url;

use super::exchange::{Answer, Ask, Commit, Delivered, Lease, Mark, Neighbour, Sent, Want};
use super::{Answered, Rollout, Store, StoreError};
use crate::config::{Fleet, Servers};

mod reports;

/// How long a connection, or an answer, is waited for.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// How often a quiet subscription is asked whether it still stands.
const PING: Duration = Duration::from_secs(5);

/// The way to the servers.
#[derive(Debug)]
pub struct Redis {
    config: Arc<Fleet>,
    script: Script,
    reports: Script,
    link: Mutex<Option<Link>>,
}

#[derive(Clone)]
enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

/// A message of the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// About which model.
    pub model: Arc<str>,
}

impl Redis {
    /// Nothing is connected yet.
    pub fn new(config: Arc<Fleet>) -> Self {
        let (script, reports) = (Script::new(include_str!("exchange.lua")), Script::new(reports::SCRIPT));
        Redis { config, script, reports, link: Mutex::default() }
    }

    /// Tells what replicas say to all of them, and to `name` alone, for as long as the subscription stands.
    ///
    /// # Errors
    /// Why it does not, or no longer.
    pub async fn listen(&self, name: &str, tell: &mpsc::Sender<News>) -> Result<(), StoreError> {
        let mut pubsub = self.pubsub().await?;
        let prefix = format!("{{{}:", self.config.prefix);
        for channel in [format!("{prefix}*}}:told"), format!("{prefix}*}}:to:{name}")] {
            within(pubsub.psubscribe(channel)).await?;
        }
        let (mut sink, mut stream) = pubsub.split();
        loop {
            match timeout(PING, stream.next()).await {
                Ok(Some(message)) => {
                    let model = message.get_channel_name().strip_prefix(&prefix);
                    if let Some((model, _)) = model.and_then(|rest| rest.rsplit_once("}:to")) {
                        // One that waits already is enough.
                        let _ = tell.try_send(News { model: model.into() });
                    }
                }
                Ok(None) => return Err(StoreError::Away("the subscription ended".to_owned())),
                Err(_) => within(sink.ping::<Value>()).await.map(|_| ())?,
            }
        }
    }

    async fn pubsub(&self) -> Result<PubSub, StoreError> {
        if let Servers::Sentinel { .. } = &self.config.servers {
            let mut sentinel = self.sentinel()?;
            let client = within(sentinel.async_get_client()).await?;
            return within(client.get_async_pubsub()).await;
        }
        // What one node of a cluster is told all of them tell, so any that is there will do.
        let mut last = StoreError::Away("no host is configured".to_owned());
        for place in 0..self.config.hosts.len() {
            match within(self.client(place)?.get_async_pubsub()).await {
                Ok(pubsub) => return Ok(pubsub),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The connection, made if need be.
    async fn link(&self) -> Result<Link, StoreError> {
        let mut link = self.link.lock().await;
        if let Some(link) = &*link {
            return Ok(link.clone());
        }
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let made = match &self.config.servers {
            Servers::One { .. } => {
                let client = self.client(0)?;
                Link::One(within(client.get_multiplexed_async_connection_with_config(&settings)).await?)
            }
            Servers::Sentinel { .. } => {
                let mut sentinel = self.sentinel()?;
                Link::One(within(sentinel.get_async_connection_with_config(&settings)).await?)
            }
            Servers::Cluster => {
                let client = self.cluster()?;
                Link::Cluster(within(client.get_async_connection()).await?)
            }
        };
        *link = Some(made.clone());
        Ok(made)
    }

    /// A client of the host at that place of the list.
    fn client(&self, place: usize) -> Result<Client, StoreError> {
        let url = self.url(place)?;
        let made = match self.certificates()? {
            Some(certificates) => Client::build_with_tls(url.as_str(), certificates),
            None => Client::open(url.as_str()),
        };
        made.map_err(failed)
    }

    fn sentinel(&self) -> Result<::redis::sentinel::SentinelClient, StoreError> {
        let Servers::Sentinel { name, database } = &self.config.servers else {
            return Err(StoreError::Away("no sentinels are configured".to_owned()));
        };
        let address = |(host, port): &(String, u16)| match self.config.tls {
            true => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            false => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let addresses = self.config.hosts.iter().map(address);
        let mut builder =
            SentinelClientBuilder::new(addresses, name, SentinelServerType::Master).map_err(failed)?;
        builder = builder.set_client_to_redis_db(i64::from(*database));
        if let Some(user) = &self.config.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.password()? {
            builder = builder.set_client_to_redis_password(password);
        }
        if self.config.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = self.certificates()? {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        builder.build().map_err(failed)
    }

    fn cluster(&self) -> Result<::redis::cluster::ClusterClient, StoreError> {
        let urls: Result<Vec<String>, StoreError> =
            (0..self.config.hosts.len()).map(|place| self.url(place).map(String::from)).collect();
        let mut builder = ClusterClientBuilder::new(urls?)
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .retries(1);
        if let Some(certificates) = self.certificates()? {
            builder = builder.certs(certificates);
        }
        builder.build().map_err(failed)
    }

    /// With the user and the password, which are read anew for each connection.
    fn url(&self, place: usize) -> Result<Url, StoreError> {
        let scheme = if self.config.tls { "rediss" } else { "redis" };
        let away = |why: &str| StoreError::Away(why.to_owned());
        let (host, port) = self.config.hosts.get(place).ok_or_else(|| away("no host is configured"))?;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let database = match &self.config.servers {
            Servers::One { database } => *database,
            Servers::Sentinel { .. } | Servers::Cluster => 0,
        };
        let text = format!("{scheme}://{host}:{port}/{database}");
        let mut url = Url::parse(&text).map_err(|error| away(&error.to_string()))?;
        let cannot = |()| away("the host cannot have a user");
        url.set_username(self.config.user.as_deref().unwrap_or_default()).map_err(cannot)?;
        url.set_password(self.password()?.as_deref()).map_err(cannot)?;
        Ok(url)
    }

    fn password(&self) -> Result<Option<String>, StoreError> {
        let Some(path) = &self.config.password_file else { return Ok(None) };
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// What the server is believed by, and what is shown to it; none: as this system has it.
    fn certificates(&self) -> Result<Option<TlsCertificates>, StoreError> {
        let read = |path: &Path| fs::read(path).map_err(|error| unreadable(path, &error));
        let root_cert = self.config.ca.as_deref().map(read).transpose()?;
        let client_tls = match &self.config.pair {
            Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
            None => None,
        };
        let given = self.config.tls && (root_cert.is_some() || client_tls.is_some());
        Ok(given.then_some(TlsCertificates { client_tls, root_cert }))
    }

    /// The script's call, by its hash or as a whole.
    fn call(&self, whole: bool, rollout: &Rollout, ask: &Ask) -> Cmd {
        let tag = format!("{{{}:{}}}", self.config.prefix, rollout.model);
        let of = |name: &str| format!("{tag}:{:08x}:{name}", rollout.revision);
        let all = |name: &str| format!("{tag}:{name}");
        let plan = ask.refill.as_ref().or(ask.commit.as_ref().map(|commit| &commit.plan));
        let plan = plan.and_then(|plan| serde_json::to_string(plan).ok()).unwrap_or_default();
        let record = ask.commit.as_ref().and_then(|commit| commit.record.as_deref());
        let mut call = match whole {
            true => cmd("EVAL").arg(include_str!("exchange.lua")).take(),
            false => cmd("EVALSHA").arg(self.script.get_hash()).take(),
        };
        call.arg(8);
        for key in [
            of("plan"),
            of("parts"),
            of("seen"),
            of("rolled"),
            all("audit"),
            all("replicas"),
            all("blocks"),
            all("model"),
        ] {
            call.arg(key);
        }
        call.arg(question(ask))
            .arg(ask.part.as_ref().map_or("", |sent| &sent.text))
            .arg(plan)
            .arg(record.unwrap_or_default())
            .arg(ask.status.as_deref().unwrap_or_default())
            .arg(all("told"))
            .arg(all("to:"));
        call
    }

    async fn say(&self, rollout: &Rollout, ask: &Ask) -> Result<Answer, StoreError> {
        let value = self.run(&|whole| self.call(whole, rollout, ask)).await?;
        answer(value, ask)
            .ok_or_else(|| StoreError::Foreign("an answer of another shape than is written there".to_owned()))
    }

    /// Runs a script; `call` makes its call, by its hash or as a whole.
    async fn run(&self, call: &(dyn Fn(bool) -> Cmd + Sync)) -> Result<Value, StoreError> {
        let mut link = self.link().await?;
        let mut said = send(&mut link, &call(false)).await;
        if said.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            said = send(&mut link, &call(true)).await;
        }
        said.map_err(|error| {
            let error = failed(error);
            if !matches!(error, StoreError::Full(_) | StoreError::Foreign(_)) {
                self.drop_link();
            }
            error
        })
    }

    /// The next call makes a connection of its own.
    fn drop_link(&self) {
        // Who holds it makes one just now.
        if let Ok(mut link) = self.link.try_lock() {
            *link = None;
        }
    }
}

impl Store for Redis {
    fn exchange<'a>(&'a self, rollout: &'a Rollout, ask: &'a Ask) -> Answered<'a> {
        Box::pin(async move {
            match timeout(PATIENCE + PATIENCE / 2, self.say(rollout, ask)).await {
                Ok(said) => said,
                Err(_) => {
                    self.drop_link();
                    Err(StoreError::Away("no answer in time".to_owned()))
                }
            }
        })
    }
}

async fn send(link: &mut Link, call: &Cmd) -> Result<Value, RedisError> {
    match link {
        Link::One(connection) => connection.req_packed_command(call).await,
        Link::Cluster(connection) => connection.req_packed_command(call).await,
    }
    .and_then(Value::extract_error)
}

async fn within<T>(work: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(StoreError::Away("no connection in time".to_owned())),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Refused(format!("{} cannot be read: {error}", path.display()))
}

fn failed(error: RedisError) -> StoreError {
    let text = error.to_string();
    let says = |part: &str| text.contains(part);
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "NOPERM" | "WRONGPASS")) => {
            StoreError::Refused(text)
        }
        // So it is said what a user may not do in a script, and who sends much without a password.
        (_, Some("ERR"))
            if says("executing the script can't") || says("ACL failure") || says("unauthenticated") =>
        {
            StoreError::Refused(text)
        }
        (_, Some("OOM" | "MISCONF")) => StoreError::Full(text),
        (_, Some("FOREIGN" | "WRONGTYPE")) => StoreError::Foreign(text),
        (ErrorKind::Parse | ErrorKind::UnexpectedReturnType | ErrorKind::RESP3NotSupported, _) => {
            StoreError::Stranger(text)
        }
        // Servers before Redis 7 take the first line of a script for a part of it.
        (_, Some("ERR")) if says("unknown command") || says("compiling script") => StoreError::Stranger(text),
        (_, Some(_)) => StoreError::Unable(text),
        _ => StoreError::Away(text),
    }
}

/// What the script decides by. What is not there is not written: for it null is something.
fn question(ask: &Ask) -> String {
    let pair = |mark: Mark| json!([mark.version, mark.beat]);
    let commit = |commit: &Commit| {
        let mut said = json!({
            "base": pair(commit.base), "mark": pair(commit.plan.mark), "id": &*commit.plan.id,
            "taken": commit.taken, "resync": commit.resync,
            "blocks": commit.blocks.iter().map(|(build, why)| match why {
                Some(why) => json!([build, why]),
                None => json!([build]),
            }).collect::<Vec<_>>(),
        });
        if let (Some(fence), Some(said)) = (commit.fence, said.as_object_mut()) {
            said.insert("fence".to_owned(), fence.into());
        }
        said
    };
    let rolled = |one: &super::exchange::Rolled| {
        json!([one.generation, serde_json::to_string(one).unwrap_or_default()])
    };
    let want = match ask.want {
        Want::Nothing => "nothing",
        Want::Lease => "lease",
        Want::Release => "release",
    };
    let mut said = json!({
        "replica": &*ask.replica, "held": &*ask.held, "fresh": ask.fresh, "urgent": ask.urgent, "want": want,
        "rolled": ask.rolled.iter().map(rolled).collect::<Vec<_>>(), "census": ask.census, "blocks": ask.blocks,
        "audit": ask.audit,
    });
    if let Some(map) = said.as_object_mut() {
        let mut put = |key: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        put("part", ask.part.as_ref().map(|sent| json!([sent.from, sent.to])));
        put("read", ask.read.map(Into::into));
        put("commit", ask.commit.as_ref().filter(|_| ask.refill.is_none()).map(commit));
        put("refill", ask.refill.as_ref().map(|plan| json!({"mark": pair(plan.mark), "id": &*plan.id})));
    }
    said.to_string()
}

/// The parts of an answer, one after the other.
struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::Array(values) => Some(Fields(values.into_iter())),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self.0.next()? {
            Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
            Value::SimpleString(text) => Some(text),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        let mut inner = Fields::of(self.0.next()?)?;
        let mut all = Vec::new();
        while !inner.0.as_slice().is_empty() {
            all.push(inner.text()?);
        }
        Some(all)
    }

    fn pairs(&mut self) -> Option<Vec<(String, String)>> {
        let mut texts = self.texts()?.into_iter();
        let mut all = Vec::new();
        while let Some(key) = texts.next() {
            all.push((key, texts.next()?));
        }
        Some(all)
    }
}

/// What the script returned; none: it is of another shape.
fn answer(value: Value, ask: &Ask) -> Option<Answer> {
    let mut fields = Fields::of(value)?;
    let now = fields.number()?;
    let mark = Mark { version: fields.number()?, beat: fields.number()? };
    let plan = fields.text()?;
    let seen = fields.number()?;
    let lease = Lease { holder: fields.text()?.into(), fence: fields.number()? };
    let committed = fields.number()? == 1;
    let first = fields.number()?;
    let parts: Option<Vec<Delivered>> = fields.texts()?.into_iter().map(delivered).collect();
    let rolled: Result<Vec<_>, _> = fields.texts()?.iter().map(|text| serde_json::from_str(text)).collect();
    let number = fields.number()?;
    let records = (number + 1..).zip(fields.texts()?.into_iter().map(Into::into)).collect();
    let neighbour = |(replica, text): (String, String)| {
        let (at, status) = text.split_once('\n')?;
        Some(Neighbour { replica: replica.into(), at: at.parse().ok()?, status: status.to_owned() })
    };
    let neighbours: Option<Vec<Neighbour>> = fields.pairs()?.into_iter().map(neighbour).collect();
    let blocks = fields.pairs()?;
    let number = |(replica, last): (String, String)| Some((replica.into(), last.parse().ok()?));
    let sees: Option<Vec<(Arc<str>, u64)>> = fields.pairs()?.into_iter().map(number).collect();
    let plan = match plan.is_empty() {
        true => None,
        false => Some(serde_json::from_str(&plan).ok()?),
    };
    Some(Answer {
        now,
        mark,
        plan,
        seen,
        lease,
        committed: committed && ask.commit.is_some(),
        first,
        parts: parts?,
        rolled: rolled.ok()?,
        records,
        neighbours: neighbours?,
        blocks,
        sees: sees?,
    })
}

fn delivered(text: String) -> Option<Delivered> {
    let mut lines = text.splitn(4, '\n');
    let replica = lines.next()?.into();
    let (from, to) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
    Some(Delivered { replica, sent: Sent { from, to, text: lines.next()?.to_owned() } })
}
