//! Who the calls are sent to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{Options, Recorded};
use crate::causes::chain;
use crate::config::{self, Config, Environment, Judging, Model, Variant};
use crate::protocol;
use crate::tls;
use crate::upstream::dial::channel;

/// Largest answer.
const LARGEST: usize = 64 << 20;
/// For the connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection, and what the model is called there.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    calls: Grpc<Channel>,
    name: Option<Arc<str>>,
    version: Option<Arc<str>>,
}

/// What was said to a call, and how long that took.
#[derive(Debug)]
pub(super) struct Answered {
    /// The answer's message, or how it failed.
    pub(super) answer: Result<Bytes, Status>,
    pub(super) took: Duration,
}

/// Who is asked, and how the answers are judged.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) candidate: (Arc<str>, Candidate),
    /// Another instance of what was served.
    pub(super) control: Option<(Arc<str>, Candidate)>,
    /// Whose calls are meant, where the configuration says so.
    pub(super) model: Option<Arc<str>>,
    /// As the configuration judges the candidate as a shadow, where it does.
    pub(super) judging: Judging,
}

/// Connects to whom the options name.
pub(super) async fn find(options: &Options) -> Result<Found, String> {
    let Options { config, variant, to, control, model_name, .. } = options;
    let loaded = config.as_ref().map(|path| config::load(path, &Environment::of_process())).transpose();
    let loaded = loaded.map_err(|errors| errors.to_string())?;
    let known = loaded
        .as_ref()
        .map(|loaded| Ok::<_, String>((model(&loaded.config, options.model.as_deref())?, &loaded.config)));
    let known = known.transpose()?;
    let candidate = match (known, variant, to) {
        (Some((model, config)), Some(name), _) => {
            (Arc::from(&**name), of_variant(config, find_variant(model, name)?).await?)
        }
        (_, _, Some(url)) => (Arc::from(&**url), of_url(url, model_name.as_deref()).await?),
        _ => return Err("name the candidate: --to, or -c and --variant".to_owned()),
    };
    let control = match (control, known) {
        (None, _) => None,
        (Some(url), _) if url.contains("://") => {
            Some((Arc::from(&**url), of_url(url, model_name.as_deref()).await?))
        }
        (Some(name), Some((model, config))) => {
            Some((Arc::from(&**name), of_variant(config, find_variant(model, name)?).await?))
        }
        (Some(name), None) => {
            return Err(format!(
                "--control {name:?}: write http://HOST:PORT, or name the configuration that has it with -c"
            ));
        }
    };
    let judging = known.zip(variant.as_ref()).and_then(|((model, _), name)| {
        let own = |shadow: &&config::Shadow| {
            model.variants.get(shadow.variant).is_some_and(|found| *found.name == **name)
        };
        model.shadows.iter().find(own)?.judging.clone()
    });
    let model = known.map(|(model, _)| Arc::clone(&model.name));
    Ok(Found { candidate, control, model, judging: judging.unwrap_or_default() })
}

async fn of_variant(config: &Config, variant: &Variant) -> Result<Candidate, String> {
    let store = tls::Store::load(config).map_err(|error| error.to_string())?;
    let endpoint = variant.endpoints.first().ok_or("it has no endpoint")?;
    let builder = Endpoint::from_static("http://candidate").connect_timeout(CONNECT);
    let connected = channel(builder, endpoint, &store).await;
    let place = endpoint.address.to_string();
    let connected = connected.map_err(|error| format!("{place}: {}", chain(&error)))?;
    Ok(Candidate::new(connected, variant.model_name.clone(), variant.model_version.clone()))
}

async fn of_url(url: &str, name: Option<&str>) -> Result<Candidate, String> {
    if url.starts_with("https://") {
        let hint = "a configuration says how it is believed: name it and its variant with -c and --variant";
        return Err(format!("{url}: {hint}"));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| format!("{url}: {error}"))?;
    let connected = endpoint.connect_timeout(CONNECT).connect().await;
    let connected = connected.map_err(|error| format!("{url}: {}", chain(&error)))?;
    Ok(Candidate::new(connected, name.map(Into::into), None))
}

impl Candidate {
    fn new(channel: Channel, name: Option<Arc<str>>, version: Option<Arc<str>>) -> Self {
        let calls = Grpc::new(channel).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
        Candidate { calls, name, version }
    }

    /// Sends a call and waits for its answer.
    pub(super) async fn ask(&mut self, call: &Recorded, patience: Duration) -> Answered {
        let begun = Instant::now();
        let answer = self.exchange(call, patience).await;
        Answered { answer, took: begun.elapsed() }
    }

    async fn exchange(&mut self, call: &Recorded, patience: Duration) -> Result<Bytes, Status> {
        let path = PathAndQuery::try_from(call.path.as_str())
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut message = BytesMut::from(&call.request[..]);
        if self.name.is_some() || self.version.is_some() {
            // Of a field that is there twice the last counts.
            let adapter = protocol::recognise(&call.path);
            message.extend_from_slice(&adapter.rename_request(self.name.as_deref(), self.version.as_deref()));
        }
        let asking = async {
            self.calls.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
            self.calls.unary(Request::new(message.freeze()), path, Raw).await.map(tonic::Response::into_inner)
        };
        match tokio::time::timeout(patience, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::new(Code::DeadlineExceeded, format!("no answer within {patience:?}"))),
        }
    }
}

fn model<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Model, String> {
    match (name, &config.models[..]) {
        (Some(name), _) => match config.model(name) {
            Some(model) => Ok(model),
            None => Err(format!("the configuration has no model {name:?}")),
        },
        (None, [only]) => Ok(only),
        (None, _) => Err("the configuration has several models; choose one with --model".to_owned()),
    }
}

fn find_variant<'m>(model: &'m Model, name: &str) -> Result<&'m Variant, String> {
    model.variants.iter().find(|found| *found.name == *name).ok_or_else(|| {
        let names: Vec<&str> = model.variants.iter().map(|variant| &*variant.name).collect();
        format!("model {} has no variant {name:?}; there is {}", model.name, names.join(", "))
    })
}

/// Messages as their bytes.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let size = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(size)))
    }
}
