//! Parhelion stands beside a model container and gives every gRPC inference call to the right model version.
//!
//! # The house
//! Read [`proxy`] first: the life of one call in six steps. [`call`], [`assignment`], [`outcome`], [`fault`],
//! [`evidence`] and [`verdict`] are the words everything else is said in.
//!
//! | room | what it holds |
//! |---|---|
//! | [`causes`] | why an error came, in words |
//! | [`config`] | the file, its checks, its reload |
//! | [`server`] | sockets, connections, deadlines, admission |
//! | [`worker`] | one data-plane thread, and what its calls share |
//! | [`serving`] | one generation of the configuration as a worker serves it |
//! | [`protocol`] | what the bytes of a call say, without decoding them |
//! | [`strategy`] | which variant a call is given to; pure |
//! | [`comparison`] | two answers to one call held against each other; pure |
//! | [`shadow`] | copies of calls for variants that answer nobody |
//! | [`drift`] | how answers are distributed, beside the baseline's and beside a reference |
//! | [`stats`] | hashes and numbers; pure |
//! | [`dispatch`] | a planned call to its variant, and the answer back |
//! | [`prediction`] | the id that an answer is known by; pure |
//! | [`keys`] | the secret keys of one installation |
//! | [`hop`] | how one sidecar tells the next that a call is assigned |
//! | [`feedback`] | what is learnt later about predictions |
//! | [`log`] | the prediction log: rows, spools, Parquet, and the way to a store |
//! | [`resources`] | what model servers say they use |
//! | [`rollout`] | where every rollout stands, and who moves it |
//! | [`state`] | what outlives the process |
//! | [`fleet`] | many replicas that are one rollout |
//! | [`warm`] | requests that a variant answers for nobody before it is given calls |
//! | [`upstream`] | endpoints, their connections and their readiness |
//! | [`wire`] | bytes between a socket and HTTP/2 |
//! | [`tls`] | certificates, who is let in, and how files change while calls run |
//! | [`telemetry`] | spans, metrics, logs, all made from one outcome per call |
//! | [`admin`] | health, metrics and admin ports |
//! | [`control`] | the service `parhelion.v1.Control` |
//! | [`ctl`] | its client, for people and scripts |
//! | [`simulate`] | a strategy in a world that is written down, on a virtual clock |
//! | [`evaluate`] | what another policy would have earned, from the log |
//! | [`replay`] | logged calls to a candidate |
//! | [`inject`] | the sidecar put into manifests of pods |
//! | [`webhook`] | the same for pods as a cluster makes them |
//! | [`intercept`] | the redirect in a pod's network |
//! | [`yaml`] | YAML texts that are edited and stay as they were written |
//! | [`demo`] | real models and callers to try it all on |
//! | [`pb`] | generated protobuf code |
//! | [`tasks`] | the only place that starts tasks |
//! | [`failpoint`] | places where a debug build can be told to go wrong |
//! | [`command`] | the command line |
//! | [`app`] | the only place where the rooms are wired together |

pub mod admin;
pub mod app;
pub mod assignment;
pub mod call;
pub mod causes;
pub mod command;
pub mod comparison;
pub mod config;
pub mod control;
pub mod ctl;
pub mod demo;
pub mod dispatch;
pub mod drift;
pub mod evaluate;
pub mod evidence;
pub mod failpoint;
pub mod fault;
pub mod feedback;
pub mod fleet;
pub mod hop;
pub mod inject;
pub mod intercept;
pub mod keys;
pub mod log;
pub mod outcome;
pub mod pb;
pub mod prediction;
pub mod protocol;
pub mod proxy;
pub mod replay;
pub mod resources;
pub mod rollout;
pub mod server;
pub mod serving;
pub mod shadow;
pub mod simulate;
pub mod state;
pub mod stats;
pub mod strategy;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod verdict;
pub mod warm;
pub mod webhook;
pub mod wire;
pub mod worker;
pub mod yaml;
