#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The schema for editors, conf/stacygate.schema.json: it admits every file that we give as an example and what stacygated -T prints, has
the keys and bounds that the code has and no other, and refuses what stacygated refuses."""
import glob
import json
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conf  # noqa: E402

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print("SKIP: this Python has no %s (Debian: python3-jsonschema, python3-yaml)" % missing.name)
    sys.exit(77)


class Core(yaml.SafeLoader):
    """YAML as editors read it: of the words for yes and no only true and false are no text."""


Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Core.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))

SCHEMA = json.load(open(conf.SRC + "/conf/stacygate.schema.json", encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# Each is refused by both; the place is where the schema must see it.
BAD = {
    "no_such_key: 1": [],
    "drain_timeout: soon": ["drain_timeout"],
    "drain_timeout: 5": ["drain_timeout"],
    "drain_timeout: [5s]": ["drain_timeout"],
    "host: a b": ["host"],
    "listen: []": ["listen"],
    "listen: [{ path: x }]": ["listen", 0, "path"],
    "listen: [{ path: /x, tcp: '127.0.0.1:1' }]": ["listen", 0],
    "listen: [{ path: /x, hosts: [a] }]": ["listen", 0],
    "listen: [{ tcp: '127.0.0.1:1', mode: '0600' }]": ["listen", 0],
    "listen: [{ tcp: '0.0.0.0:1' }]": ["listen", 0, "tcp"],
    "listen: [{ path: /x, mode: '0999' }]": ["listen", 0, "mode"],
    "listen: [{ tcp: '127.0.0.1:1', origins: ['http://a/b'] }]": ["listen", 0, "origins", 0],
    "upstreams: { local: { url: ftp://x } }": ["upstreams", "local", "url"],
    "upstreams: { local: { pool: {} } }": ["upstreams", "local"],
    "upstreams: { local: { url: local, pool: { max_connections: 0 } } }": ["upstreams", "local", "pool", "max_connections"],
    "upstreams: { local: { url: local, shared_vm: maybe } }": ["upstreams", "local", "shared_vm"],
    "credentials: { k: {} }": ["credentials", "k"],
    "credentials: { k: { api_key: { file: /a, env: B } } }": ["credentials", "k", "api_key"],
    "credentials: { k: { api_key: { file: /a, ttl: 1m } } }": ["credentials", "k", "api_key"],
    "credentials: { k: { api_key: { command: [cat] } } }": ["credentials", "k", "api_key", "command", 0],
    "clients: [{ match: {} }]": ["clients", 0],
    "clients: [{ name: a }]": ["clients", 0],
    "clients: [{ name: a, match: { user: root, uid: 0 } }]": ["clients", 0, "match"],
    "clients: [{ name: a, match: { uid: root } }]": ["clients", 0, "match", "uid"],
    "clients: [{ name: a, match: { unit: a.timer } }]": ["clients", 0, "match", "unit"],
    "clients: [{ name: a, match: {}, user_id: '{nobody}' }]": ["clients", 0, "user_id"],
    "clients: [{ name: a, match: {}, user_id: 'a/b' }]": ["clients", 0, "user_id"],
    "clients: [{ name: a, match: {}, isolation: some }]": ["clients", 0, "isolation"],
    "clients: [{ name: a, match: {}, admin: yes }]": ["clients", 0, "admin"],
    "clients: [{ name: a, match: {}, allow: [all, run] }]": ["clients", 0, "allow"],
    "clients: [{ name: a, match: {}, allow: [sandbox] }]": ["clients", 0, "allow", 0],
    "clients: [{ name: a, match: {}, deny: ['HEAD /api/v1/health'] }]": ["clients", 0, "deny", 0],
    "clients: [{ name: a, match: {}, limits: { sandboxes: 0 } }]": ["clients", 0, "limits", "sandboxes"],
    "clients: [{ name: a, match: {}, limits: { images: [a, a] } }]": ["clients", 0, "limits", "images"],
    "clients: [{ name: a, match: {}, spawn_defaults: { metadata: { stacygate.owner: x } } }]": ["clients", 0, "spawn_defaults", "metadata"],
    "cache: { max_bytes: 1MB }": ["cache", "max_bytes"],
    "log: { level: loud }": ["log", "level"],
    "log: { access: a.log }": ["log", "access"],
    "preview: { url: localhost }": ["preview", "url"],
    "tracing: { sample: 0.5 }": ["tracing"],
    "tracing: { endpoint: 'http://127.0.0.1:4318' }": ["tracing", "endpoint"],
    "tracing: { endpoint: 'http://127.0.0.1:4318/v1/traces', sample: 1.5 }": ["tracing", "sample"],
    "leases: { ttl: true }": ["leases", "ttl"],
    "bounds: { connections: many }": ["bounds", "connections"],
}


def faults(text):
    return list(VALIDATOR.iter_errors(yaml.load(text, Core)))


def admitted(what, text):
    found = faults(text)
    conf.verdict(not found, "the schema refuses " + what, "\n".join("%s: %s" % (list(e.absolute_path), e.message) for e in found))


def objects(schema):
    """Each object of the schema that has keys of ours."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            yield schema["properties"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def tables():
    """The code's tables: {key: (min, max) as it is written, None for what is no number}."""
    for file in sorted(glob.glob(conf.SRC + "/daemon/gateway/config_*.c")):
        source = open(file, encoding="utf-8").read()
        numbers = {name: int(value) for name, value in re.findall(r"^\t(\w+) = (\d+),?$", source, re.M)}
        for table in re.findall(r"static const struct reader_field fields\[\] = \{(.*?)\};", source, re.S):
            keys = dict.fromkeys(re.findall(r'\{"([a-z_]+)", ', table) + re.findall(r"DURATION\(\w+,\s*(\w+),", table))
            for key, low, high in re.findall(r'\{"([a-z_]+)", reader_uint, .*?\), (\w+), (\w+)\}', table, re.S):
                keys[key] = tuple(numbers[n] if n in numbers else int(n) for n in (low, high))
            yield keys


def of_schema(properties):
    return {key: (value["minimum"], value["maximum"]) if value.get("type") == "integer" else None for key, value in properties.items()}


def compare():
    def text(table):
        return json.dumps(table, sort_keys=True)

    code = {text({k: list(v) if v else None for k, v in t.items()}) for t in tables()}
    ours = {text(of_schema(o)) for o in objects(SCHEMA)}
    conf.verdict(len(code) >= 15, "the tables of config_*.c were not found", str(len(code)))
    conf.verdict(code == ours, "schema and code differ", "code only:\n%s\nschema only:\n%s" % ("\n".join(code - ours), "\n".join(ours - code)))


def main():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    compare()
    with tempfile.TemporaryDirectory(prefix="schema.") as work:
        files = sorted(glob.glob(conf.SRC + "/conf/*.yaml") + glob.glob(conf.SRC + "/conf/*.yaml.example"))
        conf.verdict(len(files) >= 6, "the examples were not found")
        for file in files:
            admitted(os.path.basename(file), open(file, encoding="utf-8").read())
        example = conf.adapted(work, open(conf.SRC + "/conf/stacygate.yaml.example", encoding="utf-8").read())
        full = re.sub(r"^#(?=[^ \n]|  )", "", example, flags=re.M)
        admitted("the example with everything on", full)
        path = conf.accepted(work, "everything.yaml", full)
        for words in (("-T",), ("-T", "-c", path)):
            shown = conf.stacygated(work, *words).stdout
            conf.verdict("\nclients:" in shown, "-T shows nothing", shown)
            admitted("what stacygated %s prints" % " ".join(words), shown)
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```$", open(conf.SRC + "/README.md", encoding="utf-8").read(), re.S | re.M)):
            admitted("readme-%d" % number, block)
        admitted("a file of comments", "# nothing\n")

        bad = work + "/bad.yaml"
        for text, place in BAD.items():
            with open(bad, "w", encoding="utf-8") as f:
                f.write(text + "\n")
            refused = conf.stacygated(work, "-t", "-c", bad)
            conf.verdict(refused.returncode == 1, "stacygated admits " + text, refused.stderr)
            places = [list(e.absolute_path) for e in faults(text)]
            conf.verdict(place in places, "the schema does not refuse " + text, str(places))
    print("%d passed, %d failed" % (conf.passed, conf.failed))
    return 1 if conf.failed else 0


if __name__ == "__main__":
    sys.exit(main())
