//! One probe: the most telling question that a server answers.
//!
//! `ModelReady` is asked first, for it alone says something about this model. A server that does not implement it is
//! asked for `ServerReady`, then for `grpc.health.v1`; one that implements none of them is ready when it answers at
//! all. The order matters: some servers report SERVING for any name. What a server does not implement is remembered
//! as long as its connection lasts, for behind a new one there may be another server.

use std::sync::Arc;

use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::PATIENCE;
use crate::causes::innermost;
use crate::config::{self, Address, Reporting};
use crate::pb::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::pb::inference::{
    ModelMetadataRequest, ModelReadyRequest, ServerMetadataRequest, ServerReadyRequest,
};
use crate::protocol::oip::ranking::Declared;
use crate::tls;
use crate::upstream::dial::channel;
use crate::upstream::readiness::{Target, Versions};

/// Not ready.
#[derive(Debug)]
pub(super) struct No {
    /// For people.
    pub(super) why: String,
    /// Who says so.
    pub(super) cause: Cause,
}

/// How it is known that an endpoint is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A gRPC server said so itself.
    Said,
    /// There is no way to it, or what is there speaks something else.
    Broken,
    /// Nobody answered in time.
    Silent,
}

/// What a server is asked, most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Model,
    Server,
    Health,
    Anything,
}

impl Question {
    fn next(self) -> Self {
        match self {
            Question::Model => Question::Server,
            Question::Server => Question::Health,
            Question::Health | Question::Anything => Question::Anything,
        }
    }

    fn good(self) -> &'static str {
        match self {
            Question::Model => "ModelReady says ready",
            Question::Server => "ServerReady says ready; the server has no ModelReady",
            Question::Health => "grpc.health.v1 says SERVING; the server has no ModelReady or ServerReady",
            Question::Anything => "answers gRPC calls; the server offers no readiness check",
        }
    }
}

/// Asks one target, over a connection that is kept while it works.
pub(super) struct Asker {
    target: Target,
    tls: Arc<tls::Store>,
    connection: Option<(Channel, Question)>,
}

impl Asker {
    pub(super) fn new(target: Target, tls: Arc<tls::Store>) -> Self {
        Asker { target, tls, connection: None }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What told readiness, or why it is not ready; after two times the patience at the latest.
    pub(super) async fn ask(&mut self) -> Result<&'static str, No> {
        let found = self.try_ask().await;
        if found.as_ref().is_err_and(|no| no.cause != Cause::Said) {
            self.connection = None;
        }
        found
    }

    /// What the server says that it runs, empty where it cannot say; none: it did not answer. To be asked after a
    /// probe that succeeded.
    pub(super) async fn versions(&self, report: Reporting) -> Option<Versions> {
        let (channel, _) = self.connection.as_ref()?;
        let mut oip = GrpcInferenceServiceClient::new(channel.clone());
        let asking = async {
            let versions = match report {
                Reporting::Server => {
                    vec![oip.server_metadata(ServerMetadataRequest {}).await?.into_inner().version]
                }
                Reporting::Model | Reporting::Connection => {
                    let (name, version) = (self.target.model.to_string(), self.target.version.to_string());
                    oip.model_metadata(ModelMetadataRequest { name, version }).await?.into_inner().versions
                }
            };
            Ok::<_, Status>(versions)
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok(versions)) => {
                Some(versions.into_iter().filter(|version| !version.is_empty()).map(Arc::from).collect())
            }
            Ok(Err(status)) if not_implemented(&status) => Some(Versions::from([])),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// What the model's metadata says of its outputs, nothing where the server does not say; none: it did not answer. To be
    /// asked after a probe that succeeded.
    pub(super) async fn outputs(&self) -> Option<Vec<Declared>> {
        let (channel, _) = self.connection.as_ref()?;
        let mut oip = GrpcInferenceServiceClient::new(channel.clone());
        let (name, version) = (self.target.model.to_string(), self.target.version.to_string());
        match timeout(PATIENCE, oip.model_metadata(ModelMetadataRequest { name, version })).await {
            Ok(Ok(said)) => {
                let outputs = said.into_inner().outputs.into_iter();
                Some(outputs.map(|output| (output.name, output.datatype, output.shape)).collect())
            }
            Ok(Err(status)) if not_implemented(&status) => Some(Vec::new()),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn try_ask(&mut self) -> Result<&'static str, No> {
        let (channel, question) = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert((connect(&self.target.endpoint, &self.tls).await?, Question::Model)),
        };
        let asking = async {
            loop {
                let answer = put(channel.clone(), *question, &self.target).await;
                let Err(status) = &answer else { return answer };
                let cannot_say = not_implemented(status)
                    || (*question == Question::Health && status.code() == Code::NotFound);
                if from_nobody(status) || !cannot_say {
                    return answer;
                }
                if *question == Question::Anything {
                    return if mapped_from_http(status) { answer } else { Ok(true) };
                }
                *question = question.next();
            }
        };
        let answer = timeout(PATIENCE, asking).await;
        let question = *question;
        match answer {
            Ok(Ok(true)) => Ok(question.good()),
            Ok(Ok(false)) => Err(No { why: self.says_no(question), cause: Cause::Said }),
            Ok(Err(status)) if from_nobody(&status) => Err(No {
                why: format!("the connection failed: {}", innermost(&status)),
                cause: Cause::Broken,
            }),
            Ok(Err(status)) if mapped_from_http(&status) => {
                let why = format!("answers HTTP/2, but not gRPC: {}", status.message());
                Err(No { why, cause: Cause::Said })
            }
            Ok(Err(status)) => {
                let why = format!("{}: {:?}: {}", self.says_no(question), status.code(), status.message());
                Err(No { why, cause: Cause::Said })
            }
            Err(_) => Err(No { why: format!("does not answer within {PATIENCE:?}"), cause: Cause::Silent }),
        }
    }

    fn says_no(&self, question: Question) -> String {
        let Target { model, version, .. } = &self.target;
        match question {
            Question::Model if version.is_empty() => {
                format!("the server says that model {model} is not ready")
            }
            Question::Model => format!("the server says that model {model}, version {version}, is not ready"),
            Question::Server => "the server says that it is not ready".to_owned(),
            Question::Health | Question::Anything => "grpc.health.v1 does not say SERVING".to_owned(),
        }
    }
}

async fn connect(endpoint: &config::Endpoint, tls: &Arc<tls::Store>) -> Result<Channel, No> {
    let no = |why| No { why, cause: Cause::Broken };
    let uri = match &endpoint.address {
        address @ Address::Tcp { .. } if endpoint.tls.is_some() => format!("https://{address}"),
        address @ Address::Tcp { .. } => format!("http://{address}"),
        // What it is called there says nothing: the connector knows where to go.
        Address::Unix(_) => "http://localhost".to_owned(),
    };
    let builder = Endpoint::from_shared(uri).map_err(|error| no(error.to_string()))?;
    match timeout(PATIENCE, channel(builder, endpoint, tls)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => {
            let innermost = innermost(&error);
            let late = innermost.downcast_ref::<std::io::Error>();
            let late = late.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut);
            let cause = if late { Cause::Silent } else { Cause::Broken };
            Err(No { why: format!("cannot connect: {innermost}"), cause })
        }
        Err(_) => Err(No { why: format!("cannot connect within {PATIENCE:?}"), cause: Cause::Silent }),
    }
}

async fn put(channel: Channel, question: Question, target: &Target) -> Result<bool, Status> {
    let mut oip = GrpcInferenceServiceClient::new(channel.clone());
    match question {
        Question::Model => {
            let (name, version) = (target.model.to_string(), target.version.to_string());
            Ok(oip.model_ready(ModelReadyRequest { name, version }).await?.into_inner().ready)
        }
        Question::Server => Ok(oip.server_ready(ServerReadyRequest {}).await?.into_inner().ready),
        Question::Health | Question::Anything => {
            let asked = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
            Ok(asked.into_inner().status == ServingStatus::Serving as i32)
        }
    }
}

/// Whether the server cannot or will not answer the question. One that wants credentials refuses every question, but
/// it lives, and a sidecar that has none would wait for ever.
fn not_implemented(status: &Status) -> bool {
    matches!(status.code(), Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied)
}

/// Whether the status was made on this side, for want of an answer.
fn from_nobody(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Whether the peer answered with an HTTP status and no gRPC one. The client library says so only in words, which a
/// test holds it to.
fn mapped_from_http(status: &Status) -> bool {
    status.message().starts_with("grpc-status header missing")
}
