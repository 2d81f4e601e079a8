# SPDX-License-Identifier: Apache-2.0
"""Holds real requests and answers to the description that the gateway serves, and the description to its own rules.

    api = openapi_check.Checker(lambda method, target, body, headers: sg.request(path, method, target, body, headers))
    answer = api.ask("POST", "/api/v1/sandboxes", {"image": "node:20"})

raises AssertionError when the operation, a parameter, a field of the body, the status, a header of ours, the content type or
anything in the answer is not as described. A key that no schema names is a fault, in requests and in answers."""
import copy
import json
import re
import urllib.parse

import sg

try:
    import jsonschema
except ImportError:
    sg.skip("this Python has no jsonschema (Debian: python3-jsonschema)")

METHODS = ("get", "put", "post", "delete", "patch")
# Headers that an answer has only where they are described.
OUR_HEADERS = ("x-request-id", "cache-status", "age", "retry-after", "stacygate-")
# Headers of a request that are parameters; all others are HTTP's own.
OUR_PARAMETERS = ("cache-control", "idempotency-key", "stacygate-")
NO_ROUTE = "there is no such route below /gateway/v1"


def closed(schema):
    """The schema, where an object that says what keys it has may have no others, unless it says that too."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) for key, value in schema.items()}
    if isinstance(out.get("properties"), dict) and "object" in str(out.get("type")):
        out.setdefault("additionalProperties", False)
    return out


def segments(path):
    return path.split("?", 1)[0].rstrip("/").split("/")


def fits(template, path):
    have, want = segments(path), segments(template)
    return len(have) == len(want) and all(w.startswith("{") and h or w == h for h, w in zip(have, want))


class Document:
    def __init__(self, text):
        self.doc = json.loads(text, object_pairs_hook=no_duplicates)
        self.components = closed(copy.deepcopy(self.doc["components"]))
        self.operations = {(method.upper(), path): op for path, item in self.doc["paths"].items()
                           for method, op in item.items() if method in METHODS}

    def resolve(self, thing):
        while isinstance(thing, dict) and "$ref" in thing:
            name = thing["$ref"]
            thing = self.doc
            for word in name[2:].split("/"):
                thing = thing[word]
        return thing

    def find(self, method, target):
        """The path of the operation that such a request is; a literal segment counts before a parameter."""
        found = [path for m, path in self.operations if m == method and fits(path, target)]
        assert found, f"{method} {target}: no such operation is described"
        return min(found, key=lambda path: [s.startswith("{") for s in segments(path)])

    def parameters(self, method, path):
        """All of an operation's, as (in, lower-case name) -> parameter."""
        item = self.doc["paths"][path]
        both = [self.resolve(p) for p in item.get("parameters", []) + self.operations[method, path].get("parameters", [])]
        return {(p["in"], p["name"].lower() if p["in"] == "header" else p["name"]): p for p in both}

    def validate(self, schema, value, what):
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": self.components, "allOf": [closed(schema)]}
        fault = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(whole).iter_errors(value))
        assert not fault, f"{what}: at {list(fault.absolute_path)}: {fault.message}"

    # --- requests -----------------------------------------------------------------------------------------------------

    def check_request(self, method, target, body=None, headers=None):
        path = self.find(method, target)
        what = f"{method} {path}"
        known = self.parameters(method, path)
        query = dict(urllib.parse.parse_qsl(target.partition("?")[2], keep_blank_values=True))
        given = {("query", name): value for name, value in query.items()}
        given.update((("header", name.lower()), value) for name, value in (headers or {}).items() if name.lower().startswith(OUR_PARAMETERS))
        for key, value in given.items():
            assert key in known, f"{what}: the parameter {key} is not described"
            self.validate(known[key]["schema"], value, f"{what}: {key}")
        for key, p in known.items():
            assert key in given or key[0] == "path" or not p.get("required"), f"{what}: {key} is missing"
        described = self.operations[method, path].get("requestBody")
        if body is None:
            assert not described or not described.get("required"), f"{what}: a body is required"
        else:
            assert described, f"{what}: no body is described"
            self.validate(described["content"]["application/json"]["schema"], body, f"{what}: request body")

    # --- answers ------------------------------------------------------------------------------------------------------

    def check_answer(self, method, target, status, headers, body):
        """`headers`: anything with items(); `body`: bytes. The Content-Type decides which schema holds."""
        path = self.find(method, target)
        what = f"{method} {path}: {status}"
        responses = self.operations[method, path]["responses"]
        assert str(status) in responses, f"{what} is not described: {body[:500]!r}"
        response = self.resolve(responses[str(status)])
        headers = {name.lower(): value for name, value in headers.items()}
        self.check_headers(what, response.get("headers", {}), headers)
        kind = headers.get("content-type", "").partition(";")[0].strip()
        content = response.get("content")
        if not content:
            assert not body, f"{what}: no body is described: {body[:500]!r}"
            return
        assert kind in content, f"{what}: {kind or 'no content type'} is not described: {body[:500]!r}"
        schema = content[kind]["schema"]
        for value in values_of(kind, body):
            self.validate(schema, value, f"{what}: {kind}")

    def check_headers(self, what, described, headers):
        described = {name.lower(): self.resolve(h) for name, h in described.items()}
        for name, value in headers.items():
            if name.startswith(OUR_HEADERS):
                assert name in described, f"{what}: the header {name} is not described"
                self.validate(described[name]["schema"], value, f"{what}: {name}")

    # --- the description itself ------------------------------------------------------------------------------------------

    def faults(self):
        """What is wrong with the description, one text each."""
        out = [f"{list(e.absolute_path)}: {e.message}" for e in jsonschema.Draft202012Validator(STRUCTURE).iter_errors(self.doc)]
        used = set(references(self.doc))
        have = {f"#/components/{kind}/{name}" for kind, all_ in self.doc["components"].items() for name in all_}
        out += [f"{ref} does not exist" for ref in used - have] + [f"{ref} is not used" for ref in have - used]
        ids = [op.get("operationId") for op in self.operations.values()]
        out += [f"operationId {i} is not unique" for i in set(ids) if ids.count(i) > 1]
        tags = {t["name"] for t in self.doc["tags"]}
        for (method, path), op in self.operations.items():
            out += [f"{method} {path}: tag {t} is not declared" for t in op["tags"] if t not in tags]
            if not used - have:
                declared = {name for where, name in self.parameters(method, path) if where == "path"}
                if declared != set(re.findall(r"{(\w+)}", path)):
                    out.append(f"{method} {path}: path parameters {sorted(declared)}")
            out += [f"{method} {path}: no success is described"] if not any(s[0] in "12" for s in op["responses"]) else []
        return out + [f"{where}: {fault}" for where, schema in schemas(self.doc) for fault in schema_faults(schema)]


def values_of(kind, body):
    """The values of a body that its schema is about."""
    if kind == "application/json":
        return [json.loads(body)]
    if kind == "application/x-ndjson":
        assert not body or body.endswith(b"\n"), body[-200:]
        return [json.loads(line) for line in body.split(b"\n") if line.strip()]
    if kind == "text/event-stream":
        return [json.loads(line[5:]) for line in body.split(b"\n") if line.startswith(b"data:")]
    if kind.startswith("text/"):
        return [body.decode()]
    return []  # bytes of any kind


def no_duplicates(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key is given twice among {keys}"
    return dict(pairs)


def references(thing):
    if isinstance(thing, dict):
        for key, value in thing.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            yield from references(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from references(value)


def schemas(doc):
    """Every schema that stands in the document by itself, with the place where."""
    def walk(thing, where):
        if isinstance(thing, dict):
            for key, value in thing.items():
                if key == "schema":
                    yield where, value
                elif key != "schemas":
                    yield from walk(value, f"{where}/{key}")
        elif isinstance(thing, list):
            for i, value in enumerate(thing):
                yield from walk(value, f"{where}/{i}")
    yield from ((f"schemas/{name}", s) for name, s in doc["components"]["schemas"].items())
    yield from walk(doc, "")


def schema_faults(schema):
    """What the meta-schema says, and keywords that JSON Schema does not have, which it would take for annotations."""
    for e in jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA).iter_errors(schema):
        yield e.message
    yield from unknown_keywords(schema)


KEYWORDS = {"$ref", "type", "description", "examples", "pattern", "enum", "const", "minimum", "maximum", "items", "required", "properties",
            "additionalProperties", "anyOf"}


def unknown_keywords(schema):
    if not isinstance(schema, dict):
        return
    yield from (f"unknown keyword {k}" for k in schema if k not in KEYWORDS)
    yield from (f"{k} is required and not a property" for k in schema.get("required", []) if k not in schema.get("properties", {}))
    for s in (*schema.get("properties", {}).values(), *schema.get("anyOf", []), schema.get("items"), schema.get("additionalProperties")):
        yield from unknown_keywords(s)


def shape(required, /, **properties):
    """An object with these keys and no others."""
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


def either(name):
    """That, or a reference to a component of its kind."""
    place = {"parameter": "parameters", "response": "responses", "header": "headers"}[name]
    reference = shape("$ref", **{"$ref": {"type": "string", "pattern": f"^#/components/{place}/[A-Za-z0-9._-]+$"}})
    return {"if": {"required": ["$ref"]}, "then": reference, "else": {"$ref": f"#/$defs/{name}"}}


def map_of(schema, names=None):
    return {"type": "object", "additionalProperties": schema, **({"propertyNames": {"pattern": names}} if names else {})}


TEXT = {"type": "string", "minLength": 1}
SCHEMA = {"type": ["object", "boolean"]}
NAME = "^[A-Za-z0-9._-]+$"
# The part of OpenAPI 3.1 that the description uses; a key of no meaning there is a fault.
STRUCTURE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$ref": "#/$defs/document",
    "$defs": {
        "document": shape("openapi info servers security tags paths components", openapi={"pattern": r"^3\.1\.\d+$"},
                          info=shape("title version description license", title=TEXT, version={"type": "string", "pattern": r"^\d[0-9A-Za-z.+-]*$"},
                                     description=TEXT, license=shape("name identifier", name=TEXT, identifier=TEXT)),
                          servers={"type": "array", "minItems": 1, "items": shape("url", url=TEXT, description=TEXT)},
                          security={"type": "array"}, tags={"type": "array", "items": shape("name description", name=TEXT, description=TEXT)},
                          paths=map_of({"$ref": "#/$defs/item"}, "^/"),
                          components=shape("", parameters=map_of({"$ref": "#/$defs/parameter"}, NAME), headers=map_of({"$ref": "#/$defs/header"}, NAME),
                                           responses=map_of({"$ref": "#/$defs/response"}, NAME), schemas=map_of(SCHEMA, NAME))),
        "item": shape("", parameters={"type": "array", "items": either("parameter")}, **{m: {"$ref": "#/$defs/operation"} for m in METHODS}),
        "operation": shape("operationId summary tags responses x-stacygate-class", operationId={"type": "string", "pattern": "^[a-z][A-Za-z]+$"},
                           summary=TEXT, description=TEXT, tags={"type": "array", "minItems": 1, "items": TEXT},
                           parameters={"type": "array", "items": either("parameter")},
                           requestBody=shape("content", required={"type": "boolean"}, content=map_of({"$ref": "#/$defs/media"})),
                           responses=map_of(either("response"), "^[1-5][0-9][0-9]$"), **{"x-stacygate-class": TEXT}),
        "parameter": {**shape("name in schema", name=TEXT, required={"type": "boolean"}, description=TEXT, schema=SCHEMA, **{"in": {"enum": ["path", "query", "header"]}}),
                      "if": {"properties": {"in": {"const": "path"}}}, "then": {"required": ["required"], "properties": {"required": {"const": True}}}},
        "response": shape("description", description=TEXT, headers=map_of(either("header")), content=map_of({"$ref": "#/$defs/media"})),
        "header": shape("schema", description=TEXT, schema=SCHEMA),
        "media": shape("schema", schema=SCHEMA),
    },
}


class Checker:
    """Asks as a client does and compares both sides with the description, which it reads first."""

    def __init__(self, request):
        """`request`: called with method, target, body, headers; returns an sg.Answer."""
        self.request = request
        answer = request("GET", "/gateway/v1/openapi.json", None, None)
        assert answer.status == 200, (answer.status, answer.body)
        self.document = Document(answer.body)
        self.document.check_answer("GET", "/gateway/v1/openapi.json", 200, answer.headers, answer.body)
        self.asked = {("GET", "/gateway/v1/openapi.json"): {200}}  # operation -> statuses it was seen to answer

    def ask(self, method, target, body=None, headers=None, status=None, sound=True):
        """One request; `status`: what it must be answered with; `sound=False`: it is meant to be wrong."""
        if sound:
            self.document.check_request(method, target, body, headers)
        answer = self.request(method, target, body, headers)
        self.note(method, target, answer)
        assert status is None or answer.status == status, (method, target, answer.status, answer.body[:500])
        return answer

    def note(self, method, target, answer):
        """The same for an answer that was got otherwise."""
        if answer.status == 404 and target.startswith("/gateway/") and NO_ROUTE.encode() in answer.body:
            raise AssertionError(f"{method} {target} is described and not served")
        self.document.check_answer(method, target, answer.status, answer.headers, answer.body)
        self.asked.setdefault((method, self.document.find(method, target)), set()).add(answer.status)
