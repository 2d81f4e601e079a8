# SPDX-License-Identifier: Apache-2.0
"""What a body or a query asks for is what the rule grants (C12, C13, C17), read whole within bounds."""
import contextlib
import fcntl
import json
import os
import re
import struct
import termios

from owners_lib import UIDS, expect_error, expect_not_found, headers_of, raw, read_all, run, started
from tls_lib import Skip, wait_for
from vm_lib import API, cut, garbage, seconds, status, text

# --- C12: who the owner is --------------------------------------------------------------------------------------------

def spawned_body(server, mark):
    request, = server.since(mark, "POST", f"{API}/sandboxes")
    return request, json.loads(request.body, object_pairs_hook=list)


def test_c12_owner_in_the_body():
    """C12: the server sees the caller as owner once, whatever the body says; what could be read in two ways is 400."""
    with started() as (server, g):
        for body in ('{"owner_id":"bob"}', '{"Owner_ID":"bob"}', '{"OWNER_ID":"bob","image":"x"}', '{"owner\\u005fid":"bob"}',
                     '{"owner_id":null}', '{"owner_id":["bob"]}', '{"tenant_id":"t1","owner_id":""}', '{"Tenant_ID":"t1"}', "{}", "null",
                     '{"metadata":{"owner_id":"bob"}}'):
            mark = server.mark()
            answer = g.api("alice", "POST", "/sandboxes", body, {"X-User-ID": "bob", "X-Tenant-ID": "bob"})
            assert answer.status == 201, (body, answer)
            request, sent = spawned_body(server, mark)
            owners = [v for k, v in sent if k.lower() == "owner_id"]
            assert owners in ([], ["alice"]), (body, request.body)
            assert not [k for k, _ in sent if k.lower() == "tenant_id"], request.body
            assert request.all("x-user-id") == ["alice"] and not request.all("x-tenant-id"), request.headers
            metadata, = [dict(v) for k, v in sent if k == "metadata"]
            assert metadata["stacygate.owner"] == "alice" and metadata["stacygate.token"], metadata
            assert server.records[answer.json()["id"]]["owner_id"] == "alice"
        tokens = [r["metadata"]["stacygate.token"] for r in server.records.values()]
        assert len(set(tokens)) == len(tokens)
        assert set(g.listed("alice")) == set(server.alive()) and g.listed("bob") == []


REFUSED_BODIES = [
    '{"owner_id":"alice","owner_id":"bob"}', '{"owner_id":"alice","Owner_ID":"bob"}', '{"image":"a","IMAGE":"b"}',
    '{"metadata":{"a":"1","a":"2"}}', '{"metadata":{},"Metadata":{}}', '{"owner_\u0131d":"bob"}', '{"vcpu\u017f":9}', '{"vcpu\\u017f":9}',
    '{"\u212aey":1}', '{"\\u212aey":1}', '{"owner_id":"alice"} {"owner_id":"bob"}', '{"image":"a"}x', '{"image":"a"}\n[]', "[]", '"x"', "7",
    "", "{", '{"image":}', "\ufeff{}", '{"image":"a",}', "[" * 10000,
    '{"metadata":{"stacygate.owner":"bob"}}', '{"metadata":{"stacygate.token":"x"}}', '{"metadata":{"Stacygate.Owner":"bob"}}',
    '{"metadata":{"stacygate.":"x"}}', '{"metadata":{"stacygate.anything":"x"}}', '{"metadata":{"stacygate\\u002eowner":"bob"}}',
    '{"metadata":{"\\u0073tacygate.owner":"bob"}}', '{"Metadata":{"stacygate.owner":"bob"}}', 
    '{"metadata":{"big":"' + "x" * 17000 + '"}}', '{"image":"' + "x" * 513 + '"}',
]
NO_MAPS = ['{"metadata":["stacygate.owner"]}', '{"metadata":"stacygate.owner"}', '{"metadata":7}']  # nothing can be stamped


def test_c12_refused_bodies():
    """C12: duplicates, keys that fold to others, bytes behind the value, keys of the gateway's own: 400, nothing upstream."""
    with started({"alice": ["allow: [all]"], "bob": []}) as (server, g):
        mark = server.mark()
        for body in REFUSED_BODIES + NO_MAPS:
            for path in ("/sandboxes", "/sandboxes/admission")[:1 if body in NO_MAPS else 2]:
                for data in (body.encode("utf-8"), iter([body.encode("utf-8")])):
                    answer = g.ask("alice", "POST", API + path, data)
                    expect_error(answer, 400, "BAD_REQUEST")
                    assert "bob" not in answer.json()["message"], answer
        assert not server.since(mark, "POST"), [r.target for r in server.since(mark, "POST")]


def test_c12_queries():
    """C12: the owner that a query names is the caller; the rest of the query stays."""
    with started({"alice": ["allow: [all]"], "bob": ["allow: [all]"]}) as (server, g):
        for name in ("alice", "bob"):
            answer = g.api(name, "POST", "/environments/specs", {"owner_id": "bob", "name": "spec of " + name, "base_image": "x"})
            assert answer.status == 201 and answer.json()["owner_id"] == name, answer
        for query in ("owner_id=bob", "owner_id=bob&owner_id=bob", "owner_id=alice&owner_id=bob", "owner_id=bob&owner_id=alice",
                      "owner%5Fid=bob", "%6fwner_id=bob", "x=1&owner_id=bob&y=2", "a;owner_id=bob&owner_id=bob", "owner_id=%62ob", "owner_id"):
            answer = g.api("alice", "GET", "/environments/specs?" + query)
            assert b"spec of bob" not in answer.body, (query, answer)
            if answer.status == 200:
                assert [s["owner_id"] for s in answer.json()] in ([], ["alice"]), (query, answer)
        g.api("alice", "GET", "/environments/specs?x=%31&owner_id=bob&y=a+b")
        assert server.since(0, "GET", f"{API}/environments/specs")[-1].target.endswith("?x=%31&owner_id=alice&y=a+b")
        answer = g.api("alice", "GET", "/environments/specs?owner_id=bob")
        assert answer.status == 200 and [s["name"] for s in answer.json()] == ["spec of alice"], answer


def test_c12_own_quota_only():
    """C12: a quota is the caller's own to read, nobody else's."""
    with started() as (server, g):
        assert g.api("alice", "GET", "/quotas/alice").json()["owner_id"] == "alice"
        mark = server.mark()
        for path in ("/quotas/bob", "/quotas/bob/usage", "/quotas/Alice", "/quotas", "/quotas/alice%20"):
            assert g.api("alice", "GET", path).status in (400, 403), path
        for method in ("PUT", "DELETE"):
            expect_error(g.api("alice", method, "/quotas/alice", {}), 403, "FORBIDDEN", "quotas")
        assert not server.since(mark)


def test_c12_template_keys():
    """C12: a template cannot carry the gateway's keys either."""
    with started({"alice": ["allow: [all]"], "bob": []}) as (server, g):
        for body in ({"name": "t", "image": "x", "metadata": {"stacygate.owner": "bob"}}, {"name": "t", "image": "x", "Metadata": {"STACYGATE.token": "1"}}):
            expect_error(g.api("alice", "POST", "/templates", body), 400, "BAD_REQUEST")
        assert not server.since(0, "POST")


# --- C13: templates ---------------------------------------------------------------------------------------------------

def test_c13_template_spawn():
    """C13: goes to the server as an ordinary spawn, stamped, with the template's values and the overrides."""
    with started() as (server, g):
        server.templates["t"] = {"name": "t", "version": 1, "image": "node:22", "memory_mb": 777, "cpu_cores": 2, "ttl_seconds": 90}
        server.templates["a b"] = {"name": "a b", "version": 1, "image": "odd", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        for body, provider, ttl in ((None, "docker", 90), ({}, "docker", 90), ({"ttl": "1h"}, "docker", 3600), ({"provider": "mock"}, "mock", 90),
                                    ({"owner_id": "bob", "image": "evil"}, "docker", 90)):
            mark = server.mark()
            answer = g.api("alice", "POST", "/templates/t/spawn", body)
            assert answer.status == 201, (body, answer)
            record = server.records[answer.json()["id"]]
            assert (record["image"], record["memory_mb"], record["vcpus"], record["provider"]) == ("node:22", 777, 2, provider), (body, record)
            assert abs(record["expires_at"] - record["created_at"] - ttl) < 1, (body, record)
            assert record["metadata"]["template"] == "t" and record["metadata"]["stacygate.owner"] == "alice", record
            assert record["owner_id"] == "alice"
            assert not server.since(mark, path=API + "/templates/.*/spawn")
            expect_not_found(g.api("bob", "GET", "/sandboxes/" + answer.json()["id"]), answer.json()["id"])
        assert g.api("alice", "POST", "/templates/a%20b/spawn").status == 201
        assert sorted(g.listed("alice")) == sorted(server.alive())


def test_c13_template_trouble():
    """C13: a template that is missing is 404 in the server's words; one that cannot be read is 5xx; nothing is spawned."""
    with started() as (server, g):
        answer = g.api("alice", "POST", "/templates/none/spawn", {})
        assert answer.status == 404 and "none" in answer.json()["message"], answer
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        for what, act in (("500", status(500)), ("503", status(503)), ("cut", cut("body")), ("garbage", garbage),
                          ("no JSON", text(200, b"<html>", "text/html")), ("a list", text(200, b"[]", "application/json"))):
            with server.fault("GET", "/templates/t", act):
                answer = g.api("alice", "POST", "/templates/t/spawn", {})
                assert answer.status >= 500, (what, answer)
        for body in ('{"ttl":"1h","TTL":"2h"}', '{"ttl":"1h"}x', '{"metadata":{"stacygate.owner":"bob"}}'):
            expect_error(g.api("alice", "POST", "/templates/t/spawn", body), 400, "BAD_REQUEST")
        assert not server.records and not server.since(0, "POST")


def test_c13_other_ways_to_the_template():
    """C13: no spelling of the route reaches the server's own template spawn."""
    with started({"alice": ["allow: [all]"], "bob": []}) as (server, g):
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        for path in ("/templates/t/spawn/", "/templates//t/spawn", "/templates/t/%73pawn", "/templates/%74/spawn", "/templates/t%2Fspawn",
                     "/templates/./t/spawn", "/templates/t/spawn?x=1", "/templates/t/Spawn", "/Templates/t/spawn", "/templates/t/spawn;"):
            g.api("alice", "POST", path, {})
        assert not server.since(0, path=API + "/templates.*[Ss]?pawn.*"), [r.target for r in server.since(0)]
        assert server.alive() == server.alive("alice")


# --- C17: limits ------------------------------------------------------------------------------------------------------

LIMITS = ["limits:", "  max_ttl: 2h", "  max_memory_mb: 4096", "  max_vcpus: 4", '  images: ["python:*", "node:22"]', "  providers: [docker]"]
WITH_DEFAULTS = LIMITS + ['spawn_defaults: { image: "python:3.12", provider: docker, ttl: 30m, memory_mb: 512, vcpus: 1 }']
FIELDS = {  # field: default of spawn_defaults, limit, below it, above it, what is 400
    "ttl": ("30m", "2h", "90m", ["3h", "2h0m1s", "99999h", "120m1ns"], ["-1s", "-3h", "junk", "30"]),
    "memory_mb": (512, 4096, 128, [4097, 10 ** 9], [-1, -4096]),
    "vcpus": (1, 4, 2, [5, 1000], [-1, -4]),
}
UNSET = {"ttl": [None, "", "0", "0s"], "memory_mb": [None, 0], "vcpus": [None, 0]}


def same(a, b):
    return seconds(a) == seconds(b) if isinstance(a, str) and isinstance(b, str) else a == b


def limited_fields(rule, default_of):
    with started({"alice": rule, "bob": []}) as (server, g):
        base = {"image": "python:3.12", "provider": "docker"}

        def sent(body, path="/sandboxes"):
            mark = server.mark()
            answer = g.api("alice", "POST", path, body)
            if answer.status == 400:
                assert not server.since(mark, "POST"), body
                return None, None
            assert answer.status in (200, 201), (body, answer)
            request, = server.since(mark, "POST")
            names = ", ".join(headers_of(answer, "stacygate-clamped"))
            return json.loads(request.body), [n.strip() for n in names.split(",") if n.strip()]
        for field, (default, limit, below, above, bad) in FIELDS.items():
            expected = default if default_of else limit
            for unset in [{}] + [{field: v} for v in UNSET[field]]:
                for path in ("/sandboxes", "/sandboxes/admission"):
                    body, clamped = sent({**base, **unset}, path)
                    assert field in body and same(body[field], expected), (field, unset, path, body)
                    assert clamped == [], (field, unset, clamped)
            body, clamped = sent({**base, field: below})
            assert same(body[field], below) and not clamped, body
            body, clamped = sent({**base, field: limit})
            assert same(body[field], limit) and not clamped, body
            for value in above:
                for name in (field, field.upper()):
                    body, clamped = sent({**base, name: value})
                    values = [v for k, v in body.items() if k.lower() == field]
                    assert len(values) == 1 and same(values[0], limit) and clamped == [field], (field, value, body, clamped)
            for value in bad:
                assert sent({**base, field: value}) == (None, None), (field, value)
        body, clamped = sent({**base, "ttl": "9h", "memory_mb": 9999, "vcpus": 9})
        assert sorted(clamped) == ["memory_mb", "ttl", "vcpus"], clamped
        # Numbers that are none, or not whole.
        for raw_body in ('{"image":"node:22","provider":"docker","memory_mb":1e9}', '{"image":"node:22","provider":"docker","memory_mb":4096.5}',
                         '{"image":"node:22","provider":"docker","vcpus":"9"}', '{"image":"node:22","provider":"docker","ttl":99999999999999}',
                         '{"image":"node:22","provider":"docker","memory_mb":99999999999999999999}', '{"image":"node:22","provider":"docker","vcpus":[9]}'):
            mark = server.mark()
            g.api("alice", "POST", "/sandboxes", raw_body)
            for r in server.since(mark, "POST"):
                body = json.loads(r.body)
                assert isinstance(body["memory_mb"], int) and 0 < body["memory_mb"] <= 4096, r.body
                assert isinstance(body["vcpus"], int) and 0 < body["vcpus"] <= 4 and 0 < seconds(body["ttl"]) <= 7200, r.body


def test_c17_fields_without_defaults():
    """C17: a limited field that is absent, null, empty or zero is sent as the limit; negative is 400; more is lowered."""
    limited_fields(LIMITS, False)


def test_c17_fields_with_defaults():
    """C17: with defaults of the rule those are sent in place of the limit."""
    limited_fields(WITH_DEFAULTS, True)


def test_c17_images_and_providers():
    """C17: only images and providers of the rule, `*` matches no slash; left out without a default it is 400."""
    with started({"alice": LIMITS, "bob": WITH_DEFAULTS}) as (server, g):
        for body in ({"image": "python:5000/x"}, {"image": "python"}, {"image": "Python:3"}, {"image": "xpython:3"}, {"image": "node:223"}, {"image": "node:22 "},
                     {"image": "docker.io/python:3"}, {"image": "python:3.12", "provider": "mock"}, {"image": "python:3.12", "provider": "Docker"},
                     {"IMAGE": "evil"}, {"image": ["python:3.12"]}, {"image": 7}, {"image": "python:3.12", "Provider": "e2b"}):
            answer = g.api("alice", "POST", "/sandboxes", {"provider": "docker", **body} if "Provider" not in body else body)
            assert answer.status in (400, 403) and headers_of(answer, "stacygate-error"), (body, answer)
        for body in ({}, {"image": ""}, {"image": None}):
            expect_error(g.api("alice", "POST", "/sandboxes", {"provider": "docker", **body}), 400, "BAD_REQUEST", "image")
        for body in ({}, {"provider": ""}, {"provider": None}):
            expect_error(g.api("alice", "POST", "/sandboxes", {"image": "node:22", **body}), 400, "BAD_REQUEST", "provider")
        assert not server.records and not server.since(0, "POST")
        for body in ({}, {"image": ""}, {"image": None, "provider": None}, {"image": "python:3.12-slim"}, {"image": "node:22", "provider": "docker"}):
            assert g.api("bob", "POST", "/sandboxes", body).status == 201, body
        for r in server.since(0, "POST"):
            body = json.loads(r.body)
            assert body["image"] in ("python:3.12", "python:3.12-slim", "node:22") and body["provider"] == "docker", body


def test_c17_extend_and_templates():
    """C17: extend and a template cannot pass the limits either."""
    with started({"alice": WITH_DEFAULTS, "bob": []}) as (server, g):
        s = g.spawn("alice")
        for ttl in ("3h", "99999h"):
            mark = server.mark()
            answer = g.api("alice", "POST", f"/sandboxes/{s}/extend", {"ttl": ttl})
            assert answer.status == 200 and headers_of(answer, "stacygate-clamped") == ["ttl"], answer
            request, = server.since(mark, "POST")
            assert seconds(json.loads(request.body)["ttl"]) == 7200
        assert g.api("alice", "POST", f"/sandboxes/{s}/extend", {"ttl": "1h"}).status == 200
        expect_error(g.api("alice", "POST", f"/sandboxes/{s}/extend", {"ttl": "1h", "TTL": "99h"}), 400, "BAD_REQUEST")
        server.templates["big"] = {"name": "big", "image": "python:3", "memory_mb": 99999, "cpu_cores": 64, "ttl_seconds": 999999}
        server.templates["evil"] = {"name": "evil", "image": "evil", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        answer = g.api("alice", "POST", "/templates/big/spawn", {"ttl": "99h"})
        assert answer.status == 201, answer
        record = server.records[answer.json()["id"]]
        assert (record["memory_mb"], record["vcpus"]) == (4096, 4) and record["expires_at"] - record["created_at"] <= 7201, record
        assert sorted(re.split(", *", headers_of(answer, "stacygate-clamped")[0])) == ["memory_mb", "ttl", "vcpus"], answer.headers
        assert g.api("alice", "POST", "/templates/evil/spawn", {}).status in (400, 403)
        assert "evil" not in [r["image"] for r in server.records.values()]


# --- bodies that are read whole ---------------------------------------------------------------------------------------

MIB = 1 << 20


def test_whole_bodies_of_2_mib():
    """A body that the gateway must read is at most 2 MiB: above it is 413, announced or in chunks."""
    with started() as (server, g):
        fits = b'{"image":"x","unknown":"' + b"y" * (2 * MIB - 26) + b'"}'
        assert len(fits) == 2 * MIB
        assert g.ask("alice", "POST", API + "/sandboxes", fits).status == 201
        assert g.ask("alice", "POST", API + "/sandboxes", iter([fits[:MIB], fits[MIB:]])).status == 201
        mark = server.mark()
        announced = raw(g, "alice", f"POST {API}/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * MIB + 1}\r\nConnection: close\r\n\r\n".encode())
        assert read_all(announced).startswith(b"HTTP/1.1 413 ")
        chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
        sock = raw(g, "alice", f"POST {API}/sandboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode() + chunk)
        with contextlib.suppress(ConnectionError):
            sock.sendall(chunk * 2)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        s = server.alive("alice")[0]
        chunked_exec = g.ask("alice", "POST", f"{API}/sandboxes/{s}/exec", iter([b'{"command":"' + b"x" * MIB, b"y" * MIB + b'"}']))
        assert chunked_exec.status == 413, chunked_exec
        assert not server.since(mark, "POST")
        long = json.dumps({"command": "z" * (3 * MIB)})  # with a length it passes as a stream
        assert g.ask("alice", "POST", f"{API}/sandboxes/{s}/exec", long).status == 200


def test_whole_bodies_of_one_uid():
    """More than 8 MiB at a time of one uid's is 503; another uid is served; what is done makes room."""
    if os.getuid():
        raise Skip("two users need root")
    with started(uids=UIDS) as (server, g):
        body = b'{"image":"x","unknown":"' + b"y" * (2 * MIB - 26) + b'"}'
        head = f"POST {API}/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        held = [raw(g, "alice", head + body[:-1]) for _ in range(4)]
        wait_for("the gateway has read them", lambda: all(unread(sock) == 0 for sock in held))
        refused = read_all(raw(g, "alice", head + body[:4096]))
        assert refused.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in refused and b"UNAVAILABLE" in refused, refused
        assert g.ask("bob", "POST", API + "/sandboxes", body).status == 201
        for sock in held:
            sock.sendall(body[-1:])
            assert read_all(sock).startswith(b"HTTP/1.1 201 "), "one within the share"
        assert g.ask("alice", "POST", API + "/sandboxes", body).status == 201
        assert len(server.alive("alice")) >= 5


def unread(sock):
    """Bytes that were sent and not taken yet."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]

if __name__ == "__main__":
    run(globals())
