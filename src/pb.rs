//! Generated protobuf code, included once.

/// The Open Inference Protocol: messages, client and server of `inference.GRPCInferenceService`.
#[expect(missing_docs, clippy::allow_attributes, reason = "generated")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The sidecar's own services: `parhelion.v1`.
#[expect(missing_docs, clippy::allow_attributes, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("parhelion.v1");
}
