# SPDX-License-Identifier: Apache-2.0
"""
M4: each allocation made for a request that is traced, and each made for taking its span to the collector, fails once. The request is
answered 502, 503 or 504, or closed, or goes up with its trace; a span is lost and counted, or comes in the end; nothing is leaked.
"""
import os

import owners_no_memory
from owners_lib import run
from tls_lib import wait_for
from tracing_lib import GOOD, RULES, TRACE, Collector, Traced

FULL = os.environ.get("STACYGATE_SWEEP") == "all"
ENDS = ("exported", "rejected", "undelivered", "overflowed", "waiting")


class Sweep(owners_no_memory.Sweep):
    def make(self, env):
        self.collector = Collector()
        return Traced(self.server, [f"endpoint: {self.collector.url}", "sample: 0"], RULES, level="info", env=env)

    def ask(self):
        return self.gateway.api("alice", "GET", "/health", headers={"traceparent": GOOD, "tracestate": "a=1"})

    def settled(self, n):
        """What became of n spans, as soon as none waits."""
        g = self.gateway
        wait_for("no span waits", lambda: g.count("waiting") == 0 and sum(g.count(end) for end in ENDS) >= n)
        self.collector.sound()
        # One whose answer was lost for want of memory comes twice.
        assert g.count("exported") == self.came() and g.count("rejected") == 0

    def came(self):
        return len({span.id for span in self.collector.spans})


def test_m4_requests():
    """M4: a tracestate may be lost, but none goes up without the trace that it belongs to."""
    with Sweep() as s:
        s.each(s.ask, lambda answer: None)
        sent = [r for r in s.server.since(0) if r.target == "/api/v1/health"]
        for request in sent:
            trace, = request.all("traceparent")
            assert trace.startswith(f"00-{TRACE}-") and trace != GOOD, trace
            assert request.all("tracestate") in ([], ["a=1"]), request.headers
        assert any(r.all("tracestate") for r in sent)
        s.settled(1)


def test_m4_spans():
    """M4: a try that finds no memory is made again."""
    with Sweep() as s:
        n, asked = 0, 0
        while True:
            n += 1 if FULL else 2
            assert s.ask().status == 200
            asked += 1
            # It is made when the client has its answer.
            wait_for("the span is there", lambda: s.gateway.count("waiting") or s.came() == asked)
            s.plan.arm(n)
            wait_for("it fails, or the span comes", lambda: s.plan.failed() or s.came() == asked)
            failed = s.plan.disarm()
            s.settled(asked)
            assert s.gateway.count("exported") == asked, s.gateway.log()[-3000:]
            if not failed:
                break
        assert n > 1, "no allocation was made"
        print(f"    {n} allocations", flush=True)


if __name__ == "__main__":
    run(globals())
