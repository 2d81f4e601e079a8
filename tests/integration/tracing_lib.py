# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a collector of traces, and a gateway that sends it spans."""
import contextlib
import json
import re

from tls_lib import KEY, Upstream, wait_for
from vm_lib import Gateway, Server

PATH = "/v1/traces"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"
ATTRIBUTES = {"http.request.method", "http.route", "http.response.status_code", "url.scheme", "error.type", "stacygate.rule",
              "stacygate.user_id", "stacygate.upstream", "stacygate.upstream_status", "stacygate.request_id", "stacygate.end"}


def value_of(attribute):
    """The value, of the kind that it must have."""
    (kind, value), = attribute["value"].items()
    assert kind == ("intValue" if attribute["key"].endswith(("status_code", "_status")) else "stringValue"), attribute
    assert isinstance(value, str) and value, attribute
    return int(value) if kind == "intValue" else value


class Span:
    """One span, its form checked."""

    def __init__(self, raw):
        assert re.fullmatch("[0-9a-f]{32}", raw["traceId"]) and re.fullmatch("[0-9a-f]{16}", raw["spanId"]), raw
        assert "parentSpanId" not in raw or re.fullmatch("[0-9a-f]{16}", raw["parentSpanId"]), raw
        assert raw["kind"] == 2 and raw["name"], raw
        self.trace, self.id, self.parent, self.name = raw["traceId"], raw["spanId"], raw.get("parentSpanId"), raw["name"]
        self.start, self.end = (int(raw[key]) for key in ("startTimeUnixNano", "endTimeUnixNano"))
        assert isinstance(raw["startTimeUnixNano"], str) and self.start <= self.end, raw
        self.error = raw.get("status", {}).get("code") == 2
        self.attributes = {a["key"]: value_of(a) for a in raw["attributes"]}
        assert len(self.attributes) == len(raw["attributes"]) and set(self.attributes) <= ATTRIBUTES, raw
        assert ("error.type" in self.attributes) == self.error, raw
        assert set(raw) <= {"traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes",
                            "status"}, raw

    def __getitem__(self, key):
        return self.attributes[key]

    def __repr__(self):
        return f"{self.name} {self.attributes}"


class Collector(Upstream):
    """`act` answers a request; the default takes the spans. What it refuses is in `refused` only."""

    def __init__(self, **more):
        self.spans, self.refused, self.batches, self.service, self.act = [], 0, [], None, None
        super().__init__(answer=self.take, **more)

    def take(self, connection, request):
        assert (request.method, request.target) == ("POST", PATH), request.target
        assert request.all("content-type") == ["application/json"], request.headers
        names = {name for name, _ in request.headers}
        assert names == {"host", "user-agent", "content-type", "content-length"}, names
        assert KEY.encode() not in request.body
        if self.act and (done := self.act(connection, request)):
            self.refused += 1
            return done == "closed"
        resource, = json.loads(request.body)["resourceSpans"]
        scope, = resource["scopeSpans"]
        assert scope["scope"]["name"] == "stacygated" and scope["scope"]["version"], scope["scope"]
        self.service = {a["key"]: value_of(a) for a in resource["resource"]["attributes"]}["service.name"]
        new = [Span(raw) for raw in scope["spans"]]
        self.batches.append(len(new))
        with self.lock:
            self.spans += new
        connection.answer(b'{"partialSuccess":{}}', "Content-Type: application/json\r\n")
        return False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}{PATH}"

    def sound(self):
        assert not [f for f in self.faults if "Assertion" in f or "Error(" in f and "Connection" not in f], self.faults

    def wait(self, n):
        """The spans, as soon as there are so many."""
        wait_for(f"{n} spans arrive: {self.faults}", lambda: len(self.spans) >= n or self.sound())
        self.sound()
        assert len(self.spans) == n, self.spans
        return self.spans

    def next(self):
        """The one span that comes."""
        span, = self.wait(1)
        self.spans = []
        return span


def refusal(status, *lines):
    """For `act`: answers so."""
    def act(connection, _):
        connection.send("\r\n".join([f"HTTP/1.1 {status} Status", "Content-Length: 0", *lines, "", ""]).encode())
        return "answered"
    return act


class Traced(Gateway):
    """`tracing`: the lines of the section; None: there is none."""

    def __init__(self, server, tracing, rules=None, **more):
        self.tracing = tracing
        super().__init__(server, rules, **more)

    def configure(self, upstreams=None):
        super().configure(upstreams)
        if self.tracing is None:
            return
        with open(self.config, "a", encoding="utf-8") as file:
            file.write("\n".join(["tracing:", *("  " + line for line in self.tracing)]) + "\n")

    def again(self, tracing):
        """Reloads with another section."""
        self.tracing = tracing
        self.configure()
        self.reload()

    def count(self, result):
        """Spans that came to that end, or wait."""
        text = self.ask("root", target="/gateway/v1/metrics").body.decode()
        name = "stacygate_trace_spans_waiting" if result == "waiting" else f'stacygate_trace_spans_total{{result="{result}"}}'
        return int(next(line.split(" ")[1] for line in text.splitlines() if line.startswith(name + " ")))

    def wait_count(self, result, n):
        wait_for(f"{n} spans are {result}", lambda: self.count(result) == n)


RULES = {"alice": [], "root": ["admin: true", "isolation: none", "allow: [all]"]}


@contextlib.contextmanager
def traced(*lines, rules=None, **more):
    """A server, a collector and a gateway between them, which begins no sampled trace unless a line says so."""
    server, collector = Server(), Collector()
    if not any(line.startswith("sample:") for line in lines):
        lines = (*lines, "sample: 0")
    with Traced(server, [f"endpoint: {collector.url}", *lines], rules or RULES, **more) as g:
        g.collector = collector
        yield server, collector, g
    collector.sound()
