//! The service `parhelion.v1.Control`: what a person or a program sees of rollouts, and tells them.
//!
//! It decides nothing. What it is asked it reads from whoever keeps the rollouts, at that moment; what it is told it
//! passes on with the name of who said it, and a refusal goes back with its remedy. The port has made sure that the
//! caller may read; whether it may act is looked at here, for only the method says what is meant.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request, Response, Status};

use crate::admin::tokens::Right;
use crate::admin::{Caller, Reload, View};
use crate::config::{Config, Model, suggestion};
use crate::log::Tally;
use crate::pb::v1;
use crate::pb::v1::control_server::ControlServer;
use crate::rollout::{Actor, Question, Refusal, Rollouts};
use crate::shadow::judges::Judged;
use crate::tasks::Tasks;
use crate::verdict::{Command, Refused};

mod message;
mod next;
mod watching;

/// Records of the audit trail that are given where nobody says how many.
const RECORDS: usize = 100;
/// The most that are ever given at once.
const MOST_RECORDS: usize = 10_000;
/// Characters of a reason.
const LONGEST_REASON: usize = 500;

/// The service, over all rollouts of the process.
struct Control {
    seen: Arc<Seen>,
    tasks: Tasks,
}

/// What it looks at.
struct Seen {
    rollouts: Arc<Rollouts>,
    view: View,
    reload: Arc<dyn Fn() -> Reload + Send + Sync>,
    log: Option<Arc<Tally>>,
}

/// The service, to be answered on the admin port.
pub fn service(
    rollouts: Arc<Rollouts>,
    view: View,
    reload: Arc<dyn Fn() -> Reload + Send + Sync>,
    log: Option<Arc<Tally>>,
) -> ControlServer<impl v1::control_server::Control> {
    let tasks = Tasks::new(Arc::clone(&view.counters));
    ControlServer::new(Control { seen: Arc::new(Seen { rollouts, view, reload, log }), tasks })
}

/// What answers prove, in the words of the service; for who judges without one.
pub fn judged(judged: &Judged) -> v1::Shadow {
    message::judged(judged)
}

impl Seen {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.view.config.borrow())
    }

    /// The model of that name, as the configuration in force has it.
    fn model(&self, name: &str) -> Result<Arc<Model>, Status> {
        let config = self.config();
        config.model(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = config.models.iter().map(|model| &*model.name).collect();
            Status::not_found(format!("there is no model {name:?}: {}", suggestion(name, &known)))
        })
    }

    /// Its rollout as it stands.
    fn rollout(&self, name: &str) -> Result<v1::Rollout, Status> {
        let model = self.model(name)?;
        // A model that came with the latest change of the file may have no rollout for a moment.
        let status = self.rollouts.report(name).ok_or_else(|| {
            Status::unavailable(format!("the rollout of {name} has not begun yet; ask again in a second"))
        })?;
        let rollout = message::rollout(&model, &status, &(self.reload)());
        Ok(v1::Rollout { log: self.log(), ..rollout })
    }

    /// How the prediction log does, where there is one.
    fn log(&self) -> Option<v1::PredictionLog> {
        let (config, tally) = (self.config(), self.log.as_ref()?);
        config.log.as_ref().map(|config| message::log(config, tally))
    }

    /// Those of all models that have one.
    fn all(&self) -> Vec<v1::Rollout> {
        self.config().models.iter().filter_map(|model| self.rollout(&model.name).ok()).collect()
    }
}

impl Control {
    async fn act(
        &self,
        caller: &Extensions,
        model: &str,
        command: Command,
        reason: &str,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        let actor = actor(caller, &command, reason)?;
        let done =
            self.seen.rollouts.command(model, command, actor).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(v1::CommandResponse {
            record: Some(message::audit(&done.record)),
            rollout: Some(self.seen.rollout(model)?),
        }))
    }

    async fn plain(
        &self,
        request: Request<v1::CommandRequest>,
        command: Command,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        let (_, caller, asked) = request.into_parts();
        // Names are said right before anything else is.
        self.seen.model(&asked.model)?;
        self.act(&caller, &asked.model, command, &asked.reason).await
    }
}

/// Who acts, if they may.
fn actor(caller: &Extensions, command: &Command, reason: &str) -> Result<Actor, Status> {
    let Some(Caller { name, right }) = caller.get::<Caller>() else {
        return Err(Status::unauthenticated("nobody said who this is"));
    };
    if *right < Right::Act {
        let command = command.name();
        tracing::warn!(who = %name, command, "refused: the token may only read");
        return Err(Status::permission_denied(format!(
            "token {name} may only read: {command} needs one with the right `act`"
        )));
    }
    if reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "a reason is one line of at most {LONGEST_REASON} characters"
        )));
    }
    Ok(Actor::Operator { name: name.to_string(), reason: reason.trim().to_owned() })
}

/// The index of the variant of that name.
fn variant(model: &Model, name: &str) -> Result<usize, Status> {
    model.variant(name).ok_or_else(|| {
        let known: Vec<&str> = model.variants.iter().map(|variant| &*variant.name).collect();
        let hint = suggestion(name, &known);
        Status::not_found(format!("model {} has no variant {name:?}: {hint}", model.name))
    })
}

fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Model { .. } => Status::not_found(refusal.to_string()),
        Refusal::Unit { .. } => Status::invalid_argument(refusal.to_string()),
        Refusal::Strategy(Refused::Meaningless { .. }) => {
            Status::failed_precondition(format!("{refusal}: it goes on as the file says, so change the file"))
        }
        Refusal::Away { .. } => Status::unavailable(refusal.to_string()),
        Refusal::NoUnit { .. } | Refusal::Strategy(_) => Status::failed_precondition(refusal.to_string()),
    }
}

/// A call as far as an assignment depends on it.
fn question(asked: v1::ExplainRequest) -> Result<Question, Status> {
    if let Some(unit) = asked.unit {
        let rest = asked.metadata.len() + asked.parameters.len();
        return match rest {
            0 => Ok(Question::Unit(unit)),
            _ => Err(Status::invalid_argument("give a unit, or metadata and parameters, not both")),
        };
    }
    let mut metadata = http::HeaderMap::new();
    for (name, value) in &asked.metadata {
        let bad = || Status::invalid_argument(format!("{name:?}: {value:?} cannot stand in metadata"));
        let key: http::HeaderName = name.to_ascii_lowercase().parse().map_err(|_| bad())?;
        metadata.insert(key, value.parse().map_err(|_| bad())?);
    }
    Ok(Question::Call { metadata, parameters: ordered(asked.parameters) })
}

/// The same question is always the same.
fn ordered(map: HashMap<String, String>) -> Vec<(String, String)> {
    let mut list: Vec<_> = map.into_iter().collect();
    list.sort();
    list
}

#[tonic::async_trait]
impl v1::control_server::Control for Control {
    type WatchRolloutsStream = ReceiverStream<Result<v1::Rollout, Status>>;

    async fn list_rollouts(
        &self,
        _: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::ListRolloutsResponse>, Status> {
        Ok(Response::new(v1::ListRolloutsResponse { rollouts: self.seen.all() }))
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        self.seen.rollout(&request.get_ref().model).map(Response::new)
    }

    async fn watch_rollouts(
        &self,
        request: Request<v1::WatchRolloutsRequest>,
    ) -> Result<Response<Self::WatchRolloutsStream>, Status> {
        let model = request.into_inner().model;
        let model = (!model.is_empty()).then_some(model);
        if let Some(model) = &model {
            self.seen.rollout(model)?;
        }
        // One waits at most: who reads slowly gets the newest, not all that was.
        let (tell, told) = tokio::sync::mpsc::channel(1);
        self.tasks.spawn("watcher of rollouts", watching::tell(Arc::clone(&self.seen), model, tell));
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn promote(
        &self,
        request: Request<v1::CommandRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.plain(request, Command::Promote).await
    }

    async fn rollback(
        &self,
        request: Request<v1::CommandRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.plain(request, Command::Rollback).await
    }

    async fn pause(
        &self,
        request: Request<v1::CommandRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.plain(request, Command::Pause).await
    }

    async fn resume(
        &self,
        request: Request<v1::CommandRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.plain(request, Command::Resume).await
    }

    async fn pin(&self, request: Request<v1::PinRequest>) -> Result<Response<v1::CommandResponse>, Status> {
        let (_, caller, asked) = request.into_parts();
        let model = self.seen.model(&asked.model)?;
        let variant = variant(&model, &asked.variant)?;
        self.act(&caller, &asked.model, Command::Pin(variant), &asked.reason).await
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        let asked = request.into_inner();
        let model = self.seen.model(&asked.model)?;
        let question = question(asked)?;
        let explained =
            self.seen.rollouts.explain(&model.name, &question).map_err(|refusal| refused(&refusal))?;
        let state = self.seen.rollouts.report(&model.name).map(|status| status.report.state);
        Ok(Response::new(message::explanation(&model, &explained, state)))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let asked = request.into_inner();
        let model = (!asked.model.is_empty()).then_some(&*asked.model);
        let limit = match asked.limit {
            0 => RECORDS,
            limit => usize::try_from(limit).unwrap_or(MOST_RECORDS).min(MOST_RECORDS),
        };
        let records = self.seen.rollouts.audit(model, limit);
        // What is gone from the file may still have a trail; what has none is asked for by a wrong name.
        if let (Some(model), true) = (model, records.is_empty()) {
            self.seen.model(model)?;
        }
        let records = records.iter().map(|record| message::audit(record)).collect();
        Ok(Response::new(v1::ListAuditResponse { records }))
    }

    async fn export(
        &self,
        request: Request<v1::ExportRequest>,
    ) -> Result<Response<v1::ExportResponse>, Status> {
        let rollout = self.seen.rollout(&request.get_ref().model)?;
        let yaml = self.seen.rollouts.export(&rollout.model).ok_or_else(|| {
            Status::unavailable(format!("the rollout of {} has just ended; ask again", rollout.model))
        })?;
        let yaml = format!("models:\n{yaml}");
        Ok(Response::new(v1::ExportResponse { yaml, differs: rollout.differs }))
    }

    async fn get_reference(
        &self,
        request: Request<v1::GetReferenceRequest>,
    ) -> Result<Response<v1::GetReferenceResponse>, Status> {
        let asked = request.get_ref();
        let model = self.seen.model(&asked.model)?;
        let variant = match &*asked.variant {
            "" => model.baseline(),
            name => variant(&model, name)?,
        };
        if model.drift.is_none() {
            return Err(Status::failed_precondition(format!(
                "nobody looks at the answers of {}: write `drift: {{}}` into the model in the file, and ask again when some calls were answered",
                model.name
            )));
        }
        let now = self.seen.rollouts.clock().now();
        self.seen.rollouts.drifts().file(&model, variant, now).map(|file| {
            Response::new(v1::GetReferenceResponse { file: file.text() })
        }).ok_or_else(|| {
            let name = model.variants.get(variant).map_or("", |variant| &*variant.name);
            Status::failed_precondition(format!(
                "too few answers of {name} were counted yet: the first 500 of each output say how it is divided, and count for nothing else"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
