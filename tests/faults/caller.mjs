// Callers for the faults, as @grpc/grpc-js has them; what caller.py is for grpcio.
//
//     node caller.mjs TARGET CALLS CONCURRENCY DEADLINE RESULT
//
// One channel for every four calls at once, each with connections of its own. SIGTERM ends them early; calls under way end
// first. RESULT gets one JSON object.

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";

// From the folder that GRPC_JS names, where npm has put it.
const grpc = createRequire(`${process.env.GRPC_JS}/`)("@grpc/grpc-js");
const [target, calls, concurrency, deadline, result] = process.argv.slice(2);
const METHOD = "/faults.Model/Call";
const bytes = { serialize: (text) => Buffer.from(text), deserialize: (data) => data.toString() };
// Retries are as they come: with them a stream that a connection in its end never took is sent again, once.
const options = {
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 500,
};

let stop = false;
process.on("SIGTERM", () => (stop = true));
const tag = basename(result, ".json");
const said = { ok: [], failed: [], slowest: 0, last: 0 };
let next = 0;

const clients = Array.from(
  { length: Math.ceil(concurrency / 4) },
  () => new grpc.Client(target, grpc.credentials.createInsecure(), options),
);
await Promise.all(
  clients.map((one) => new Promise((ready, no) => one.waitForReady(Date.now() + 30_000, (error) => (error ? no(error) : ready())))),
);
console.log("calling");

function call(client, name) {
  const until = new Date(Date.now() + 1000 * deadline);
  return new Promise((done) => {
    client.makeUnaryRequest(METHOD, bytes.serialize, bytes.deserialize, name, new grpc.Metadata(), { deadline: until }, (error, answer) =>
      done(error ? [name, grpc.status[error.code], error.details, Date.now() / 1000] : answer === name ? null : name),
    );
  });
}

async function work(client) {
  while (!stop && next < calls) {
    const name = `${tag}-${next++}`;
    const began = performance.now();
    const failure = await call(client, name);
    if (failure) said.failed.push(failure);
    else said.ok.push(name);
    said.slowest = Math.max(said.slowest, (performance.now() - began) / 1000);
    said.last = Date.now() / 1000;
  }
}

await Promise.all(Array.from({ length: concurrency }, (_, index) => work(clients[index % clients.length])));
clients.forEach((one) => one.close());
writeFileSync(result, JSON.stringify(said));
