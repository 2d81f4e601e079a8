#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The files below conf/ and the README's are what they say: stacygated -t accepts them, the example's values are the defaults, it names
every key that the code reads, and its examples hold together when they are all switched on."""
import glob
import os
import pwd
import re
import subprocess
import sys
import tempfile

SRC = os.environ["SG_SRCDIR"]
BUILD = os.environ["SG_BUILDDIR"]
passed = failed = 0


def verdict(good, what, details=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAIL: %s\n%s" % (what, details))


def stacygated(work, *arguments, runtime="/run/stacygate"):
    env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    env.update(
        RUNTIME_DIRECTORY=runtime,
        STATE_DIRECTORY=work + "/state",
        XDG_CONFIG_HOME=work + "/config",
        STACYVM_API_KEY="a-key",
        CREDENTIALS_DIRECTORY=work + "/credentials",
    )
    return subprocess.run([BUILD + "/stacygated", *arguments], env=env, capture_output=True, text=True)


def adapted(work, text):
    """The file for this test: keys where it may make them, and its own uid."""

    def key_file(match):
        path = work + "/" + match.group(1)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write("-----BEGIN CERTIFICATE-----\n" if path.endswith(".pem") else "a-key\n")
        return "file: " + path

    os.makedirs(work + "/credentials", exist_ok=True)
    os.makedirs(work + "/conf.d", exist_ok=True)
    for name in re.findall(r"systemd: ([a-z-]+)", text):
        with open(work + "/credentials/" + name, "w", encoding="ascii") as f:
            f.write("a-key\n")
    text = text.replace("/usr/local/bin/team-key", "/bin/echo")
    text = re.sub(r"^(#?user: )\w+", r"\g<1>" + pwd.getpwuid(os.getuid()).pw_name, text, flags=re.M)
    text = re.sub(r"file: /etc/stacygate/([a-z.]+)", key_file, text)
    return text.replace("uid: 0 ", "uid: %d " % os.getuid())


def accepted(work, name, text):
    path = work + "/" + name
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    result = stacygated(work, "-t", "-c", path)
    verdict(result.returncode == 0, "stacygated -t refuses " + name, result.stdout + result.stderr)
    return path


def keys_of_the_code():
    source = "".join(open(f, encoding="utf-8").read() for f in sorted(glob.glob(SRC + "/daemon/gateway/config_*.c")))
    keys = set()
    for table in re.findall(r"static const struct reader_field fields\[\] = \{(.*?)\};", source, re.S):
        keys.update(re.findall(r'\{"([a-z_]+)", ', table))
        keys.update(re.findall(r"DURATION\(\w+,\s*(\w+),", table))
    return keys


def main():
    with tempfile.TemporaryDirectory(prefix="conf.") as work:
        example = adapted(work, open(SRC + "/conf/stacygate.yaml.example", encoding="utf-8").read())
        path = accepted(work, "example.yaml", example)

        plain = stacygated(work, "-T")
        shown = stacygated(work, "-T", "-c", path)
        # The name of the upstream is free, and the rule's form of its uids as well: -T writes both alike.
        verdict(
            plain.returncode == 0 and plain.stdout == shown.stdout,
            "the example is not what holds without a file",
            plain.stdout + "---\n" + shown.stdout + shown.stderr,
        )

        full = re.sub(r"^#(?=[^ \n]|  )", "", example, flags=re.M)
        verdict(full != example, "nothing is commented out in the example")
        accepted(work, "everything.yaml", full)

        keys = keys_of_the_code()
        verdict(len(keys) >= 60, "the tables of config_*.c were not found", str(sorted(keys)))
        for key in sorted(keys):
            verdict(re.search(r"\b%s:" % key, full), "the example lacks the key " + key)

        for file in sorted(glob.glob(SRC + "/conf/*.yaml")):
            accepted(work, os.path.basename(file), adapted(work, open(file, encoding="utf-8").read()))

        readme = open(SRC + "/README.md", encoding="utf-8").read()
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```$", readme, re.S | re.M)):
            accepted(work, "readme-%d.yaml" % number, adapted(work, block))

        broken = work + "/broken.yaml"
        with open(broken, "w", encoding="utf-8") as f:
            f.write(example.replace("drain_timeout", "drain_timeuot"))
        verdict(stacygated(work, "-t", "-c", broken).returncode == 1, "a wrong key passes, so nothing here was tested")
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
