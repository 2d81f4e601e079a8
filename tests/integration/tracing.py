# SPDX-License-Identifier: Apache-2.0
"""Traces: what goes to the server of a client's, and spans to a collector that may be down, slow or unwilling."""
import re
import socket
import tempfile
import threading
import time

from owners_lib import Later, expect_error, raw, read_until, run, started
from tls_lib import DEADLINE, KEY, Authority, Connection, server_context, wait_for
from tracing_lib import GOOD, PARENT, PATH, RULES, TRACE, Collector, Traced, refusal, traced
from vm_lib import Server, cut

STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
SENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")


def sent(request):
    """Trace, span and flags of what a request carries."""
    value, = request.all("traceparent")
    return SENT.fullmatch(value).groups()


def api(g, path="/health", method="GET", body=None, parent=GOOD, name="alice", **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    answer = g.api(name, method, path, body, {**({"traceparent": parent} if parent else {}), **headers})
    assert answer.status < 300 and answer.whole, answer
    return answer


# --- what the server sees ---------------------------------------------------------------------------------------------------


def test_without_configuration_they_pass_as_they_are():
    with started() as (server, g):
        odd = {"TraceParent": "FF-not one", "tracestate": "x y,,=;"}
        for headers in ({"traceparent": GOOD, "tracestate": STATE}, odd):
            mark = server.mark()
            assert g.api("alice", "GET", "/health", headers=headers).status == 200
            g.spawn("alice")
            for request in server.since(mark, path="/api/v1/health"):
                assert [request.all("traceparent"), request.all("tracestate")] == [[v] for v in headers.values()], request.headers
        mark = server.mark()
        answer = g.api("alice", "POST", "/sandboxes", {"image": "a"}, {"traceparent": GOOD, "tracestate": STATE})
        spawn, = server.since(mark, "POST")
        assert answer.status == 201 and spawn.all("traceparent") == [GOOD] and spawn.all("tracestate") == [STATE], spawn.headers
        text = g.ask("alice", target="/gateway/v1/whoami").status
        assert text == 200 and "tracing" not in g.log()


def test_a_trace_goes_on():
    with traced() as (server, collector, g):
        mark = server.mark()
        api(g, tracestate=STATE, X_Request_ID="mine-1")
        request, = server.since(mark)
        trace, span_id, flags = sent(request)
        assert (trace, flags) == (TRACE, "1") and span_id != PARENT
        assert request.all("tracestate") == [STATE]
        span = collector.next()
        assert (span.trace, span.id, span.parent) == (TRACE, span_id, PARENT)
        assert span.name == "GET /api/v1/health" and not span.error
        assert span.attributes == {
            "http.request.method": "GET", "http.route": "/api/v1/health", "http.response.status_code": 200, "url.scheme": "http",
            "stacygate.rule": "alice", "stacygate.user_id": "alice", "stacygate.upstream": "main", "stacygate.upstream_status": 200,
            "stacygate.request_id": "mine-1", "stacygate.end": "done"}
        assert abs(time.time() - span.start / 1e9) < 60 and span.end - span.start < 30e9
        assert collector.service == "stacygate"
        # Each request has a span of its own, and the collector keeps its connection.
        for _ in range(3):
            api(g)
        assert len({span.id for span in collector.wait(3)}) == 3
        assert collector.connections == 1


def test_one_that_is_not_sampled_goes_on_and_makes_no_span():
    with traced("sample: 1") as (server, collector, g):
        mark = server.mark()
        api(g, parent=GOOD[:-1] + "0")
        api(g)
        off, on = server.since(mark)
        assert sent(off)[0] == TRACE and sent(off)[2] == "0"
        assert collector.next().id == sent(on)[1]


def test_traces_begin_as_sample_says():
    with traced("sample: 1", "service_name: 'front \"door\"'") as (server, collector, g):
        mark = server.mark()
        api(g, parent=None)
        request, = server.since(mark)
        trace, span_id, flags = sent(request)
        span = collector.next()
        assert flags == "3" and (span.trace, span.id, span.parent) == (trace, span_id, None)
        assert collector.service == 'front "door"'
        g.again([f"endpoint: {collector.url}", "sample: 0"])
        mark = server.mark()
        api(g, parent=None)
        api(g)
        assert [sent(r)[2] for r in server.since(mark)] == ["2", "1"]
        assert collector.next().trace == TRACE


def test_what_is_no_traceparent_is_replaced_and_its_state_dropped():
    with traced() as (server, collector, g):
        zeros = "0" * 32
        for value in ("ff" + GOOD[2:], GOOD + "-", GOOD + "-more", GOOD.upper(), GOOD[:-1], f"00-{zeros}-{PARENT}-01",
                      f"00-{TRACE}-{zeros[:16]}-01", "x", "", f"01-{TRACE}-{PARENT}-01.x"):
            mark = server.mark()
            api(g, parent=None, traceparent=value, tracestate=STATE)
            request, = server.since(mark)
            assert sent(request)[0] != TRACE and sent(request)[2] == "2" and not request.all("tracestate"), (value, request.headers)
        mark = server.mark()
        api(g, parent=None, tracestate=STATE)
        assert not server.since(mark)[0].all("tracestate")
        mark = server.mark()
        api(g, parent="cc" + GOOD[2:] + "-of-later", tracestate=STATE)
        request, = server.since(mark)
        assert sent(request)[0] == TRACE and request.all("tracestate") == [STATE]
        assert collector.next().trace == TRACE
        # Two of them, and a state in two lines.
        for lines, goes_on in ((["traceparent: " + GOOD] * 2 + ["tracestate: a=1"], False),
                               (["tracestate: a=1", "Traceparent: " + GOOD, "TRACESTATE: b=2"], True)):
            mark = server.mark()
            sock = raw(g, "alice", "\r\n".join(["GET /api/v1/health HTTP/1.1", "Host: x", *lines, "", ""]).encode())
            read_until(sock, b"\r\n\r\n")
            sock.close()
            request, = server.since(mark)
            assert (sent(request)[0] == TRACE) == goes_on, request.headers
            assert request.all("tracestate") == (["a=1,b=2"] if goes_on else []), request.headers


def test_the_gateways_own_requests_for_a_caller_are_of_his_trace():
    with traced() as (server, collector, g):
        # A spawn is a call, whose request is made anew; a look at somebody's sandbox comes before what he asks for.
        mark = server.mark()
        answer = api(g, "/sandboxes", "POST", {"image": "a"}, tracestate=STATE)
        spawn, = server.since(mark, "POST")
        span = collector.next()
        assert sent(spawn) == (TRACE, span.id, "1") and spawn.all("tracestate") == [STATE], spawn.headers
        assert span.name == "POST /api/v1/sandboxes" and span["http.response.status_code"] == 201
        assert span["stacygate.upstream"] == "main"
        mark = server.mark()
        strange = server.add("alice")
        api(g, f"/sandboxes/{strange}/logs")
        look, logs = server.since(mark, path="/api/v1/sandboxes/.*")
        span = collector.next()
        assert look.target.endswith(strange) and sent(look) == sent(logs) == (TRACE, span.id, "1")
        assert span["http.route"] == "/api/v1/sandboxes/{id}/logs" and strange not in repr(span)
        # run spawns, executes and destroys.
        mark = server.mark()
        answer = g.ask("alice", "POST", "/gateway/v1/run", b'{"image":"a","command":"true"}', {"traceparent": GOOD})
        assert answer.status == 200, answer
        steps = server.since(mark, "POST")
        span = collector.next()
        assert len(steps) >= 2 and {sent(r) for r in steps} == {(TRACE, span.id, "1")}, [r.headers for r in steps]
        # The stream of events is everybody's.
        assert not any(r.all("traceparent") for r in server.since(0, path="/api/v1/events"))


# --- what a span says -------------------------------------------------------------------------------------------------------


def test_spans_of_what_the_gateway_answers_and_of_what_fails():
    with traced(upstream=["timeouts: { response: 300ms }"]) as (server, collector, g):
        assert g.ask("alice", target="/gateway/v1/health", headers={"traceparent": GOOD}).status == 200
        span = collector.next()
        assert "stacygate.upstream" not in span.attributes and "stacygate.end" not in span.attributes and not span.error
        expect_error(g.api("alice", "GET", "/workers", headers={"traceparent": GOOD}), 403, "FORBIDDEN")
        span = collector.next()
        assert span["http.response.status_code"] == 403 and not span.error
        with server.hold("GET", "/health"):
            assert g.api("alice", "GET", "/health", headers={"traceparent": GOOD}).status == 504
        span = collector.next()
        assert span.error and span["error.type"] == span["stacygate.end"] == "response-timeout"
        assert span["http.response.status_code"] == 504 and span.end - span.start >= 300e6
        with server.fault("GET", "/health", cut("body")):
            assert not g.api("alice", "GET", "/health", headers={"traceparent": GOOD}).whole
        span = collector.next()
        assert span.error and span["error.type"] == "response-cut" and span["http.response.status_code"] == 200
        with server.hold("GET", "/health"):
            sock = raw(g, "alice", f"GET /api/v1/health HTTP/1.1\r\nHost: x\r\ntraceparent: {GOOD}\r\n\r\n".encode())
            wait_for("the server has it", lambda: server.active_faults[0].seen)
            sock.close()
            span = collector.next()
        assert not span.error and span["stacygate.end"] == "client-gone" and "http.response.status_code" not in span.attributes


def test_a_client_that_leaves_a_call_has_a_span():
    with traced() as (server, collector, g):
        with server.hold("GET", "/templates"):
            sock = raw(g, "alice", f"GET /api/v1/templates HTTP/1.1\r\nHost: x\r\ntraceparent: {GOOD}\r\n\r\n".encode())
            wait_for("the server has it", lambda: server.active_faults[0].seen)
            sock.close()
            span = collector.next()
        assert not span.error and span["stacygate.end"] == "client-gone", span


def test_nothing_of_headers_queries_and_bodies_is_in_it():
    planted = "SEKRET-planted"
    seen = []
    with traced(rules={**RULES, "alice": ["allow: [all]", "isolation: none"]}) as (server, collector, g):
        collector.act = lambda _, request: seen.append(request.body)
        strange = server.add("alice")
        api(g, f"/sandboxes/{strange}/files?path=/{planted}", Authorization=planted, X_API_Key=planted, Cookie=planted, User_Agent=planted,
            X_Request_ID=planted + " !", tracestate="a=" + planted)
        api(g, f"/sandboxes/{strange}/exec", "POST", {"command": planted})
        g.api("alice", "GET", f"/{planted}", headers={"traceparent": GOOD})
        collector.wait(3)
        body = b"".join(seen)
        assert planted.encode() not in body and KEY.encode() not in body and strange.encode() not in body, body
        assert planted not in g.log().replace(f"/api/v1/{planted}", "")  # the access log has paths


def test_a_preview_is_the_programs_own():
    with traced("sample: 1", rules={**RULES, "alice": []}) as (server, collector, g):
        sandbox = server.add("alice")
        page = Collector()
        page.act = lambda c, r: c.answer(b"page") or "answered"
        page.on_request = lambda c, r: c.answer(b"page")
        with open(g.config, "a", encoding="utf-8") as file:
            file.write(f"preview: {{ url: http://127.0.0.1:{page.port} }}\n")
        g.reload()
        host = {"Host": f"3000-{sandbox}.localhost"}
        for headers in ({}, {"traceparent": GOOD, "tracestate": STATE}):
            answer = g.ask("alice", target="/x?y", headers={**host, **headers})
            assert answer.status == 200 and answer.body == b"page", (answer, g.log()[-3000:])
        first, second = page.requests
        assert not first.all("traceparent") and second.all("traceparent") == [GOOD] and second.all("tracestate") == [STATE]
        begun, gone_on = collector.wait(2)
        assert begun["http.route"] == "{port}-{id}.{domain}" and (gone_on.trace, gone_on.parent) == (TRACE, PARENT)


# --- a collector that is not well -------------------------------------------------------------------------------------------


def said(g):
    return [line.split("tracing: ", 1)[1] for line in g.log().splitlines() if "tracing: " in line]


def test_what_may_pass_is_tried_again():
    for status in (429, 502, 503, 504):
        with traced() as (_, collector, g):
            collector.act = refusal(status)
            api(g)
            wait_for("it is tried", lambda: collector.refused)
            assert g.count("waiting") == 1
            collector.act = None
            collector.next()
            g.wait_count("exported", 1)
            assert said(g) == [f"spans cannot be delivered to {collector.url}: answered {status}",
                               f"spans are delivered again to {collector.url}"], said(g)


def test_retry_after_is_kept_to():
    with traced() as (_, collector, g):
        collector.act = refusal(429, "Retry-After: 3")
        api(g)
        wait_for("it is tried", lambda: collector.refused)
        at, collector.act = time.monotonic(), None
        collector.next()
        assert time.monotonic() - at > 2.5
        # A date that has passed asks for nothing.
        collector.act = refusal(503, "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT")
        api(g)
        wait_for("it is tried", lambda: collector.refused > 1)
        collector.act = None
        collector.next()


def test_what_will_not_pass_is_dropped():
    with traced() as (_, collector, g):
        for i, status in enumerate((400, 404, 500, 301)):
            collector.act = refusal(status)
            api(g)
            g.wait_count("rejected", i + 1)
        assert g.count("waiting") == 0
        collector.act = None
        api(g)
        collector.next()
        g.wait_count("exported", 1)
        assert said(g) == [f"spans cannot be delivered to {collector.url}: answered 400",
                           f"spans are delivered again to {collector.url}"], said(g)


def test_garbage_and_broken_connections_are_tried_again():
    def garbage(connection, _):
        connection.send(b"\x00 no HTTP\r\n\r\n")
        connection.close()
        return "closed"

    def reset(connection, _):
        connection.reset()
        return "closed"
    for act in (garbage, reset):
        with traced() as (_, collector, g):
            collector.act = act
            api(g)
            wait_for("it is tried", lambda: collector.refused)
            collector.act = None
            collector.next()


def test_a_long_answer_is_no_failure():
    with traced() as (_, collector, g):
        real = collector.on_request

        def wordy(connection, request):
            connection.answer, answer = lambda body, extra: answer(b"x" * 200000, extra), connection.answer
            return real(connection, request)
        collector.on_request = wordy
        api(g)
        collector.next()
        g.wait_count("exported", 1)
        assert not said(g)


def test_requests_know_nothing_of_a_collector_that_is_down_or_hangs():
    gate = threading.Event()
    with traced() as (server, collector, g):
        collector.act = lambda *_: gate.wait(DEADLINE * 2) and None
        for _ in range(50):
            api(g)
        wait_for("it has some", lambda: len(collector.requests) == 1)
        began = time.monotonic()
        for _ in range(50):
            api(g)
        assert time.monotonic() - began < 8
        # A try has 10 s.
        wait_for("it is given up", lambda: said(g), 30)
        assert said(g) == [f"spans cannot be delivered to {collector.url}: no answer within 10 s"]
        gate.set()
        collector.act = None
        # What hung has taken them too: nobody can tell, so they come twice.
        wait_for("all come", lambda: len({s.id for s in collector.spans}) == 100)
        g.wait_count("exported", 100)
    assert g.collector.connections == 2


def test_what_waits_is_bounded_and_comes_in_parts():
    server, collector = Server(), Collector()
    gone = Collector()
    gone.close()
    wait_for("nobody listens there", lambda: gone.listener.fileno() < 0)
    url = f"http://127.0.0.1:{gone.port}{PATH}"
    with Traced(server, [f"endpoint: {url}", "sample: 1"], RULES) as g:
        connection = g.connect("alice")
        for _ in range(2100):
            assert connection.ask("GET", "/gateway/v1/whoami").status == 200
        assert g.count("waiting") == 2048 and g.count("overflowed") > 2100 - 2049
        assert len(said(g)) == 1 and "cannot be delivered" in said(g)[0], said(g)
        assert g.log().count("cannot connect") == 0
        # Somewhere else they are nobody's.
        g.again([f"endpoint: {collector.url}", "sample: 1"])
        assert g.count("undelivered") == 2048
        for _ in range(1100):
            assert connection.ask("GET", "/gateway/v1/whoami").status == 200
        wait_for("all come", lambda: len(collector.spans) >= 1100)
        assert max(collector.batches) <= 512, collector.batches


def test_a_collector_that_comes_later_gets_them():
    collector = Collector()
    port = collector.port
    collector.close()
    wait_for("nobody listens there", lambda: collector.listener.fileno() < 0)
    with Traced(Server(), [f"endpoint: http://127.0.0.1:{port}{PATH}", "sample: 0"], RULES) as g:
        api(g)
        wait_for("it fails", lambda: said(g))
        later = Collector(port=port)
        later.next()
        assert [line.split(" to ")[0] for line in said(g)] == ["spans cannot be delivered", "spans are delivered again"], said(g)


def test_a_collector_behind_a_socket():
    collector = Collector()
    with Traced(Server(), None, RULES) as g:
        path = g.path("otlp.sock")
        door = socket.socket(socket.AF_UNIX)
        door.bind(path)
        door.listen(16)

        def serve():
            sock, _ = door.accept()
            connection = Connection(collector, sock)
            collector.live.append(connection)
            collector.serve(connection)
        threading.Thread(target=serve, daemon=True).start()
        g.again([f"endpoint: unix://{path}", "sample: 0"])
        api(g)
        collector.next()
        door.close()


def test_a_collector_behind_tls():
    with tempfile.TemporaryDirectory(prefix="sg-certs.") as directory:
        own = Authority(directory, "own")
        collector = Collector(context=server_context(own.issue("good", hosts=("DNS:other",))))
        url = collector.url.replace("http:", "https:")
        with Traced(Server(), [f"endpoint: {url}", f"tls: {{ ca_file: {own.certificate} }}"], RULES) as g:
            api(g)
            wait_for("it is refused", lambda: said(g))
            assert "certificate" in said(g)[0] or "SSL" in said(g)[0], said(g)
            assert not collector.requests
            g.again([f"endpoint: {url}", f"tls: {{ ca_file: {own.certificate}, server_name: other }}"])
            collector.next()


# --- reload and stop --------------------------------------------------------------------------------------------------------


def test_reload():
    with traced() as (server, collector, g):
        here = g.tracing
        g.again(None)
        mark = server.mark()
        api(g, tracestate=STATE)
        assert server.since(mark)[0].all("traceparent") == [GOOD]
        g.again(here)
        mark = server.mark()
        api(g)
        assert collector.next().id == sent(server.since(mark)[0])[1]
        # What waits for the same place goes on waiting; nobody is left to take what waits when there are no traces.
        collector.act = refusal(503, "Retry-After: 4")
        api(g)
        wait_for("it is tried", lambda: collector.refused)
        g.again([*here[:1], "sample: 0.000000001", "service_name: other"])
        assert g.count("waiting") == 1 and g.count("undelivered") == 0
        collector.act = None
        assert collector.next().trace == TRACE and collector.service == "other"
        collector.act = refusal(503, "Retry-After: 100")
        api(g)
        wait_for("it is tried", lambda: collector.refused > 1)
        g.again(None)
        assert g.count("waiting") == 0 and g.count("undelivered") == 1
        # A fault changes nothing.
        g.again([*here[:1], "sample: 0"])
        with open(g.config, "a", encoding="utf-8") as file:
            file.write("  sampel: 1\n")
        g.process.send_signal(1)
        wait_for("it is refused", lambda: "reload failed" in g.log())
        collector.act = None
        api(g)
        collector.next()


def test_one_that_is_under_way_at_a_reload():
    with traced() as (server, collector, g):
        with server.hold("GET", "/health") as hold:
            later = Later(lambda: g.api("alice", "GET", "/health", headers={"traceparent": GOOD}))
            hold.wait()
            g.again(None)
        assert later.get().status == 200
        assert g.count("waiting") == 0 and not collector.spans


def test_a_stop_delivers_what_waits():
    with traced(drain="20s") as (server, collector, g):
        for _ in range(600):
            api(g)
        began = time.monotonic()
        assert g.stop() == 0
        assert time.monotonic() - began < 10
        assert len(collector.spans) == 600
        g.start()


def test_a_stop_waits_only_so_long():
    gate = threading.Event()
    for drain, least, most in (("20s", 2.5, 10), ("0s", 0, 2.5)):
        with traced(drain=drain) as (server, collector, g):
            collector.act = lambda *_: gate.wait(DEADLINE) and "closed"
            api(g)
            began = time.monotonic()
            assert g.stop() == 0
            assert least <= time.monotonic() - began <= most, (drain, time.monotonic() - began)
            g.start()
    # Whoever asks a second time has no patience left.
    with traced(drain="20s") as (server, collector, g):
        collector.act = lambda *_: gate.wait(DEADLINE) and "closed"
        api(g)
        began = time.monotonic()
        g.process.send_signal(15)
        wait_for("it is at that", lambda: collector.requests)
        assert g.stop() == 0 and time.monotonic() - began < 2.5
        g.start()
    # One that refuses ends it at once.
    with traced(drain="20s") as (server, collector, g):
        collector.act = refusal(503)
        api(g)
        began = time.monotonic()
        assert g.stop() == 0 and time.monotonic() - began < 2.5
        assert collector.refused >= 1
        g.start()
    gate.set()


if __name__ == "__main__":
    run(globals())
