//! Who the calls are sent to.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{Options, Recorded};
use crate::config::{self, Environment};
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

impl Candidate {
    /// Connects to who the options name.
    pub(super) async fn connect(options: &Options) -> Result<Self, String> {
        let Options { config, variant, to, .. } = options;
        let (channel, name, version) = match (config, variant, to) {
            (Some(path), Some(variant), _) => {
                let loaded =
                    config::load(path, &Environment::of_process()).map_err(|errors| errors.to_string())?;
                let found = find(&loaded.config, options.model.as_deref(), variant)?;
                let store = tls::Store::load(&loaded.config).map_err(|error| error.to_string())?;
                let endpoint = found.endpoints.first().ok_or("it has no endpoint")?;
                let builder = Endpoint::from_static("http://candidate").connect_timeout(CONNECT);
                let connected = channel(builder, endpoint, &store).await;
                let place = endpoint.address.to_string();
                (
                    connected.map_err(|error| format!("{place}: {}", chain(&error)))?,
                    found.model_name.clone(),
                    found.model_version.clone(),
                )
            }
            (_, _, Some(url)) => {
                let endpoint =
                    Endpoint::from_shared(url.clone()).map_err(|error| format!("{url}: {error}"))?;
                let connected = endpoint.connect_timeout(CONNECT).connect().await;
                let name = options.model_name.as_deref().map(Into::into);
                (connected.map_err(|error| format!("{url}: {}", chain(&error)))?, name, None)
            }
            _ => return Err("name the candidate: --to, or -c and --variant".to_owned()),
        };
        let calls = Grpc::new(channel).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
        Ok(Candidate { calls, name, version })
    }

    /// Sends a call; its answer's message, or how it failed.
    pub(super) async fn ask(&mut self, call: &Recorded, patience: Duration) -> Result<Bytes, Status> {
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

fn find<'c>(
    config: &'c config::Config,
    model: Option<&str>,
    variant: &str,
) -> Result<&'c config::Variant, String> {
    let model = match (model, &config.models[..]) {
        (Some(name), _) => {
            config.model(name).ok_or_else(|| format!("the configuration has no model {name:?}"))?
        }
        (None, [only]) => only,
        (None, _) => return Err("the configuration has several models; choose one with --model".to_owned()),
    };
    let found = model.variants.iter().find(|found| &*found.name == variant);
    found.ok_or_else(|| {
        let names: Vec<&str> = model.variants.iter().map(|variant| &*variant.name).collect();
        format!("model {} has no variant {variant:?}; there is {}", model.name, names.join(", "))
    })
}

/// What went wrong, and why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        text.push_str(&format!(": {found}"));
        cause = found.source();
    }
    text
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
