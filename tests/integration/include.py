# SPDX-License-Identifier: Apache-2.0
"""include: a directory of fragments is part of the configuration: lists go on, names are added, what is given twice is a fault that names
both places, every fault names its own file, and a reload reads them anew."""
import os
import signal
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import sg  # noqa: E402

MAIN = """include: parts.d
upstreams:
  main: { url: "unix:///run/none.sock" }
credentials:
  team: { api_key: { file: %(dir)s/key } }
listen:
  - { path: %(dir)s/main.sock, name: main }
clients:
  - { name: main, match: { listener: main }, upstream: main, credential: team, user_id: main }
"""
FRAGMENT = """listen:
  - { path: %(dir)s/%(name)s.sock, name: %(name)s }
upstreams:
  %(name)s: { url: "unix:///run/%(name)s.sock" }
credentials:
  %(name)s: { api_key: { file: %(dir)s/key } }
clients:
  - { name: %(name)s, match: { listener: %(name)s }, upstream: %(name)s, credential: %(name)s, user_id: %(name)s }
"""


class Scene:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sg-inc.", dir="/tmp")
        os.mkdir(self.dir + "/parts.d")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "STACYGATE_", "CREDENTIALS_"))}
        self.env.update(RUNTIME_DIRECTORY=self.dir + "/run", STATE_DIRECTORY=self.dir + "/state")
        os.mkdir(self.dir + "/run", mode=0o700)
        os.mkdir(self.dir + "/state", mode=0o700)
        self.write("key", "a-key\n")
        self.main = self.write("main.yaml", MAIN)
        self.daemon = None
        return self

    def __exit__(self, *_):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        shutil.rmtree(self.dir)

    def write(self, file, text, **values):
        path = os.path.join(self.dir, file)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
            f.write(text % {"dir": self.dir, **values} if "%(" in text else text)
        return path

    def fragment(self, name):
        return self.write("parts.d/" + name + ".yaml", FRAGMENT, name=name)

    def run(self, *words):
        # Elsewhere: what is relative is so to the file.
        done = subprocess.run([sg.program("stacygated"), *words, "-c", self.main], capture_output=True, text=True, env=self.env, timeout=60,
                              check=False, cwd="/")
        sg.check_clean(done.stderr, "stacygated")
        return done

    def faults(self):
        done = self.run("-t")
        assert done.returncode == 1, done
        return done.stderr.splitlines()

    def good(self):
        done = self.run("-t")
        assert done.returncode == 0, done
        return self.run("-T").stdout


def test_fragments_are_part_of_the_whole_in_lexical_order():
    with Scene() as s:
        alone = s.good()
        for name in ("b", "a"):
            s.fragment(name)
        s.write("parts.d/c.yaml", "# nothing yet\n")
        s.write("parts.d/z.yaml", "drain_timeout: 7s\n")
        for name in (".hidden.yaml", "a.yaml~", "a.yml", "README"):
            s.write("parts.d/" + name, "not: [a configuration\n")
        shown = s.good()
        assert shown.index("/main.sock") < shown.index("/a.sock") < shown.index("/b.sock"), shown
        rules = [line.split('"')[1] for line in shown.splitlines() if "name: " in line and "match" not in line and ".sock" not in line]
        assert rules[-3:] == ["main", "a", "b"], shown
        assert "drain_timeout: 7s" in shown and "drain_timeout: 7s" not in alone and "include" not in shown

        # What -T prints means the same without the fragments.
        whole = s.write("whole.yaml", shown)
        s.main = whole
        assert s.good() == shown


def test_an_empty_directory_is_none_and_one_that_is_missing_is_a_fault():
    with Scene() as s:
        s.good()
        os.rmdir(s.dir + "/parts.d")
        assert s.faults() == [f"{s.main}:1:10: include: {s.dir}/parts.d cannot be opened: No such file or directory"]


def test_fragments_alone_make_a_configuration():
    with Scene() as s:
        os.unlink(s.main)
        s.write("main.yaml", "include: %(dir)s/parts.d\n")
        s.fragment("a")
        assert "/a.sock" in s.good()


def test_faults_name_the_fragment_and_the_place_in_it():
    with Scene() as s:
        path = s.fragment("a")
        for text, fault in {
            "\nfoo: 1\n": ':2:1: unknown key "foo"',
            "listen:\n  - { path: relative }\n": ':2:13: path is "relative", expected an absolute path',
            "clients:\n  - { name: x }\n": ":2:5: the rule has no match",
            "upstreams:\n  x: { url: local }\n": ':2:6: no client rule uses the upstream "x"',
            "credentials:\n  x: { api_key: { file: x } }\n": ":2:25: file is",
            "clients: {}\n": ":1:10: clients must be a list with at least one entry",
            "upstreams: []\n": ":1:12: upstreams must be a mapping of keys to values",
            "- a\n": ":1:1: a fragment must be a mapping of keys to values",
            "a: [\n": ":2:1: not valid YAML: ",
            "---\nhost: a\n---\nhost: b\n": ":4:1: a second document, expected one",
            "include: more.d\n": ":1:1: include may stand in the file itself only",
            "listen: &l [" + "[" * 100: ":1:112: more than 100 brackets are open here",
        }.items():
            s.write("parts.d/a.yaml", text)
            assert any(f.startswith(path + fault) for f in s.faults()), (text, s.faults())
        os.unlink(path)
        os.mkdir(path)
        assert s.faults() == [path + ":0:0: is not a regular file"]
        os.rmdir(path)
        os.symlink("nowhere", path)
        assert s.faults() == [path + ":0:0: cannot be opened: No such file or directory"]


def test_checks_that_come_later_name_the_fragment_too():
    with Scene() as s:
        path = s.fragment("a")
        text = open(path, encoding="utf-8").read().replace("/key", "/no-key")
        s.write("parts.d/a.yaml", text + "log: { audit: /no/such/directory/audit }\n")
        faults = s.faults()
        assert any(f.startswith(path + ":6:") and 'credential "a"' in f for f in faults), faults
        assert any(f.startswith(path + ":9:") and "log.audit" in f for f in faults), faults


def test_what_is_given_twice_names_both_places():
    with Scene() as s:
        a = s.fragment("a")
        b = s.write("parts.d/b.yaml", "host: h\nhost: i\n")
        assert s.faults() == [b + ':2:1: key "host" is written twice, first in line 1']
        s.write("parts.d/b.yaml", "log: { level: warn }\n")
        c = s.write("parts.d/c.yaml", "\nlog: { level: info }\n")
        assert s.faults() == [f'{c}:2:1: key "log" is written twice, first at {b}:1:1']
        os.unlink(c)

        for text, fault in {
            "credentials: { team: { api_key: { file: %(dir)s/key } } }\n": f':1:16: key "team" is written twice, first at {s.main}:5:3',
            "upstreams: { a: { url: local } }\n": f':1:14: key "a" is written twice, first at {a}:4:3',
            "listen: [ { path: %(dir)s/main.sock } ]\n": f":1:11: path {s.dir}/main.sock is used twice, first at {s.main}:7:5",
            "clients: [ { name: a, match: { listener: [main, a] }, upstream: main, credential: team } ]\n":
                f':1:12: rule name "a" is used twice, first at {a}:8:5',
            "clients: [ { name: x, match: { listener: main }, upstream: main, credential: team } ]\n":
                f":1:12: the rule can never match: the one at {s.main}:9:5 covers it",
        }.items():
            s.write("parts.d/b.yaml", text)
            assert b + fault in s.faults(), (text, s.faults())


def test_number_and_size_are_bounded():
    with Scene() as s:
        for i in range(256):
            s.write("parts.d/%03d.yaml" % i, "")
        s.good()
        s.write("parts.d/256.yaml", "")
        assert s.faults() == [f"{s.main}:1:10: include: {s.dir}/parts.d holds more than 256 files *.yaml"]
        for i in range(257):
            os.unlink(s.dir + "/parts.d/%03d.yaml" % i)
        for name in ("a", "b"):
            s.write(f"parts.d/{name}.yaml", "#" * 600000)
        assert s.faults() == [f"{s.dir}/parts.d/b.yaml:0:0: with the files before it larger than 1 MiB"]


def test_an_alias_stays_one():
    """Ten times ten times ... of the same nodes cost no more than the text, and what refers to itself is a fault like any other."""
    with Scene() as s:
        lines = ["x0: &x0 [a]"] + ["x%d: &x%d [%s]" % (i, i, ",".join(["*x%d" % (i - 1)] * 10)) for i in range(1, 40)]
        s.write("parts.d/a.yaml", "\n".join(lines) + "\n")
        assert len(s.faults()) == 40
        s.write("parts.d/a.yaml", "log: &l { level: *l }\n")
        assert any("parts.d/a.yaml:1:" in f for f in s.faults()), s.faults()
        s.fragment("a")
        s.write("parts.d/b.yaml", "leases: { ttl: &t 3m, grace: *t }\n")
        assert "ttl: 3m0s" in s.good()


def test_a_reload_reads_the_fragments_anew_and_a_fault_changes_nothing():
    with Scene() as s:
        s.fragment("a")
        with open(s.dir + "/log", "ab") as log:
            s.daemon = subprocess.Popen([sg.program("stacygated"), "-c", s.main], env=s.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        cwd="/")

        def rule(name):
            try:
                return sg.request(f"{s.dir}/{name}.sock", "GET", "/gateway/v1/whoami").json["rule"]
            except OSError:
                return None

        def log_has(text):
            return text in open(s.dir + "/log", encoding="utf-8").read()

        sg.wait_until(lambda: rule("a") == "a", "the fragment's listener answers")
        os.unlink(s.dir + "/parts.d/a.yaml")
        s.fragment("b")
        s.daemon.send_signal(signal.SIGHUP)
        sg.wait_until(lambda: rule("b") == "b" and rule("a") is None, "the reload follows the directory")
        s.write("parts.d/c.yaml", "listen: nowhere\n")
        s.daemon.send_signal(signal.SIGHUP)
        sg.wait_until(lambda: log_has("parts.d/c.yaml:1:9: "), "the log names the fragment")
        assert rule("b") == "b" and rule("main") == "main"
        s.daemon.send_signal(signal.SIGTERM)
        assert s.daemon.wait(60) == 0
        sg.check_clean(open(s.dir + "/log", encoding="utf-8").read(), "stacygated")


if __name__ == "__main__":
    sys.exit(sg.main(dict(globals())))
