#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the README's tour and its examples of what the SDK promises, and compares what comes out with what they show.

Every ```console block is typed into one shell, line by line ("$ " is a command, "> " continues it), while a gateway
with no configuration runs. Ids, times, durations and numbers of the machine may differ; nothing else may. Each promise has a number, and each number an example.

  readme.py            check
  readme.py --update   write what came out into the README
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

MARK = "@@@end of the output"
SRC = os.environ["SG_SRCDIR"]
BUILD = os.environ["SG_BUILDDIR"]

SECTION = "## Everything the SDK promises, with curl"
PROMISES = 22

# What differs from run to run or from machine to machine, in this order.
VARIES = [
    (r"sb-[0-9a-f]{8}", "sb-ID"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    (r"\b(\d+h)?(\d+m)?[0-9.]+(ns|µs|ms|s)\b", "DURATION"),
    (r"/tmp/[A-Za-z0-9._/-]*", "TEMPORARY"),
    (r"(\"?(?:uid|gid|pid)\"?[:=] ?)\d+", r"\1N"),
    (r"(\"?groups\"?[:=] ?).*?(\]|$)", r"\1LIST"),
    (r"(user_id\"?: ?\"?)[^\", ]+", r"\1NAME"),
    (r"\b(in|ago) \d+m", r"\1 DURATION"),
    (r"[^\s\",]+@[A-Za-z0-9.-]+", "OWNER"),
    (r"/proc/\d+", "/proc/N"),
    (r"v\d+\.\d+\.\d+", "VERSION"),
]


def normal(text):
    for pattern, name in VARIES:
        text = re.sub(pattern, name, text, flags=re.M)
    # Columns move with the width of what varies.
    return [re.sub(r"[ \t]+", " ", line).rstrip() for line in text.strip("\n").split("\n")]


def blocks(readme):
    """Yields (first line, last line) of the inside of each console block."""
    start = None
    for number, line in enumerate(readme):
        if start is None and line == "```console":
            start = number + 1
        elif start is not None and line == "```":
            yield start, number
            start = None


def steps(lines):
    """Splits a block into [command, shown output] pairs."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:], []])
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0] += "\n" + line[2:]
        elif found:
            found[-1][1].append(line)
    return found


def without_example(readme):
    """The numbers of the promises of which no example asks the gateway by curl."""
    shown = set()
    number = None
    inside = False
    console = {line for first, last in blocks(readme) for line in range(first, last)}
    for at, line in enumerate(readme):
        if line.startswith("## "):
            inside, number = line == SECTION, None
        title = re.match(r"\*\*(\d+)\. ", line)
        if inside and title:
            number = int(title.group(1))
        # `gate` is the section's word for curl at the socket.
        if number is not None and at in console and re.match(r"\$ .*\b(gate|curl) ", line):
            shown.add(number)
    return sorted(set(range(1, PROMISES + 1)) - shown)


def start_gateway(work):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "STACYGATE"))}
    env.update(
        PATH=BUILD + ":" + env["PATH"],
        RUNTIME_DIRECTORY=work + "/run",
        STATE_DIRECTORY=work + "/state",
        STACYGATE_SOCKET=work + "/run/stacygate.sock",
        XDG_CONFIG_HOME=work + "/config",
        HOME=work + "/home",
        LC_ALL="C.UTF-8",
    )
    for name in ("run", "state", "home"):
        os.mkdir(work + "/" + name, 0o700)
    log = open(work + "/gateway.log", "wb")
    gateway = subprocess.Popen([BUILD + "/stacygated"], env=env, stderr=log)
    deadline = time.monotonic() + 30
    while subprocess.run([BUILD + "/stacygate", "health"], env=env, capture_output=True).returncode != 0:
        if gateway.poll() is not None or time.monotonic() > deadline:
            gateway.kill()
            sys.exit("the gateway did not start:\n" + open(work + "/gateway.log", errors="replace").read())
        time.sleep(0.05)
    # A process that is given no namespaces by the machine can only say so.
    probe = subprocess.run([BUILD + "/stacygate", "run", "--", "true"], env=env, capture_output=True, text=True)
    if probe.returncode != 0 and "namespace" in probe.stderr:
        gateway.terminate()
        gateway.wait(timeout=40)
        print("skipped: " + probe.stderr.strip())
        sys.exit(77)
    return gateway, env


def run_all(commands, env, cwd):
    """Types every command into one shell; returns what each printed."""
    script = ""
    for command in commands:
        script += "%s\nsaved=$?; printf '\\n%s\\n'; (exit $saved)\n" % (command, MARK)
    shell = subprocess.run(
        ["sh"], input=script, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100
    )
    outputs = shell.stdout.split("\n" + MARK + "\n")
    if len(outputs) != len(commands) + 1:
        sys.exit("the shell ended early:\n" + shell.stdout)
    return [output.strip("\n") for output in outputs[:-1]]


def other_routes(readme):
    """Routes of the gateway itself that the table of them has and there are not, or the other way round."""
    begin = readme.index("The gateway's own routes:")
    table = [line for line in readme[begin + 2 : readme.index("", begin + 2)] if line.startswith("| `")]
    named = {route for line in table for route in re.findall(r"`([A-Z]+ /gateway/v1/\S*)`", line.split(" | ")[0])}
    with open(SRC + "/daemon/gateway/openapi.json", encoding="utf-8") as file:
        paths = json.load(file)["paths"]
    there = {f"{method.upper()} {path}" for path, item in paths.items() if path.startswith("/gateway/v1/") for method in item
             if method in ("get", "put", "post", "delete", "patch")}
    return sorted(named ^ there) if there else ["none"]


def main():
    path = SRC + "/README.md"
    readme = open(path, encoding="utf-8").read().split("\n")
    pieces = [(first, last, steps(readme[first:last])) for first, last in blocks(readme)]
    commands = [command for _, _, found in pieces for command, _ in found]
    work = tempfile.mkdtemp(prefix="readme.", dir=os.environ.get("TMPDIR", "/tmp"))
    cwd = work + "/home/here"
    try:
        gateway, env = start_gateway(work)
        os.mkdir(cwd)
        try:
            outputs = run_all(commands, env, cwd)
        finally:
            gateway.terminate()
            gateway.wait(timeout=40)
    finally:
        shutil.rmtree(work)
    if "--update" in sys.argv:
        index = len(outputs)
        for first, last, found in reversed(pieces):
            lines = []
            for (command, _), output in zip(found, outputs[index - len(found) : index]):
                lines += ["$ " + command.replace("\n", "\n> ")] + output.split("\n") * bool(output)
            index -= len(found)
            readme[first:last] = lines
        open(path, "w", encoding="utf-8").write("\n".join(readme))
        return 0
    passed = failed = 0
    shown = [text for _, _, found in pieces for _, text in found]
    for command, text, output in zip(commands, shown, outputs):
        expected, got = normal("\n".join(text)), normal(output)
        if expected == got:
            passed += 1
            continue
        failed += 1
        print("$ %s\n  shown: %s\n  came:  %s" % (command, "\n         ".join(expected), "\n         ".join(got)))
    for number in without_example(readme):
        failed += 1
        print("promise %d of the SDK has no example in the section \"%s\"" % (number, SECTION))
    for route in other_routes(readme):
        failed += 1
        print("only the README or only the gateway has the route %s" % route)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


sys.exit(main())
