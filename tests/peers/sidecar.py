"""Parhelion itself, as a user starts it: the binary, a configuration file, three ports."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from processes import Program, free_ports

# Response metadata that the sidecar adds, see docs/telemetry.md. All else must be as the server sent it.
OWN_RESPONSE_KEYS = {
    "parhelion-variant",
    "parhelion-model-version",
    "parhelion-rollout",
    "parhelion-prediction-id",
}
# Request metadata that the sidecar adds or rewrites.
OWN_REQUEST_KEYS = {"traceparent", "tracestate"}


def binary() -> Path:
    """PARHELION_BIN, else what `cargo build` leaves."""
    root = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    found = Path(os.environ.get("PARHELION_BIN", target / "debug" / "parhelion"))
    if not found.is_file():
        raise FileNotFoundError(f"{found}: run `cargo build`, or set PARHELION_BIN")
    return found


class Sidecar:
    """A running `parhelion run`. `config` lacks only the three ports, which are chosen here."""

    def __init__(self, folder: Path, config: dict, name: str = "parhelion", env: dict | None = None):
        self.port, self.health, admin = free_ports(3)
        self.admin = f"127.0.0.1:{admin}"
        self._ports = {
            "listen": f"127.0.0.1:{self.port}",
            "health": f"127.0.0.1:{self.health}",
            "admin": self.admin,
        }
        self._variants = [
            f"/readyz/{model}/{variant}" for model, one in config["models"].items() for variant in one["variants"]
        ]
        self._file = folder / f"{name}.yaml"
        self.rewrite(config)
        env = {"OTEL_BSP_SCHEDULE_DELAY": "200", **(env or {})}
        self.program = Program(name, [binary(), "run", "-c", self._file], folder, env)

    def rewrite(self, config: dict):
        """Gives it another configuration, the ports as before."""
        # JSON is YAML.
        self._file.write_text(json.dumps({**self._ports, **config}, indent=2))

    def __enter__(self):
        # Every endpoint of every variant, for what is not ready gets no calls.
        self.program.wait_until("is ready", lambda: self.ready() and all(map(self._all_ready, self._variants)))
        return self

    def _all_ready(self, path: str) -> bool:
        status, body = self.get(path)
        counts = re.findall(r"\((\d+) of (\d+) endpoints\)", body)
        return status == 200 and all(ready == known for ready, known in counts)

    def __exit__(self, *error):
        self.program.__exit__(*error)
        # Whatever the callers saw: a panic that was caught is one too.
        assert "panicked" not in self.program.said(), self.program.said()[-4000:]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET at the health listener; (0, reason) where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def audit(self, model: str) -> list[dict]:
        """What was decided, as `parhelion ctl` says it."""
        return self._ctl("audit", model)

    def status(self, model: str) -> dict:
        """Where a rollout is, and what is known of it."""
        return self._ctl("status", model)

    def _ctl(self, *words: str):
        command = [binary(), "ctl", *words, "--json", "--admin", self.admin]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
        return json.loads(said)

    def report(self, report: dict):
        """One report of feedback, as JSON."""
        sent = urllib.request.Request(
            f"http://{self.admin}/feedback",
            json.dumps(report).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(sent, timeout=5) as answer:
            return json.load(answer)

    def counted(self, name: str, by: str = "") -> Counter:
        """What `/metrics` says of that name, summed up by one label's values, or under an empty one."""
        status, body = self.get("/metrics")
        assert status == 200, body
        counts = Counter()
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                if sample.name == name:
                    counts[sample.labels.get(by, "")] += sample.value
        return counts

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200
