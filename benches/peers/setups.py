"""How each proxy is set up: the texts of their configuration files.

Each forwards gRPC from a loopback port to the same model server, writes no access log, keeps its connections, and is
given windows wide enough for a tensor of 600 KB. What is not named here is the proxy's default.

With TLS both sides of each speak TLS 1.3 and ask for a certificate; the tools at both ends know AES-128-GCM only.

envoy    --concurrency 2, as a pod of two cores would run it. Its request ids stay on: they are its default, and
         Parhelion makes an id per call too. Spans leave it as it comes, in batches of 512 as Parhelion's do.
haproxy  nbthread is not set: as installed it takes a thread per core. `http-reuse always` lets it share upstream
         connections between callers from the first call on, which is cheapest for it.
nginx    2 workers. It opens an upstream connection per concurrent call, so up to 512 idle ones are kept.
parhelion  one worker, its default.
"""

import os
from typing import NamedTuple, Optional

WINDOWS = {"stream": 4 << 20, "connection": 16 << 20}
# Copies under way at once, where every call is to be copied; else the default.
ALL_COPIES = 10_000
# What a shadow may be in, and the memory its copies may have: so many that the cap is reached whatever a copy costs.
TROUBLES = ("dead", "hung", "dripping", "flooding")
KEEPING = ("hung", "deaf", "dripping")
CAPS = (4, 16, 64)


class Setup(NamedTuple):
    """What a proxy does beside forwarding. A `canary` is a split that is judged. `mirrors` are the servers that get
    a copy of each call, and `cap_mib` is what all copies may hold while they are kept for long. With `drift` the answers of
    a tenth of the calls are counted, and with `log` each call is a row on disk."""
    proxy: str
    split: bool = False
    canary: bool = False
    drift: bool = False
    log: bool = False
    mirrors: tuple = ()
    spans: Optional[str] = None
    models: int = 1
    copies: Optional[int] = ALL_COPIES
    cap_mib: Optional[int] = None
    tls: bool = False

    def server(self, place, name):
        """HOST:PORT of a server as this setup reaches it."""
        return place.server(f"tls {name}" if self.tls else name)


SETUPS = {
    "envoy": Setup("envoy"),
    "envoy/mirror": Setup("envoy", mirrors=("shadow",)),
    "envoy/everything": Setup("envoy", split=True, mirrors=("shadow",), spans="100%"),
    "haproxy": Setup("haproxy"),
    "nginx": Setup("nginx"),
    "parhelion": Setup("parhelion"),
    "again": Setup("parhelion"),
    "parhelion/ab": Setup("parhelion", split=True),
    "parhelion/canary": Setup("parhelion", split=True, canary=True),
    "parhelion/ab, drift": Setup("parhelion", split=True, drift=True),
    "parhelion/ab, log": Setup("parhelion", split=True, log=True),
    "parhelion/mirror": Setup("parhelion", mirrors=("shadow",)),
    "parhelion/capped mirror": Setup("parhelion", mirrors=("shadow",), copies=None),
    "parhelion/2 mirrors": Setup("parhelion", mirrors=("shadow",) * 2),
    "parhelion/3 mirrors": Setup("parhelion", mirrors=("shadow",) * 3),
    "parhelion/ab, mirror": Setup("parhelion", split=True, mirrors=("shadow",)),
    "parhelion/default": Setup("parhelion", split=True, mirrors=("shadow",), spans="1%"),
    "parhelion/everything": Setup("parhelion", split=True, mirrors=("shadow",), spans="100%"),
    "parhelion/500 models": Setup("parhelion", models=500),
    "parhelion/tls": Setup("parhelion", tls=True),
    "envoy/tls": Setup("envoy", tls=True),
    "haproxy/tls": Setup("haproxy", tls=True),
    "nginx/tls": Setup("nginx", tls=True),
    "parhelion/everything, tls": Setup("parhelion", split=True, mirrors=("shadow",), spans="100%", tls=True),
    "envoy/everything, tls": Setup("envoy", split=True, mirrors=("shadow",), spans="100%", tls=True),
    **{f"parhelion/{trouble} shadow": Setup("parhelion", mirrors=(trouble,), copies=None) for trouble in TROUBLES},
    **{f"parhelion/{trouble}, {cap} MiB": Setup("parhelion", mirrors=(trouble,), copies=1_000_000, cap_mib=cap)
       for trouble in KEEPING for cap in CAPS},
}


class Place(NamedTuple):
    """Where a proxy is to run: its folder and port, HOST:PORT of a server by its name, further free ports, and where
    `ca.crt`, `tls.crt`, `tls.key` and `tls.pem` lie, where anybody speaks TLS."""
    folder: str
    port: int
    server: object
    spare: object
    certificates: str


def text(setup, place):
    """The configuration of a setup at a place."""
    return {"envoy": envoy, "haproxy": haproxy, "nginx": nginx, "parhelion": parhelion}[setup.proxy](setup, place)


def environment(setup):
    """The environment of a proxy: ours without what OpenTelemetry reads there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PARHELION_"))}
    if setup.proxy == "parhelion" and setup.spans:
        # A second's spans may wait: a collector that shares two cores with everybody else answers late.
        clean["OTEL_BSP_MAX_QUEUE_SIZE"] = "65536"
    return clean


def parhelion(setup, place):
    shadows = [f"s{number}" for number, _ in enumerate(setup.mirrors)]
    servers = {"v1": "model", **({"v2": "model"} if setup.split else {}), **dict(zip(shadows, setup.mirrors))}
    scheme = "https" if setup.tls else "http"
    variants = ", ".join(f'{name}: {{endpoint: "{scheme}://{setup.server(place, server)}", version: "1"}}'
                         for name, server in servers.items())
    strategy = "{kind: ab, weights: {v1: 90%, v2: 10%}}" if setup.split else "{kind: pinned, variant: v1}"
    if setup.canary:
        steps = "steps: [{share: 10%, hold: 1h}, {share: 50%, hold: 1h}]"
        strategy = f"{{kind: canary, baseline: v1, candidate: v2, {steps}}}"
    calls = f", calls: {setup.copies}" if setup.copies else ""
    calls += f", bytes: {setup.cap_mib}MiB, deadline: 30s" if setup.cap_mib else ""
    body = f"{{variants: {{{variants}}}, strategy: {strategy}"
    body += ", unit: [metadata:x-user-id]" if setup.split else ""
    body += ", drift: {}" if setup.drift else ""
    body += f", shadows: [{', '.join(f'{{variant: {name}{calls}}}' for name in shadows)}]}}"
    others = "\n".join(f"  bench-{number}: {body}" for number in range(1, setup.models))
    collector = f"{scheme}://{setup.server(place, 'collector')}" if setup.spans else ""
    telemetry = f'telemetry: {{otlp: "{collector}", sample: {setup.spans}}}' if setup.spans else ""
    log = f'log: {{dir: "{place.folder}/log"}}' if setup.log else ""
    at = place.certificates
    own = f"cert: {at}/tls.crt, key: {at}/tls.key"
    tls = f"""\
tls:
  listen: {{{own}, client_ca: {at}/ca.crt}}
  endpoints: {{{own}, ca: {at}/ca.crt}}
  collector: {{{own}, ca: {at}/ca.crt}}""" if setup.tls else ""
    return f"""\
listen: 127.0.0.1:{place.port}
admin: 127.0.0.1:{place.spare()}
health: 127.0.0.1:{place.spare()}
workers: 1
default: bench
models:
  bench: {body}
{others}
{telemetry}
{log}
{tls}
"""


def envoy(setup, place):
    api = "type.googleapis.com/envoy.extensions"
    route = '"cluster": "model"'
    if setup.split:
        route = ('"weighted_clusters": {"clusters": [{"name": "model", "weight": 90}, '
                 '{"name": "candidate", "weight": 10}]}')
    if setup.mirrors:
        route += ', "request_mirror_policies": [{"cluster": "shadow"}]'
    clusters = ["model", *(["candidate"] if setup.split else []), *setup.mirrors]
    clusters += ["collector"] if setup.spans else []
    tracing, runtime = "", ""
    if setup.spans:
        tracing = f"""
                tracing:
                  random_sampling: {{value: {setup.spans.rstrip('%')}}}
                  provider:
                    name: envoy.tracers.opentelemetry
                    typed_config:
                      "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                      grpc_service: {{envoy_grpc: {{cluster_name: collector}}, timeout: 10s}}
                      service_name: envoy"""
        runtime = """
layered_runtime:
  layers: [{name: bench, static_layer: {tracing.opentelemetry.min_flush_spans: 512}}]"""
    return f"""\
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {place.port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": {api}.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
                codec_type: HTTP2
                http2_protocol_options: {_http2()}
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{{match: {{prefix: "/"}}, route: {{{route}, "timeout": 0s}}}}]{tracing}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{"@type": {api}.filters.http.router.v3.Router}}{_downstream(setup, place)}
  clusters:
{"".join(_cluster(name, setup, place) for name in clusters)}{runtime}
"""


def _downstream(setup, place):
    """What follows in a filter chain where callers speak TLS."""
    if not setup.tls:
        return ""
    return f"""
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: true
              common_tls_context: {_common(place)}"""


def _common(place):
    at = place.certificates
    return (f'{{alpn_protocols: [h2], tls_params: {{tls_minimum_protocol_version: TLSv1_3, '
            f'tls_maximum_protocol_version: TLSv1_3}}, tls_certificates: [{{certificate_chain: {{filename: "{at}/tls.crt"}}, '
            f'private_key: {{filename: "{at}/tls.key"}}}}], validation_context: {{trusted_ca: {{filename: "{at}/ca.crt"}}}}}}')


def _http2():
    return (f"{{max_concurrent_streams: 1024, initial_stream_window_size: {WINDOWS['stream']}, "
            f"initial_connection_window_size: {WINDOWS['connection']}}}")


def _cluster(name, setup, place):
    host, port = setup.server(place, "model" if name == "candidate" else name).rsplit(":", 1)
    tls = f"""\
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: localhost
          common_tls_context: {_common(place)}
""" if setup.tls else ""
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return f"""\
    - name: {name}
      type: STATIC
      connect_timeout: 1s
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": {options}
          explicit_http_config: {{http2_protocol_options: {_http2()}}}
      circuit_breakers:
        thresholds: [{{max_connections: 4096, max_pending_requests: 100000, max_requests: 100000}}]
      load_assignment:
        cluster_name: {name}
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address: {{socket_address: {{address: "{host}", port_value: {port}}}}}
{tls}"""


def haproxy(setup, place):
    at = place.certificates
    tls = f" ssl crt {at}/tls.pem ca-file {at}/ca.crt verify required alpn h2" if setup.tls else ""
    return f"""\
global
  maxconn 4096
  tune.h2.initial-window-size {WINDOWS['stream']}
  tune.h2.max-concurrent-streams 1024
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
frontend callers
  bind 127.0.0.1:{place.port} proto h2{tls}
  default_backend model
backend model
  http-reuse always
  server model {setup.server(place, "model")} proto h2{tls}
"""


def nginx(setup, place):
    folder, at = place.folder, place.certificates
    scheme, ssl = ("grpcs", " ssl") if setup.tls else ("grpc", "")
    tls = f"""
    ssl_protocols TLSv1.3;
    ssl_certificate {at}/tls.crt;
    ssl_certificate_key {at}/tls.key;
    ssl_client_certificate {at}/ca.crt;
    ssl_verify_client on;
    grpc_ssl_protocols TLSv1.3;
    grpc_ssl_certificate {at}/tls.crt;
    grpc_ssl_certificate_key {at}/tls.key;
    grpc_ssl_trusted_certificate {at}/ca.crt;
    grpc_ssl_verify on;
    grpc_ssl_name localhost;
    grpc_ssl_server_name on;""" if setup.tls else ""
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""\
{user}
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 8192; }}
http {{
{temporary}
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  http2_max_concurrent_streams 1024;
  http2_body_preread_size {WINDOWS['stream']};
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  upstream model {{
    server {setup.server(place, "model")};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{place.port}{ssl} http2;{tls}
    location / {{ grpc_pass {scheme}://model; }}
  }}
}}
"""
