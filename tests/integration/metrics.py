# SPDX-License-Identifier: Apache-2.0
"""GET /gateway/v1/metrics: sound text, every number moves with its thing, and no label is anything that a client chose."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from owners_lib import Later, expect_error, headers_of, raw, run, started, subscribed
from tls_lib import BUILD, KEY, Skip, wait_for
from vm_lib import cut

PATH = "/gateway/v1/metrics"
ADMIN = ["admin: true", "isolation: none", "allow: [all]"]
WATCHED = {"alice": [], "bob": [], "root": ADMIN}
SAMPLE = re.compile(r'(stacygate_[a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\d+(?:\.\d{3})?)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
# All that a label may be; what a configuration names stands in the sets that the test knows.
LABELS = {"rule", "class", "status", "le", "reason", "bound", "limit", "event", "result", "upstream", "credential", "key", "output", "version"}


def text_of(g, name="root"):
    answer = g.ask(name, target=PATH)
    assert answer.status == 200 and answer.whole, (answer, g.log()[-3000:])
    assert headers_of(answer, "content-type") == ["text/plain; version=0.0.4; charset=utf-8"], answer.headers
    return answer.body.decode()


def scrape(g, name="root"):
    """Sample (name and sorted labels) to its value, and family to its type; checks the form on the way."""
    values, types, family = {}, {}, None
    text = text_of(g, name)
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    for i, line in enumerate(lines):
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in types and re.fullmatch("stacygate_[a-z_]+", family) and len(line.split(" ", 3)[3]) > 5, line
            kind = re.fullmatch(f"# TYPE {family} (counter|gauge|histogram)", lines[i + 1])
            assert kind, lines[i + 1]
            types[family] = kind.group(1)
            assert family.endswith("_total") == (kind.group(1) == "counter"), line
            continue
        if line.startswith("# TYPE "):
            assert lines[i - 1].startswith("# HELP "), line
            continue
        m = SAMPLE.fullmatch(line)
        assert m, line
        ends = ("_bucket", "_sum", "_count") if types[family] == "histogram" else ("",)
        assert m.group(1) in {family + end for end in ends}, (family, line)
        key = (m.group(1), *sorted(LABEL.findall(m.group(2) or "")))
        assert key not in values, line
        values[key] = float(m.group(3))
    return values, types


def value(g, name, **labels):
    return scrape(g)[0].get(("stacygate_" + name, *sorted(labels.items())), 0)


def moved(g, act, name, **labels):
    """By how much the number has grown when the act is done."""
    before = value(g, name, **labels)
    act()
    return value(g, name, **labels) - before


def test_the_text_is_sound():
    with started(WATCHED) as (server, g):
        g.api("alice", "DELETE", "/sandboxes/" + g.spawn("alice"))
        values, types = scrape(g)
        assert len(types) > 60, len(types)
        assert {family.rpartition("_")[2] for family in types if types[family] == "histogram"} == {"seconds"}
        for key in values:
            assert {name for name, _ in key[1:]} <= LABELS, key
        for cls in ("sandboxes", "metrics"):
            name = "stacygate_request_duration_seconds"
            buckets = [v for (n, *labels), v in values.items() if n == name + "_bucket" and ("class", cls) in labels]
            count = values.get((name + "_count", ("class", cls)))
            if cls == "metrics":  # this one has not ended
                assert not buckets and count is None
                continue
            assert len(buckets) == 16 and buckets == sorted(buckets) and buckets[-1] == count == 2, buckets
            assert 0 <= values[name + "_sum", ("class", cls)] < 60
        assert values["stacygate_build_info", ("version", text_version(g))] == 1


def text_version(g):
    return g.ask("root", target="/gateway/v1/health").json()["version"]


def test_promtool_takes_it():
    # ./autogen.sh check fetches it into the build directory.
    promtool = shutil.which("promtool") or shutil.which("promtool", path=BUILD)
    if not promtool:
        raise Skip("promtool (Debian: prometheus) is neither installed nor in the build directory: its opinion of the metrics is not known")
    with started(WATCHED) as (_, g):
        g.spawn("alice")
        text_of(g)
        done = subprocess.run([promtool, "check", "metrics"], input=text_of(g), capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
        bad = text_of(g).replace("stacygate_cache_fetches_total", "stacygate_cache_fetches")
        assert subprocess.run([promtool, "check", "metrics"], input=bad, capture_output=True, text=True).returncode != 0


def test_who_may_ask():
    with started({"alice": [], "watcher": ["allow: [metrics]"], "root": ["admin: true", "isolation: none", "allow: [sandboxes]"]}) as (server, g):
        scrape(g, "watcher")
        for name in ("alice", "root"):  # an operator must be allowed it as well
            expect_error(g.ask(name, target=PATH), 403, "FORBIDDEN", "class metrics")
        expect_error(g.ask("watcher", "POST", PATH), 405, "BAD_REQUEST")
        head = g.ask("watcher", "HEAD", PATH)
        assert head.status == 200 and int(headers_of(head, "content-length")[0]) > 5000 and headers_of(head, "cache-control") == ["no-store"]
        assert not server.since(0, user="watcher")


def test_requests():
    """Each request counts once, with its rule, class and status; its time with its class."""
    with started(WATCHED) as (server, g):
        s, template = g.spawn("alice"), {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        server.templates["t"] = template
        for name, method, path, cls, status in (
                ("alice", "GET", f"/api/v1/sandboxes/{s}", "sandboxes", "2xx"), ("bob", "GET", f"/api/v1/sandboxes/{s}", "sandboxes", "4xx"),
                ("alice", "GET", "/api/v1/templates/t", "templates:read", "2xx"), ("alice", "GET", "/api/v1/health", "system", "2xx"),
                ("alice", "DELETE", "/api/v1/sandboxes", "prune", "2xx"), ("alice", "PATCH", "/api/v1/config", "config", "4xx"),
                ("alice", "GET", "/api/v1/nothing", "unknown", "4xx"), ("alice", "GET", "/gateway/v1/whoami", "own", "2xx"),
                ("alice", "GET", "/api/../x", "unknown", "4xx"), ("alice", "POST", "/gateway/v1/reload", "operate", "4xx"),
                ("alice", "DELETE", f"/api/v1/sandboxes/{s}", "sandboxes", "2xx")):
            before = scrape(g)[0]
            assert g.ask(name, method, path).status // 100 == int(status[0]), (method, path)
            after = scrape(g)[0]
            counts = {k: after[k] - before.get(k, 0) for k in after if k[0] == "stacygate_requests_total" and after[k] != before.get(k)}
            mine = ("stacygate_requests_total", ("class", cls), ("rule", name), ("status", status))
            scrapes = ("stacygate_requests_total", ("class", "metrics"), ("rule", "root"), ("status", "2xx"))
            assert counts == {mine: 1, scrapes: 1}, (method, path, counts)
            times = ("stacygate_request_duration_seconds_count", ("class", cls))
            assert after[times] - before.get(times, 0) == 1, (method, path)


def test_whose_client_leaves():
    """A request that nobody is left to answer has no status, passed on or not."""
    with started(WATCHED) as (server, g):
        s = g.spawn("alice")
        for method, path, held in (("GET", f"/sandboxes/{s}/logs", f"/sandboxes/{s}/logs"), ("POST", "/sandboxes", "/sandboxes")):
            before = value(g, "requests_total", rule="alice", status="none", **{"class": "sandboxes"})
            with server.hold(method, held) as hold:
                sock = raw(g, "alice", f"{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
                hold.wait(1)
                sock.close()
                wait_for("it is counted", lambda n=before: value(g, "requests_total", rule="alice", status="none", **{"class": "sandboxes"}) == n + 1)
                hold.release()


def test_a_slow_request_is_slow():
    with started(WATCHED) as (server, g):
        s = g.spawn("alice")
        with server.hold("GET", f"/sandboxes/{s}/logs") as hold:
            later = Later(lambda: g.api("alice", "GET", f"/sandboxes/{s}/logs"))
            hold.wait(1)
            before = scrape(g)[0]
            begun = value(g, "uptime_seconds")
            wait_for("a moment has passed", lambda: value(g, "uptime_seconds") > begun + 0.3)
            hold.release()
            later.get()
        wait_for("it has ended", lambda: value(g, "request_duration_seconds_sum", **{"class": "sandboxes"}) >=
                 before["stacygate_request_duration_seconds_sum", ("class", "sandboxes")] + 0.25)
        name = "request_duration_seconds_bucket"
        assert value(g, name, **{"class": "sandboxes", "le": "+Inf"}) - value(g, name, **{"class": "sandboxes", "le": "0.25"}) >= 1


def test_who_matches_no_rule():
    with started(WATCHED) as (_, g):
        with open(g.config, encoding="utf-8") as file:
            text = file.read()
        with open(g.config, "w", encoding="utf-8") as file:
            file.write(text.replace("listen:\n", f"listen:\n  - {{ path: {g.socket_of('nobody')}, name: nobody }}\n", 1))
        assert g.ask("root", "POST", "/gateway/v1/reload").status == 200
        assert moved(g, lambda: g.ask("nobody"), "requests_total", rule="", status="4xx", **{"class": "unknown"}) == 1


def test_everything_moves():
    """Pool, cache, leases, spawns, limits, bounds, events, configuration, log and journal."""
    with started({"alice": ["limits: { sandboxes: 2, concurrent_requests: 1 }"], "bob": [], "root": ADMIN}, upstream=["pool: { max_connections: 8 }"]) as (server, g):
        server.templates["t"] = {"name": "t", "image": "x", "memory_mb": 1, "cpu_cores": 1, "ttl_seconds": 60}
        made = []

        def spawn(**headers):
            made.append(g.api("alice", "POST", "/sandboxes", {"image": "x"}, headers).json()["id"])

        def template():
            assert g.api("alice", "GET", "/templates/t").status == 200
        assert moved(g, spawn, "spawns_sent_total") == 1
        assert moved(g, template, "cache_requests_total", result="miss") == 1
        assert moved(g, template, "cache_requests_total", result="hit") == 1
        assert moved(g, lambda: spawn(**{"Stacygate-Lease": "90s"}), "lease_events_total", event="made") == 1
        assert value(g, "leases") == 1 and value(g, "journal_records") >= 1 and value(g, "journal_owed") == 0
        over = {"image": "x"}
        assert moved(g, lambda: expect_error(g.api("alice", "POST", "/sandboxes", over), 429, "RESOURCE_LIMIT"), "limit_refusals_total", limit="sandboxes") == 1
        with server.hold("GET", f"/sandboxes/{made[0]}/logs") as hold:
            later = Later(lambda: g.api("alice", "GET", f"/sandboxes/{made[0]}/logs"))
            hold.wait(1)
            assert moved(g, lambda: g.api("alice", "GET", "/health"), "limit_refusals_total", limit="concurrent_requests") == 1
            assert value(g, "upstream_connections_leased", upstream="main") >= 1
            hold.release()
            assert later.get().status == 200
        assert moved(g, lambda: g.api("alice", "GET", "/health"), "upstream_leases_total", upstream="main") == 1
        assert value(g, "upstream_dials_total", upstream="main") >= 1 and value(g, "upstream_up", upstream="main") == 1
        assert value(g, "upstream_connections_max", upstream="main") == 8
        assert moved(g, lambda: g.api("bob", "GET", "/health"), "connections_accepted_total") == 2  # and the scrape's own
        assert moved(g, lambda: g.api("bob", "GET", "/health"), "exchange_ends_total", reason="done") == 1
        subscribed(server, g, "alice")
        assert value(g, "events_connected", upstream="main") == 1
        server.publish("made_up")
        wait_for("the event is counted", lambda: value(g, "events_received_total", upstream="main") >= 1)
        age = value(g, "credential_age_seconds", credential="team", key="api_key")
        wait_for("the key becomes older", lambda: value(g, "credential_age_seconds", credential="team", key="api_key") > age)
        assert value(g, "credential_loaded", credential="team", key="api_key") == 1
        assert value(g, "credential_failing", credential="team", key="api_key") == 0
        assert moved(g, lambda: g.ask("root", "POST", "/gateway/v1/reload"), "config_generation") == 1
        assert value(g, "credential_age_seconds", credential="team", key="api_key") > age, "the same key is as old as before"
        assert value(g, "config_last_reload_successful") == 1
        assert abs(value(g, "config_last_reload_timestamp_seconds") - time.time()) < 3600
        assert moved(g, lambda: g.ask("alice", "POST", "/gateway/v1/reload"), "log_lines_total", output="audit") == 1
        broken = dict(name="exchange_ends_total", reason="upstream-broke")
        with server.fault("GET", "/health", cut("head")):
            assert moved(g, lambda: g.api("bob", "GET", "/health"), **broken) == 1


def test_a_server_that_is_not_there():
    with started(WATCHED) as (server, g):
        server.close()
        assert moved(g, lambda: g.api("bob", "GET", "/health"), "upstream_dial_failures_total", upstream="main") >= 1
        assert value(g, "upstream_up", upstream="main") == 0
        assert value(g, "requests_total", rule="bob", status="5xx", **{"class": "system"}) == 1


def test_bounds():
    """A connection over a bound is counted with that bound."""
    with started(WATCHED) as (_, g):
        with open(g.config, "a", encoding="utf-8") as file:
            file.write("bounds: { connections_per_uid: 3 }\n")
        g.reload()
        held = [g.connect("alice") for _ in range(2)]
        for c in held:
            assert c.ask("GET", "/gateway/v1/health").status == 200
        c = g.connect("root")
        assert c.ask("GET", PATH).status == 200
        late = g.connect("bob")
        late.connect()
        assert late.sock.recv(1) == b""  # turned away
        assert b'\nstacygate_bound_hits_total{bound="connections_per_uid"} 1\n' in c.ask("GET", PATH).body
        assert b'\nstacygate_bound_hits_total{bound="connections"} 0\n' in c.ask("GET", PATH).body
        for c in (*held, c, late):
            c.close()


def test_a_reload_keeps_what_a_rule_has_counted():
    with started(WATCHED) as (server, g):
        for _ in range(3):
            assert g.api("alice", "GET", "/health").status == 200
        counted = {"rule": "alice", "class": "system", "status": "2xx"}
        assert value(g, "requests_total", **counted) == 3
        g.rules = {"root": ADMIN, "carol": [], "alice": ["heartbeat: 10s"]}  # in another place, and with another setting
        g.configure()
        assert g.ask("root", "POST", "/gateway/v1/reload").status == 200
        assert g.api("alice", "GET", "/health").status == 200 and g.api("carol", "GET", "/health").status == 200
        assert value(g, "requests_total", **counted) == 4
        assert value(g, "requests_total", **{**counted, "rule": "carol"}) == 1
        assert {dict(k[1:])["rule"] for k in scrape(g)[0] if k[0] == "stacygate_requests_total"} == {"root", "carol", "alice"}


def test_x2_no_label_is_a_clients_word():
    """X2: however many users, sandboxes, paths and headers there are, they are no labels, and neither is the key anywhere."""
    with started({"alice": ["user_id: owner-of-alice"], "root": ADMIN}) as (server, g):
        def round_of(i):
            s = g.spawn("alice", metadata={"word": f"zebra{i}"})
            g.api("alice", "GET", f"/sandboxes/{s}/files?path=/zebra{i}", headers={"User-Agent": "zebra", "X-Request-ID": "zebra"})
            g.api("alice", "GET", f"/templates/zebra{i}")
            g.api("alice", "GET", f"/zebra{i}")
            g.ask("alice", "ZEBRA", "/zebra")
            return s
        first = round_of(0)
        text_of(g)  # counts from now on
        lines = text_of(g).count("\n")
        ids = [first, *(round_of(i) for i in range(1, 20))]
        text = text_of(g)
        assert text.count("\n") == lines
        for word in (*ids, "zebra", "owner-of-alice", KEY, g.directory):
            assert word.lower() not in text.lower(), word



def dashboard():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../conf/grafana-dashboard.json"), encoding="utf-8") as f:
        return json.load(f)


def expressions(board):
    """What it asks Prometheus for, its variables replaced by something."""
    asked = [t["expr"] for p in board["panels"] for t in p.get("targets", ())] + [a["expr"] for a in board["annotations"]["list"] if "expr" in a]
    return [e.replace("$__rate_interval", "5m").replace("$job", "j").replace("$instance", ".*").replace("$upstream", ".*") for e in asked]


def test_the_dashboard_asks_for_what_there_is():
    """conf/grafana-dashboard.json: every metric and every value of a label that it names exist, and its panels lie beside each other."""
    board, asked = dashboard(), expressions(dashboard())
    assert len(asked) > 40 and not any("$" in e for e in asked), asked
    with started(WATCHED) as (_, g):
        families = scrape(g)[1]
    for e in asked:
        for name, labels in re.findall(r"(stacygate_[a-z_]+)(?:{([^}]*)})?", e):
            assert re.sub("_bucket$", "", name) in families, (name, e)
            used = set(re.findall(r"([a-z_]+)(?:=|!)", labels or ""))
            assert {"job", "instance"} <= used and used <= LABELS | {"job", "instance"}, (used, e)
        assert set(re.findall(r"by [(]([a-z_, ]*)[)]", e)) <= {", ".join(x) for x in (["le"], ["le", "class"], ["credential", "key"], *([x] for x in LABELS))}, e
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids)) and all(p["datasource"]["uid"] == "${datasource}" for p in board["panels"] if p["type"] != "row")
    cells = [(x, y) for p in board["panels"] for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
             for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    for query in (v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"):
        assert set(re.findall("stacygate_[a-z_]+", query)) <= set(families), query


def test_prometheus_understands_the_dashboard():
    """promtool reads every expression of it."""
    promtool = shutil.which("promtool")
    if not promtool:
        raise Skip("promtool (Debian: prometheus) is not installed: THE DASHBOARD'S EXPRESSIONS WERE NOT PARSED")
    rules = [{"record": f"stacygate:r{i}", "expr": e} for i, e in enumerate(expressions(dashboard()))]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        json.dump({"groups": [{"name": "all", "rules": rules}]}, f)
        f.flush()
        done = subprocess.run([promtool, "check", "rules", f.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout + done.stderr, done


if __name__ == "__main__":
    run(globals())
