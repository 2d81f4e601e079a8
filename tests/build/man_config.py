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
        put(tree, steps, "-")
        for line in faults_of(work, tree).splitlines():
            match = re.search(r': (\S+) is "-", expected (.*)$', line)
            if match and match.group(1) == steps[-1]:
                found[place] = match.group(2)
    return found


def defaults(work):
    """(section, key) -> value, of -T without a file."""
    found, section = {}, ""
    for line in stacygated(work, "-T").stdout.splitlines():
        match = re.match(r"^ *(?:- )?(\w+):(?: \{|$)", line)
        section = match.group(1) if match else section
        for key, value in re.findall(r"(\w+): ([^{},\s]+)(?=[,\s}]|$)", line):
            found[(section, key)] = value.strip('"')
    return found
