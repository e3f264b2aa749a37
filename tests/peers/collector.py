"""rotel as the OTLP collector: it prints every span it gets, and this reads what it printed.

A third party's reading of the spans is the point: what is not in its words did not arrive. Each look reads on where the
last one ended, for the log of a whole run is long and there are many looks.
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
LINK = re.compile(r"^\s*-> (?P<key>Trace ID|ID): (?P<value>[0-9a-f]*)$")
NAMES = {"Trace ID": "trace", "ID": "id", "Parent ID": "parent", "Name": "name", "Kind": "kind", "Status code": "status"}
CASTS = {"Int": int, "Double": float, "Bool": lambda text: text == "true"}


@dataclass
class Span:
    """One span as the collector printed it; ids are hexadecimal, `parent` is empty for a root.

    `links` are pairs of a trace's and a span's id.
    """

    resource: dict
    trace: str = ""
    id: str = ""
    parent: str = ""
    name: str = ""
    kind: str = ""
    status: str = ""
    attributes: dict = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)


class Reader:
    """Reads the `detailed` debug log as it grows. Lines of its own log, and events, are passed over."""

    def __init__(self, log: Path):
        self._log = log
        self._at = 0
        self._spans: list[Span] = []
        self._resource: dict = {}
        # The span that is printed, where its values go, and its link's trace.
        self._span: Span | None = None
        self._into: dict | None = None
        self._link: str | None = None

    def spans(self) -> list[Span]:
        """All that are whole: of the last one more may come, until nothing came between two looks."""
        with self._log.open("rb") as log:
            log.seek(self._at)
            new = log.read()
        # The rest of a line that is half printed is left for the next look.
        lines = new[: new.rfind(b"\n") + 1]
        self._at += len(lines)
        for line in lines.decode(errors="replace").splitlines():
            self._take(line)
        growing = bool(new) and self._span is not None
        return self._spans[:-1] if growing else [*self._spans]

    def _take(self, line: str):
        word = line.strip()
        if self._heading(word):
            return
        if self._link is not None:
            self._take_link(line)
        elif self._into is not None:
            if found := VALUE.match(line):
                self._into[found["key"]] = CASTS.get(found["kind"], str)(found["value"])
        elif self._span is not None and (found := FIELD.match(line)) and found["key"] in NAMES:
            setattr(self._span, NAMES[found["key"]], found["value"].strip())

    def _heading(self, word: str) -> bool:
        """Whether the line says what the next ones are of."""
        if word.startswith("ResourceSpans #"):
            self._resource, self._span, self._into, self._link = {}, None, None, None
        elif word == "Resource attributes:":
            self._into = self._resource
        elif word.startswith("ScopeSpans #"):
            self._span, self._into, self._link = None, None, None
        elif re.fullmatch(r"Span #\d+", word):
            self._span, self._into, self._link = Span(self._resource), None, None
            self._spans.append(self._span)
        elif word == "Attributes:" and self._span is not None and self._into is None:
            self._into = self._span.attributes
        elif re.fullmatch(r"SpanLink #\d+", word):
            self._into, self._link = {}, ""
        elif re.fullmatch(r"(Events|Links):|SpanEvent #\d+", word):
            # An event's attributes are not the span's: nothing more is read until a link or the next span.
            self._into, self._link = {}, None
        else:
            return False
        return True

    def _take_link(self, line: str):
        if not (found := LINK.match(line)):
            return
        if found["key"] == "Trace ID":
            self._link = found["value"]
        else:
            self._span.links.append((self._link, found["value"]))


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
        self._reader = Reader(self._program.output)

    def __enter__(self):
        self._program.wait_until("takes connections", self._connects)
        return self

    def __exit__(self, *error):
        self._program.__exit__(*error)

    def _connects(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def spans(self) -> list[Span]:
        """All spans it has printed, whole ones only."""
        return self._reader.spans()

    def wait_for(self, what: str, wanted, count: int = 1, seconds: float = 30.0) -> list[Span]:
        """The spans for which `wanted(span)` is true, once there are `count` of them.

        Two looks must agree, so that one span more than `count` has time to show itself.
        """
        before = None

        def look():
            nonlocal before
            found = [span for span in self.spans() if wanted(span)]
            settled = len(found) >= count and found == before
            before = found
            return found if settled else None

        return wait_for(f"spans of {what}", look, seconds, every=0.1)
