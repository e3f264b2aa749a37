"""rotel as the OTLP collector: it prints every span it gets, and this reads what it printed.

A third party's reading of the spans is the point: what is not in its words did not arrive.
"""

import re
import socket
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from processes import Program, free_ports, wait_for

AGENT = Path(sysconfig.get_paths()["purelib"]) / "rotel" / "rotel-agent"
VALUE = re.compile(r"^\s*-> (?P<key>[^:]+): (?P<kind>[A-Za-z]+)\((?P<value>.*)\)$")
FIELD = re.compile(r"^\s*(?P<key>Trace ID|Parent ID|ID|Name|Kind|Status code|Status message)\s*: ?(?P<value>.*)$")
CASTS = {"Int": int, "Double": float, "Bool": lambda text: text == "true"}


@dataclass
class Span:
    """One span as the collector printed it; ids are hexadecimal, `parent` is empty for a root."""

    resource: dict
    trace: str = ""
    id: str = ""
    parent: str = ""
    name: str = ""
    kind: str = ""
    status: str = ""
    attributes: dict = field(default_factory=dict)


def parse(text: str) -> list[Span]:
    """Reads the `detailed` debug log. Lines of its own log, events and links are passed over."""
    names = {"Trace ID": "trace", "ID": "id", "Parent ID": "parent", "Name": "name", "Kind": "kind", "Status code": "status"}
    spans, resource, into, span = [], {}, None, None
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("ResourceSpans #"):
            resource, span, into = {}, None, None
        elif word == "Resource attributes:":
            into = resource
        elif word.startswith("ScopeSpans #"):
            into = None
        elif re.fullmatch(r"Span #\d+", word):
            span, into = Span(resource), None
            spans.append(span)
        elif word == "Attributes:" and span is not None and into is None:
            into = span.attributes
        elif re.fullmatch(r"(Events|Links):|(SpanEvent|SpanLink|Event|Link) #\d+.*", word):
            # Their attributes are not the span's: nothing more is read until the next span.
            into = {}
        elif into is not None and (found := VALUE.match(line)):
            into[found["key"]] = CASTS.get(found["kind"], str)(found["value"])
        elif span is not None and into is None and (found := FIELD.match(line)) and found["key"] in names:
            setattr(span, names[found["key"]], found["value"].strip())
    return spans


class Collector:
    """A running rotel: `port` takes OTLP over gRPC, `http` over HTTP."""

    def __init__(self, folder: Path):
        self.port, self.http = free_ports(2)
        self._program = Program(
            "rotel",
            [
                AGENT, "start",
                "--pid-file", folder / "rotel.pid",
                "--otlp-grpc-endpoint", f"127.0.0.1:{self.port}",
                "--otlp-http-endpoint", f"127.0.0.1:{self.http}",
                "--debug-log", "traces",
                "--debug-log-verbosity", "detailed",
                "--exporter", "blackhole",
            ],
            folder,
        )  # fmt: skip

    def __enter__(self):
        self._program.wait_until("takes connections", self._connects)
        return self

    def __exit__(self, *error):
        self._program.__exit__(*error)

    def _connects(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def spans(self) -> list[Span]:
        """All spans it printed so far."""
        return parse(self._program.said())

    def wait_for(self, what: str, wanted, count: int = 1, seconds: float = 30.0) -> list[Span]:
        """The spans for which `wanted(span)` is true, once there are `count` of them.

        Two looks must agree, for the first may have met a span that was half printed.
        """
        before = None

        def look():
            nonlocal before
            found = [span for span in self.spans() if wanted(span)]
            settled = len(found) >= count and found == before
            before = found
            return found if settled else None

        return wait_for(f"spans of {what}", look, seconds, every=0.1)
