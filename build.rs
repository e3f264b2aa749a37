//! Compiles the protos with protox, so that no protoc needs to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let protos =
        ["proto/inference.proto", "proto/parhelion/v1/control.proto", "proto/parhelion/v1/feedback.proto"];
    let descriptors = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
