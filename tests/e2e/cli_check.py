# SPDX-License-Identifier: Apache-2.0
"""stacygate check: what stacygated -t says of a configuration, word for word, without a gateway."""
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

GOOD = "drain_timeout: 5s\n"
BAD = "drain_timeout: soon\nlistne: []\n"
# A user of its own name for all: -t warns that equal owners are one owner.
WARNED = """listen: [{ path: /run/stacygate/s, mode: "0666" }]
clients: [{ name: all, match: { listener: /run/stacygate/s }, user_id: everybody }]
"""


class Scene:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sg-check.", dir="/tmp")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "STACYGATE_"))}
        self.env.update(RUNTIME_DIRECTORY=self.dir, STATE_DIRECTORY=self.dir + "/state")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def run(self, program, *words):
        return subprocess.run([program, *words], capture_output=True, text=True, env=self.env, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)

    def check(self, *words):
        done = self.run(sg.program("stacygate"), "check", *words)
        sg.check_clean(done.stderr, "stacygate")
        return done


def test_it_says_what_the_daemon_says_and_ends_as_it_does():
    with Scene() as s:
        for name, text, status in (("good.yaml", GOOD, 0), ("bad.yaml", BAD, 1), ("warned.yaml", WARNED, 0), ("-x", GOOD, 0)):
            path = s.write(name, text)
            asked = s.run(sg.program("stacygated"), "-t", "-c", path)
            done = s.check(path)
            assert (done.returncode, done.stdout, done.stderr) == (status, asked.stdout, asked.stderr), (name, done, asked)
        assert "bad.yaml:1:16: " in s.check(s.dir + "/bad.yaml").stderr
        assert s.check(s.dir + "/none.yaml").returncode == 1


def test_json_has_each_fault_and_warning_once():
    with Scene() as s:
        assert json.loads(s.check("--json", s.write("good.yaml", GOOD)).stdout) == {"ok": True, "faults": [], "warnings": []}

        path = s.write("bad.yaml", BAD)
        done = s.check("--json", path)
        report = json.loads(done.stdout)
        assert (done.returncode, done.stderr, report["ok"], report["warnings"]) == (1, "", False, []), done
        assert [f.split(": ")[0] for f in report["faults"]] == [path + ":1:16", path + ":2:1"], report

        path = s.write("warned.yaml", WARNED)
        done = s.check("--json", path)
        report = json.loads(done.stdout)
        assert (done.returncode, report["ok"], report["faults"]) == (0, True, []), done
        assert report["warnings"] and all(w.startswith(path + ": warning: ") for w in report["warnings"]), report


def test_the_client_takes_no_other_daemon_from_the_path():
    """A stacygated that comes first on PATH is never asked; where there is none beside the client the installed one is."""
    with Scene() as s:
        other = s.write("stacygated", "#!/bin/sh\ntouch %s/ASKED\n" % s.dir)
        os.chmod(other, 0o755)
        s.env["PATH"] = s.dir + ":" + os.environ["PATH"]
        assert s.check(s.write("bad.yaml", BAD)).returncode == 1
        assert not os.path.exists(s.dir + "/ASKED")

        os.unlink(other)
        copy = shutil.copy(sg.program("stacygate"), s.dir + "/stacygate")
        done = s.run(copy, "check", "--json", s.write("good.yaml", GOOD))
        if done.returncode == 0:  # it is installed here
            assert json.loads(done.stdout)["ok"], done
        else:
            assert done.returncode == 1 and "sbin/stacygated" in done.stderr, done


def test_wrong_usage():
    with Scene() as s:
        for words in ((), ("a", "b"), ("--lines", "3", "a")):
            done = s.check(*words)
            assert done.returncode == 2 and "check" in done.stderr, done


def test_a_daemon_that_is_killed_is_an_error():
    with Scene() as s:
        copy = shutil.copy(sg.program("stacygate"), s.dir + "/stacygate")
        daemon = s.write("stacygated", "#!/bin/sh\necho 'half a line' >&2\nkill -9 $$\n")
        os.chmod(daemon, stat.S_IRWXU)
        done = s.run(copy, "check", "--json", s.write("good.yaml", GOOD))
        assert done.returncode == 1 and done.stdout == "" and "signal 9" in done.stderr, done


if __name__ == "__main__":
    sys.exit(sg.main(dict(globals())))
