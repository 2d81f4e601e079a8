# SPDX-License-Identifier: Apache-2.0
"""What the configuration's keys are, asked of stacygated -t itself: a key that it does not know is a fault that names those that it
knows, and a value that it does not take is a fault that names those that it takes. A place is written as in stacygate.yaml(5):
listen[].path, upstreams.NAME.pool.max_idle."""
import json
import os
import re
import subprocess

BUILD = os.environ["SG_BUILDDIR"]
UNKNOWN = re.compile(r'unknown key "probe-(\d+)", expected one of: (.*)$', re.M)


def stacygated(work, *arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "CREDENTIALS_"))}
    env.update(RUNTIME_DIRECTORY="/run/stacygate", STATE_DIRECTORY=work + "/state", XDG_CONFIG_HOME=work + "/config", HOME=work)
    return subprocess.run([BUILD + "/stacygated", *arguments], env=env, capture_output=True, text=True, check=False)


def faults_of(work, tree):
    path = work + "/probe.yaml"
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tree, f)  # YAML as well
    return stacygated(work, "-t", "-c", path).stderr


def put(tree, steps, value):
    """Sets what stands at the steps: a key, or [] for the only element of a list."""
    at = tree
    for n, step in enumerate(steps):
        last = n + 1 == len(steps)
        following = value if last else [] if steps[n + 1] == "[]" else {}
        if step == "[]":
            if not at or last:
                at.append(following)
            at = at[0]
        else:
            at = at.setdefault(step, following)


def text_of(steps):
    return ".".join(steps).replace(".[]", "[]")


def nested(work, leaves):
    """Which of the places are mappings, lists of mappings or mappings of names to mappings: steps to the mapping -> its keys."""
    found = {}
    for below in ((), ("[]",), ("NAME",)):
        tree = {}
        for n, steps in enumerate(leaves):
            put(tree, (*steps, *below), {"probe-%d" % n: 1})
        for n, keys in UNKNOWN.findall(faults_of(work, tree)):
            found[(*leaves[int(n)], *below)] = keys.split(", ")
    return found


def keys(work):
    """Every key, by its place -> its steps. A key of a mapping, and the mapping, are both keys."""
    (_, top), = UNKNOWN.findall(faults_of(work, {"probe-0": 1}))
    leaves, known = [(k,) for k in top.split(", ")], []
    while leaves:
        known += leaves
        leaves = [(*steps, k) for steps, inside in nested(work, leaves).items() for k in inside]
    return {text_of(steps): steps for steps in known}


def expectations(work, places):
    """Place -> what the daemon says that it expects there, when it gets nonsense. Not of every place: many take any text."""
    found = {}
    for place, steps in places.items():
        tree = {}
        if steps[-1] in ("ttl", "timeout") and (*steps[:-1], "command") in places.values():
            put(tree, (*steps[:-1], "command"), ["/bin/true"])  # without which they have no meaning
        put(tree, steps, "-")
        for line in faults_of(work, tree).splitlines():
            match = re.search(r': (\S+) is "-", expected (.*)$', line)
            if match and match.group(1) == steps[-1]:
                found[place] = match.group(2)
    return found


def value(text):
    """A duration in seconds, a size in bytes, a number, or the text itself."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    if not re.fullmatch(r"(\d+(ms|s|m|h|KiB|MiB|GiB))+", text):
        return int(text) if re.fullmatch(r"0|[1-9]\d*", text) else text
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h|KiB|MiB|GiB)", text))


def defaults(work):
    """Place -> value, of -T without a file, but for what it says of rules, which is of the rule that holds without one."""
    found, above = {}, []
    for line in stacygated(work, "-T").stdout.splitlines():
        match = re.match(r'^( *)(- )?("?)([\w.-]+)"?: ?(.*)$', line)
        depth, key, rest = len(match[1] + (match[2] or "")), "NAME" if match[3] else match[4], match[5]
        above = [(d, k) for d, k in above if d < depth]
        if match[2]:
            above.append((depth - 1, "[]"))
        place = text_of((*(k for _, k in above), key))
        if rest.startswith("{"):
            found.update((place + "." + k, v) for k, v in re.findall(r"(\w+): ([^{},\s]+)", rest))
        elif rest:
            found[place] = rest.strip('"')
        if not rest:
            above.append((depth, key))
    return {place: v for place, v in found.items() if not place.startswith("clients")}
