#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manuals are sound mdoc and say what the programs say: every configuration key with its range and default, every option,
route, header, error code, signal, variable and metric, and none that is not there. Each comparison is tried on pages that lack
one thing or have one too many."""
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
SRC = os.path.abspath(os.environ["SG_SRCDIR"])
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(SRC, "tests", "e2e"))
import man_config  # noqa: E402
import man_page  # noqa: E402
import sg  # noqa: E402

PAGES = ("stacygate.1", "stacygate.yaml.5", "stacygated.8")
# The promise that the sources are compared with as well as the pages.
HEADERS = {"Stacygate-Timeout", "Stacygate-Lease", "Idempotency-Key", "Cache-Control", "X-Request-ID", "Cache-Status", "Age",
           "Stacygate-Clamped", "Stacygate-Ignored", "Stacygate-Error", "Retry-After"}
G = None
WORK = None


@functools.lru_cache(maxsize=None)
def page(name):
    with open(os.path.join(SRC, "man", name), encoding="utf-8") as f:
        return f.read()


@functools.lru_cache(maxsize=None)
def sources(*folders):
    text = ""
    for folder in folders:
        where = os.path.join(SRC, "daemon", folder)
        for name in sorted(os.listdir(where)):
            if name.endswith(".c"):
                with open(os.path.join(where, name), encoding="utf-8") as f:
                    text += f.read()
    return text


def differ(what, documented, real):
    """The faults between what a page has and what there is."""
    real, faults = set(real), []
    assert real, "nothing was found to compare: " + what
    faults += ["%s is not documented: %s" % (what, x) for x in sorted(real - set(documented), key=str)]
    faults += ["%s is documented and is not there: %s" % (what, x) for x in sorted(set(documented) - real, key=str)]
    faults += ["%s is documented twice: %s" % (what, x) for x in sorted({x for x in documented if list(documented).count(x) > 1}, key=str)]
    return faults


# --- keys ------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def key_facts():
    """The keys, what the daemon expects of each, their defaults."""
    places = man_config.keys(WORK)
    return places, man_config.expectations(WORK, places), man_config.defaults(WORK)


def key_bodies(text):
    found = []
    for title in re.findall(r"^\.Sh ([^\n]+)$", text, re.M):
        own = re.split(r"^\.Ss ", man_page.section(text, title), flags=re.M)[0]
        for head, body in man_page.items(own):
            found += [(key, body) for key in man_page.arguments(head, "Cm")]
    return found


def range_faults(key, body, expected):
    said = re.search(r"^Range: (\S+) to (\S+)\.$", body, re.M)
    real = re.search(r" from (\S+) to (\S+?)(?: bytes)?(?:,|$)", expected or "")
    if not real:
        if said:
            return ["%s has a range that the daemon does not speak of" % key]
        choice = (expected or "").removesuffix(" or an absolute path")
        words = re.findall(r"\w+", choice) if re.fullmatch(r"\w+(, \w+)*( or \w+)?", choice) else []
        return ["%s: the word %s is not said" % (key, w) for w in words if w != "or" and not re.search(r"^\.Cm .*\b%s\b" % w, body, re.M)]
    if not said:
        return ["%s: no range, expected %s" % (key, real.group(0))]
    value = man_config.value
    same = [value(a) for a in said.groups()] == [value(a) for a in real.groups()]
    return [] if same else ["%s: %s, and the daemon says%s" % (key, said.group(0), real.group(0))]


def default_faults(key, body, default):
    said = re.search(r"^Default: (\S+)\.$", body, re.M)
    if said and default is None:
        return ["%s has a default that -T does not show" % key]
    if said and man_config.value(said.group(1)) != man_config.value(default):
        return ["%s: %s and -T shows %s" % (key, said.group(0), default)]
    numeric = default is not None and re.fullmatch(r"\d[\dhms.]*", default)
    return ["%s: no default, -T shows %s" % (key, default)] if numeric and not said else []


def key_faults(text):
    places, expected, defaults = key_facts()
    bodies = key_bodies(text)
    faults = differ("key", [k for k, _ in bodies], places)
    for key, body in bodies:
        if key in places:
            faults += range_faults(key, body, expected.get(key)) + default_faults(key, body, defaults.get(key))
    return faults


def class_faults(text):
    line = re.search(r'^.*expected all, "METHOD /path", or one of: (.*)$', man_config.faults_of(
        WORK, {"clients": [{"name": "x", "match": {}, "allow": ["nonsense"]}]}), re.M)
    return differ("route class", man_page.listed(man_page.section(text, "ROUTE CLASSES", "Ss"), "Cm"), [*line.group(1).split(", "), "all"])


def placeholder_faults(text):
    line = re.search(r"user_id holds \{x\}, expected (.*)$", man_config.faults_of(
        WORK, {"clients": [{"name": "x", "match": {}, "user_id": "{x}"}]}), re.M)
    return differ("placeholder", man_page.listed(man_page.section(text, "PLACEHOLDERS", "Ss"), "Li"), re.findall(r"\{\w+\}", line.group(1)))


# --- options and commands ---------------------------------------------------------------------------------------------------


def run(program, *words):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "STACYGATE"))}
    done = subprocess.run([sg.program(program), *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@functools.lru_cache(maxsize=None)
def help_options(*command):
    """{(name, takes a value)} of a command's help."""
    return {(name, bool(value)) for name, value in re.findall(r"^  (?:-\w, )?--([a-z-]+)( [A-Z][A-Z:=]*)?(?= )", run("stacygate", *command, "--help"), re.M)}


@functools.lru_cache(maxsize=None)
def help_commands():
    found = re.findall(r"^  ([a-z]+(?: [a-z]+)?)   *\S", run("stacygate", "--help"), re.M)
    return tuple(found) + tuple({c.split()[0] for c in found} - set(found))


def written_options(text):
    return [(name, bool(value)) for name, value in re.findall(r"\bFl -([a-z][a-z-]*)( Ar)?", text)]


def daemon_option_faults(text):
    real = re.findall(r"^  -(\w)(?: ([A-Z]+))? ", run("stacygated", "-h"), re.M)
    synopsis = man_page.section(text, "SYNOPSIS")
    short = [c for group in re.findall(r"^\.Op Fl (\w+)$", synopsis, re.M) for c in group] + re.findall(r"^\.Op Fl (\w) Ar", synopsis, re.M)
    listed = [(head.split()[1], "Ar" in head.split()) for head, _ in man_page.items(man_page.section(text, "DESCRIPTION")) if head.startswith("Fl ")]
    return differ("option in the synopsis", short, [o for o, _ in real]) + differ("option", listed, [(o, bool(v)) for o, v in real])


def client_option_faults(text):
    commands = man_page.subsections(man_page.section(text, "COMMANDS"))
    faults, every = differ("command", list(commands), help_commands()), set()
    for name, body in commands.items():
        if name not in help_commands():
            continue
        for synopsis in re.split(r"^\.br$", body.split(".Pp\n")[0], flags=re.M):
            if "Cm %s\n" % name not in synopsis:
                faults.append("the synopsis of %s is of another command" % name)
            faults += differ("option of %s" % name, written_options(synopsis), help_options(*name.split()))
        every |= help_options(*name.split())
    options = [written_options(head)[0] for head, _ in man_page.items(man_page.section(text, "OPTIONS"))]
    top = {(s, n) for s, n in re.findall(r"^  -(\w), --([a-z]+)", run("stacygate", "--help"), re.M)}
    described = [tuple(head[3:].replace(" , -", " ").split()) for head, _ in man_page.items(man_page.section(text, "DESCRIPTION"))]
    return faults + differ("option", options, every) + differ("option of the program", described, top)


# --- what the gateway serves ------------------------------------------------------------------------------------------------


def plain(route):
    return re.sub(r"\{\w+\}", "{}", route)


@functools.lru_cache(maxsize=None)
def served_routes():
    """Those of the route table that are answered, which must be those that the gateway describes."""
    described = {"%s %s" % (method.upper(), path) for path, row in G.request("GET", "/gateway/v1/openapi.json").json["paths"].items()
                 if path.startswith("/gateway/") for method in row if method != "parameters"}
    table = re.search(r"static const struct route_row gateway\[\] = \{(.*?)^\};", sources("gateway"), re.S | re.M).group(1)
    served = set()
    for method, path in re.findall(r'ROW\(\d+, (\w+), +"([^"]+)"', table):
        answer = G.request(method, path.replace("{id}", "sb-00000000").replace("{port}", "3000"), body="{}" if method in ("POST", "PUT") else None)
        if not (answer.status == 404 and b"there is no such route" in answer.body):
            served.add("%s %s" % (method, path))
    assert {plain(r) for r in described} <= {plain(r) for r in served}, "described and not served: %s" % (described - served)
    return served


def route_faults(text):
    documented = [plain(r) for r in man_page.listed(man_page.section(text, "ROUTES"), "Cm")]
    return differ("route", documented, {plain(r) for r in served_routes()})


def raw_answer(request):
    """(status, Stacygate-Error) of bytes that no HTTP library would send."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(G.socket)
        s.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = s.recv(65536)
            assert piece, answer
            answer += piece
    head = answer.split(b"\r\n\r\n")[0].decode()
    return int(head.split(" ")[1]), re.search(r"^Stacygate-Error: (\S+)\r?$", head, re.M | re.I).group(1)


@functools.lru_cache(maxsize=None)
def codes():
    """What the table of codes has, and what the gateway says to requests that the table does not know."""
    table = re.search(r"\} codes\[\] = \{(.*?)\n\};", sources("gateway"), re.S).group(1)
    head = b" / HTTP/1.1\r\nHost: localhost\r\n"
    malformed = (b"GET /a/../b HTTP/1.1\r\nHost: localhost\r\n\r\n", b"BREW" + head + b"\r\n", b"GET /" + b"a" * 20000 + head[2:] + b"\r\n",
                 b"POST" + head + b"Content-Length: 1\r\nExpect: wonders\r\n\r\n", b"GET http://example.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"POST" + head + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n")
    return {"%s %s" % row for row in re.findall(r'\{(\d+), "(\w+)"\}', table)} | {"%d %s" % raw_answer(m) for m in malformed}


def code_faults(text):
    return differ("error code", man_page.listed(man_page.section(text, "ERROR CODES"), "Cm"), codes())


@functools.lru_cache(maxsize=None)
def headers():
    """Those that the description names, and those that the sources write or look for."""
    components = json.loads(G.request("GET", "/gateway/v1/openapi.json").body)
    text = json.dumps(components["paths"])
    found = {p["name"] for p in components["components"]["parameters"].values() if p["in"] == "header"}
    found |= {name for name in re.findall(r'"headers": \{("[^}]*)\}', text) for name in re.findall(r'"([A-Z][\w-]+)": \{"\$ref', "{" + name)}
    for name in re.findall(r'STR\("([Ss]tacygate-[A-Za-z]+)"\)', sources("gateway")):
        found.add("-".join(word.capitalize() for word in name.split("-")))
    return found | HEADERS


def header_faults(text):
    return differ("header", man_page.listed(man_page.section(text, "HEADERS"), "Cm"), headers())


def names_of_metrics(text):
    """Families of Prometheus text; a sample that belongs to none is a name of its own."""
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    found = set(families)
    for name in re.findall(r"^([a-zA-Z_:][\w:]*)[ {]", text, re.M):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        found.add(family if family in families else name)
    return found


def metric_names():
    answer = G.request("GET", "/gateway/v1/metrics")
    if answer.status == 404 and b"there is no such route" in answer.body:
        return None
    assert answer.status == 200, answer.body
    return names_of_metrics(answer.body.decode())


def metric_faults(text):
    documented, real = man_page.listed(man_page.section(text, "METRICS"), "Cm"), metric_names()
    return differ("metric", documented, real) if real is not None else ["a metric is documented, and none is served"] if documented else []


def signal_faults(text):
    real = re.search(r"numbers\[SIGNALS\] = \{(.*?)\}", sources("gateway")).group(1).split(", ")
    return differ("signal", man_page.listed(man_page.section(text, "SIGNALS"), "Dv"), real)


def variables(*folders):
    return set(re.findall(r'(?:getenv|dir_from)\("(\w+)"\)', sources(*folders)))


def daemon_variable_faults(text):
    text = man_page.section(text, "ENVIRONMENT")
    return differ("variable", man_page.listed(text, "Ev"), variables("gateway", "common"))


def client_variable_faults(text):
    return differ("variable", man_page.listed(man_page.section(text, "ENVIRONMENT"), "Ev"), variables("cli"))


# --- the tests ----------------------------------------------------------------------------------------------------------------

# What is compared, by page; and changes of the page that must be found.
CHECKS = (
    (key_faults, "stacygate.yaml.5", ((".It Cm bounds.body Ar size", ".It Cm bounds.boddy Ar size"), (".It Cm listen[].mode Ar permissions\n", ".br\n"),
                                      (".It Cm bounds ", ".It Cm bounds.new Ar number\nx\n.It Cm bounds "), ("Range: 10ms to 1h.", "Range: 10ms to 2h."),
                                      ("Range: 64KiB to 16GiB.", ""), ("Default: 125s.", "Default: 120s."), ("Default: 1GiB.\n", ""),
                                      ("Default: 0600.", "Default: 0660."), (".Cm text\nor\n.Cm json :", ".Cm json :"), (".Cm off , stderr , journal\n", ".Cm off , stderr\n"),
                                      (" , Cm credentials.NAME.admin_api_key.env", ""))),
    (class_faults, "stacygate.yaml.5", ((".It Cm workers\n", ".It Cm worker\n"), (".It Cm quotas\n", ""))),
    (placeholder_faults, "stacygate.yaml.5", ((".It Li {exe}\n", ".It Li {exec}\n"), (".It Li {unit}\n", ""))),
    (daemon_option_faults, "stacygated.8", ((".It Fl T\n", ""), (".It Fl c Ar file", ".It Fl c"), (".Op Fl tTvVh", ".Op Fl tTvVhx"), (".It Fl V\n", ".It Fl x\n"))),
    (client_option_faults, "stacygate.1", ((".Op Fl -lines Ar n\n", ""), (".Op Fl -lines Ar n\n", ".Op Fl -lines\n"), (".Ss prune\n", ".Ss purge\n"),
                                           (".It Fl -workdir Ar dir\n", ""), (".It Fl -json\n", ".It Fl -yaml\n"), ("Cm get\n", "Cm got\n"),
                                           (".Op Fl -json\n.Op Fl -help\n.Ar id : Ns Ar path local", ".Op Fl -help\n.Ar id : Ns Ar path local"),
                                           (".It Fl V , -version\n", ""))),
    (route_faults, "stacygated.8", ((".It Cm PUT /gateway/v1/leases/{id}\n", ""), (".It Cm GET /gateway/v1/metrics\n", ""), ("GET /gateway/v1/ready", "GET /gateway/v1/readyz"))),
    (code_faults, "stacygated.8", ((".It Cm 409 CONFLICT\n", ""), (".It Cm 417 BAD_REQUEST\n", ""), ("504 UPSTREAM_TIMEOUT", "504 TIMEOUT"))),
    (header_faults, "stacygated.8", ((".It Cm Age\n", ""), (".It Cm Stacygate-Lease\n", ".It Cm Stacygate-Leash\n"), (".It Cm Stacygate-Undestroyed\n", ""))),
    (signal_faults, "stacygated.8", ((".It Dv SIGUSR1\n", ".It Dv SIGUSR2\n"), (".It Dv SIGHUP\n", ""), (" , Dv SIGINT", ""))),
    (daemon_variable_faults, "stacygated.8", ((".It Ev STATE_DIRECTORY\n", ""), (".It Ev HOME\n", ".It Ev HOUSE\n"))),
    (client_variable_faults, "stacygate.1", ((".It Ev TMPDIR\n", ""), (".It Ev STACYGATE_SOCKET\n", ".It Ev SOCKET\n"))),
    (metric_faults, "stacygated.8", ((".Sh ROUTES\n", ".Sh METRICS\n.Bl -tag\n.It Cm stacygate_invented_total\nx\n.El\n.Sh ROUTES\n"),
                                      (".It Cm stacygate_uptime_seconds\n", ""), (".It Cm stacygate_leases\n", ".It Cm stacygate_lease\n"))),
)


def lint(path):
    if not shutil.which("mandoc"):
        raise sg.Skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_mandoc_has_nothing_to_say():
    for name in PAGES:
        assert lint(os.path.join(SRC, "man", name)) == "", name


def test_mandoc_would_say_something():
    path = os.path.join(WORK, "stacygated.8")
    with open(path, "w", encoding="utf-8") as f:
        f.write(page("stacygated.8").replace(".El\n", "", 1))
    assert lint(path) != ""


def test_every_page_is_there_and_installed():
    assert sorted(os.listdir(os.path.join(SRC, "man"))) == sorted([*PAGES, "man.inc"])
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-s", "-C", sg.BUILD, "install-man", "DESTDIR=" + WORK + "/root", "mandir=/man"], env=env, check=True, capture_output=True)
    for name in PAGES:
        assert os.path.exists(f"{WORK}/root/man/man{name[-1]}/{name}"), name


def test_pages_refer_to_each_other():
    for name in PAGES:
        for other in PAGES:
            stem, number = other.rsplit(".", 1)
            assert name == other or f".Xr {stem} {number}" in page(name), (name, other)


def test_examples_of_the_configuration_are_accepted():
    blocks = man_page.literals(page("stacygate.yaml.5"))
    assert len(blocks) == 12, len(blocks)
    for text in ("".join(blocks[:-1]), blocks[-1]):
        for name in ("team.key", "ca.pem", "client.pem", "client.key"):
            path = os.path.join(WORK, name)
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="ascii") as f:
                f.write("-----BEGIN CERTIFICATE-----\n" if name == "ca.pem" else "a-key\n")
            text = text.replace("/etc/stacygate/" + name, path)
        text = text.replace("user: stacygate\n", "")  # whom this machine need not have
        text = text.replace("/usr/local/bin/team-key", "/bin/echo").replace("{ systemd: admin-key }", "{ file: " + WORK + "/team.key }")
        path = os.path.join(WORK, "example.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        done = man_config.stacygated(WORK, "-t", "-c", path)
        assert done.returncode == 0, done.stderr


def test_metrics_are_documented():
    if metric_names() is None:
        raise sg.Skip("GET /gateway/v1/metrics is not served by this build: NO METRIC WAS COMPARED")
    faults = metric_faults(page("stacygated.8"))
    assert not faults, "\n".join(faults)


def test_names_of_metrics_are_read():
    text = ("# HELP stacygate_a_total x\n# TYPE stacygate_a_total counter\nstacygate_a_total{rule=\"x y\"} 1\n# TYPE stacygate_b_seconds histogram\n"
            "stacygate_b_seconds_bucket{le=\"+Inf\"} 1\nstacygate_b_seconds_sum 1\nstacygate_b_seconds_count 1\nstacygate_c 1\n# TYPE stacygate_d gauge\n")
    assert names_of_metrics(text) == {"stacygate_a_total", "stacygate_b_seconds", "stacygate_c", "stacygate_d"}


def make_tests():
    """A test for each comparison, and one that it finds what is wrong."""
    def of(check, name, changes):
        def agrees():
            faults = check(page(name))
            assert not faults, "\n".join(faults)

        def finds():
            for old, new in changes:
                assert old in page(name), old
                faults = set(check(page(name).replace(old, new, 1))) - set(check(page(name)))
                assert faults, "not found: %r for %r" % (new, old)
        return agrees, finds

    found = {}
    for check, name, changes in CHECKS:
        what = check.__name__.removesuffix("_faults")
        agrees, finds = of(check, name, changes)
        if check is not metric_faults:
            found[f"test_{what}_is_as_documented"] = agrees
        found[f"test_{what}_that_is_wrong_is_found"] = finds
    return found


def main():
    global G, WORK
    with tempfile.TemporaryDirectory(prefix="man.") as WORK:
        with open(os.open(WORK + "/gateway.key", os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write("a-key\n")
        G = sg.Gateway(json.dumps({"upstreams": {"nobody": {"url": f"unix://{WORK}/nobody.sock"}},
                                   "credentials": {"team": {"api_key": {"file": WORK + "/gateway.key"}}},
                                   "clients": [{"name": "me", "match": {"uid": os.getuid()}, "upstream": "nobody", "credential": "team",
                                                "user_id": "me", "admin": True}]}))
        try:
            G.start()
            status = sg.main({**globals(), **make_tests()})
            G.stop()
        finally:
            G.remove()
    return status


if __name__ == "__main__":
    sys.exit(main())
