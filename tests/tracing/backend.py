"""Arize Phoenix as a program, and its spans as its REST interface gives them.

Of a span Phoenix keeps attributes, events and the parent. It drops links, the kind of a span, and the resource but for
the project; so what must be found there has to be an attribute.
"""

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from processes import Program, free_ports, wait_for

# Where spans go whose resource names no project.
PROJECT = "default"


@dataclass(frozen=True)
class Span:
    """One span as Phoenix gives it back; `parent` is `None` for a root."""

    trace: str
    id: str
    parent: str | None
    name: str
    status: str
    attributes: dict


class Phoenix:
    """A running Phoenix: its page at `port`, OTLP over gRPC at `otlp`."""

    def __init__(self, program: Path, folder: Path):
        self.port, self.otlp = free_ports(2)
        settings = {
            "PHOENIX_WORKING_DIR": f"{folder}",
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": f"{self.port}",
            "PHOENIX_GRPC_PORT": f"{self.otlp}",
            # It stays at home, and has no assistant that runs commands here.
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }
        self._program = Program("phoenix", [program, "serve"], folder, settings)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._program.__exit__(*error)

    def wait_until_ready(self):
        self._program.wait_until("is healthy", lambda: self._get("/healthz") is not None, 120)

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.read()
        except OSError:
            return None

    def spans(self) -> list[Span]:
        """All spans it has, page by page."""
        found, cursor = [], None
        while True:
            query = {"limit": 500, **({"cursor": cursor} if cursor else {})}
            page = self._get(f"/v1/projects/{PROJECT}/spans?{urllib.parse.urlencode(query)}")
            if page is None:
                return found
            page = json.loads(page)
            found += [
                Span(
                    trace=span["context"]["trace_id"],
                    id=span["context"]["span_id"],
                    parent=span["parent_id"],
                    name=span["name"],
                    status=span["status_code"],
                    attributes=span["attributes"],
                )
                for span in page["data"]
            ]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    def wait_for(self, what: str, wanted, count: int = 1) -> list[Span]:
        """The spans for which `wanted(span)` is true, once there are `count` of them or more."""

        def look():
            found = [span for span in self.spans() if wanted(span)]
            return found if len(found) >= count else None

        return wait_for(f"{what} in Phoenix", look, 30, every=0.3)
