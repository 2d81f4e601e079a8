#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The Debian package. Always: what debian/ says is what the tree says. In the long form (SG_LONG=1) also: `make deb` twice gives the same
bytes, lintian finds nothing, and deb_driver.py installs, upgrades, removes and purges it in a booted tree (see tests/e2e/booted.py), all
that of the suite $SG_BOOT_SUITE where it is given.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
SRC = os.path.abspath(os.environ["SG_SRCDIR"])
BUILD = os.path.abspath(os.environ["SG_BUILDDIR"])
LONG = os.environ.get("SG_LONG") == "1"
sys.path.insert(0, SRC + "/tests/e2e")
import booted  # noqa: E402

EPOCH = "1000000000"
DATE = "Sun, 09 Sep 2001 01:46:40 +0000"
# What debhelper brings, and what every build of a package has.
IMPLIED = {"autoconf", "automake", "gcc", "libc6-dev", "make"}
HOLDS = """/etc/stacygate/stacygate.yaml /usr/bin/stacygate /usr/sbin/stacygated /usr/libexec/stacygate-local
/usr/lib/systemd/user/stacygated.service /usr/lib/systemd/user/stacygated.socket /usr/lib/sysusers.d/stacygate.conf
/usr/lib/tmpfiles.d/stacygate.conf /usr/share/bash-completion/completions/stacygate /usr/share/zsh/site-functions/_stacygate
/usr/share/fish/vendor_completions.d/stacygate.fish /usr/share/stacygate/identity.conf /usr/share/doc/stacygate/copyright
/usr/share/doc/stacygate/README.md /usr/share/doc/stacygate/stacygate.yaml.example /usr/share/man/man8/stacygated.8.gz
/usr/share/man/man1/stacygate.1.gz /usr/share/man/man5/stacygate.yaml.5.gz
/lib/systemd/system/stacygated.service /lib/systemd/system/stacygated.socket /lib/systemd/system/stacygate-local.service""".split()
passed = failed = 0


def verdict(good, what, details=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAIL: {what}\n{details}", flush=True)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*words, **more):
    """The exit status, and all that was said. Nothing is handed down from the make that runs this."""
    left_out = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DESTDIR", "SOURCE_DATE_EPOCH", "CFLAGS", "LDFLAGS")
    env = {k: v for k, v in os.environ.items() if k not in left_out}
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          env={**env, **more.pop("env", {})}, **more)
    return done.returncode, done.stdout


# --- what debian/ says --------------------------------------------------------------------------------------------

def paragraphs(text):
    """[{field: value}] of a control file."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)$", block, re.M)
        verdict("".join(f"{k}:{v}\n" for k, v in fields) == block + "\n", "debian/control does not parse", block)
        out.append({k: v.strip() for k, v in fields})
    return out


def words_of(value):
    """A list of packages as autogen.sh writes it: a|b."""
    return {re.sub(r"\s*\([^)]*\)|\s", "", w) for w in value.split(",")}


def control():
    source, package = paragraphs(read(SRC + "/debian/control"))
    verdict(source.get("Source") == package.get("Package") == "stacygate", "the names", str((source, package)))
    built = words_of(source["Build-Depends"])
    autogen = set(re.search(r"^PACKAGES_BUILD='([^']*)'", read(SRC + "/autogen.sh"), re.M).group(1).split())
    autogen -= IMPLIED | {"bubblewrap"}
    verdict(built == autogen | {"debhelper-compat", "systemd-dev|systemd"}, "Build-Depends are not what autogen.sh installs",
            str(built ^ autogen))
    verdict(words_of(package["Depends"]) >= {"bubblewrap", "${shlibs:Depends}", "${misc:Depends}"}, "Depends", package["Depends"])


def version():
    number = re.search(r"^AC_INIT\(\[stacygate\], \[([^]]+)\]\)", read(SRC + "/configure.ac"), re.M).group(1)
    with tempfile.TemporaryDirectory(prefix="deb.") as work:
        os.makedirs(work + "/debian")
        code, said = run("make", "-s", "dist-changelog", "distdir=" + work, cwd=BUILD, env={"SOURCE_DATE_EPOCH": EPOCH})
        verdict(code == 0, "make dist-changelog", said)
        changelog = read(work + "/debian/changelog")
        good = changelog.startswith(f"stacygate ({number}) ") and changelog.endswith(f">  {DATE}\n")
        verdict(good and "@" not in changelog.split("<")[0], "debian/changelog", changelog)
        run("make", "-s", "dist-changelog", "distdir=" + work, cwd=BUILD)
        changelog = read(work + "/debian/changelog")
        verdict(re.search(r">  \w{3}, \d\d \w{3} 2\d{3} [\d:]{8} \+0000$", changelog), "no date without SOURCE_DATE_EPOCH", changelog)
    code, said = run(BUILD + "/stacygate", "--version")
    verdict(said.startswith(f"stacygate {number} "), "the client's version", said)
    verdict(re.search(rf"^## {re.escape(number)}\b", read(SRC + "/NEWS.md"), re.M), "NEWS.md does not know the version", number)


def removal():
    """postrm names what systemd makes for the units, their keys and their user."""
    postrm = read(SRC + "/debian/stacygate.postrm")
    for script in ("postrm", "prerm"):
        code, said = run("sh", "-n", f"{SRC}/debian/stacygate.{script}")
        verdict(code == 0, f"debian/stacygate.{script}", said)
    prerm = read(SRC + "/debian/stacygate.prerm")
    verdict("#DEBHELPER#" in prerm.split("systemctl kill")[0], "sandboxes that outlive their server are ended before it is stopped", prerm)
    where = {"State": "/var/lib/", "Logs": "/var/log/", "Configuration": "/etc/", "Runtime": "/run/", "Cache": "/var/cache/"}
    wanted = set()
    for name in ("stacygated.service", "stacygate-local.service"):
        unit = read(f"{SRC}/systemd/{name}.in")
        wanted |= {where[kind] + folder for kind, folder in re.findall(r"^([A-Z][a-z]+)Directory=(\S+)$", unit, re.M)}
        wanted |= {"/etc/credstore/" + key for key in re.findall(r"^LoadCredential=[^:\s]+:([^/\s]+)$", unit, re.M)}
    named = set(re.findall(r"/(?:var|etc|run)/[a-z./-]+", postrm))
    verdict(len(wanted) >= 8 and named == wanted, "postrm removes other things than the units make", str(named ^ wanted))
    users = set(re.findall(r"^u (\S+)", read(SRC + "/systemd/sysusers.conf"), re.M))
    verdict(users == set(re.findall(r"\$\(userdel (\w+)", postrm)), "postrm removes another user", str(users))


def shipped():
    extra = re.search(r"^EXTRA_DIST \+=((?:.*\\\n)*.*)$", read(SRC + "/debian/debian.inc"), re.M).group(1)
    listed = set(re.findall(r"debian/[a-z./-]+", extra))
    there = {os.path.relpath(p, SRC) for p in glob.glob(SRC + "/debian/**", recursive=True) if os.path.isfile(p)}
    there -= {"debian/debian.inc", "debian/changelog"}
    verdict(listed == there, "the archive does not hold all of debian/", str(listed ^ there))
    rules = read(SRC + "/debian/rules")
    for option in re.findall(r"--(with-[a-z]+)=", rules):
        verdict(option in read(SRC + "/configure"), f"configure knows no --{option}")
    for unit in re.findall(r"\b(stacygate\S*\.(?:service|socket))\b", rules):
        verdict(os.path.exists(f"{SRC}/systemd/{unit}.in"), f"debian/rules names {unit}, which there is not")


# --- the package itself -------------------------------------------------------------------------------------------

def in_suite(*words, **more):
    return run(*booted.in_suite(*words, **more))


def in_suite_is(program):
    return in_suite("sh", "-c", 'command -v "$1"', "sh", program)[0] == 0


def build(where, source=SRC, around=()):
    """The package, in a build tree of its own: this one has sanitizers. Each command is preceded by the words `around`."""
    os.makedirs(where, exist_ok=True)
    if not os.path.exists(where + "/config.status"):
        code, said = in_suite(*around, source + "/configure", cwd=where)
        verdict(code == 0, "configure", said[-3000:])
    code, said = in_suite(*around, "make", "deb", cwd=where)
    found = glob.glob(where + "/stacygate_*.deb")
    verdict(code == 0 and len(found) == 1, "make deb", said[-6000:])
    return found[0] if len(found) == 1 else None


def same_bytes(deb, where):
    """From the archive, elsewhere, of other times, in another zone and with another umask it is the same."""
    with tempfile.TemporaryDirectory(prefix="sg-deb.", dir="/var/tmp") as work:
        archive = glob.glob(where + "/stacygate-*.tar.gz")
        verdict(len(archive) == 1 and run("tar", "-xzf", archive[0], "-C", work)[0] == 0, "the archive", str(archive))
        source = glob.glob(work + "/stacygate-*")[0]
        for folder, _, names in os.walk(source):
            for name in names:
                os.utime(os.path.join(folder, name), (int(EPOCH), int(EPOCH)))
        again = build(work + "/build", source, ("env", "TZ=Asia/Tokyo", "sh", "-c", 'umask 027; exec "$@"', "sh"))
        if again:
            with open(deb, "rb") as one, open(again, "rb") as other:
                verdict(one.read() == other.read(), "the second package is another", run("diffoscope", deb, again)[1][:4000]
                        if shutil.which("diffoscope") else "")


def contents(deb):
    code, said = run("dpkg-deb", "-c", deb)
    names = {line.split(None, 5)[5].removeprefix(".") for line in said.splitlines()}
    missing = [n for n in HOLDS if n not in names and "/usr" + n not in names]
    verdict(code == 0 and not missing, "the package lacks files", f"{missing}\n{said}")


def lint(deb):
    if not in_suite_is("lintian"):
        print("SKIPPED: lintian is not installed: the package is not looked at")
        return
    code, said = in_suite("lintian", "--allow-root", "-I", "--pedantic", "--fail-on", "error,warning,info,pedantic", deb)
    verdict(code == 0, "lintian", said)


def another(deb, to, version, configuration):
    """The same package as a later version of it, with a line more in its configuration."""
    with tempfile.TemporaryDirectory(prefix="deb.") as work:
        os.chmod(work, 0o755)
        verdict(run("dpkg-deb", "-R", deb, work)[0] == 0, "dpkg-deb -R")
        text = read(work + "/DEBIAN/control")
        with open(work + "/DEBIAN/control", "w", encoding="utf-8") as file:
            file.write(re.sub(r"^Version: (.*)$", rf"Version: \g<1>{version}", text, flags=re.M))
        with open(work + "/etc/stacygate/stacygate.yaml", "a", encoding="utf-8") as file:
            file.write(configuration)
        code, said = run("dpkg-deb", "--root-owner-group", "-b", work, to)
        verdict(code == 0, "dpkg-deb -b", said)


def life(deb):
    global passed, failed
    why = booted.why_not()
    if why:
        print(f"SKIPPED: {why}: the package is not installed anywhere")
        return
    with tempfile.TemporaryDirectory(prefix="sg-deb.", dir="/var/tmp") as work:
        os.chmod(work, 0o755)
        if not booted.has_tree():
            run("dpkg-deb", "-x", deb, work + "/stage")
            booted.make_tree(work + "/stage")
            shutil.rmtree(work + "/stage")
        os.makedirs(work + "/test")
        shutil.copy(deb, work + "/test/stacygate_1.deb")
        another(deb, work + "/test/stacygate_2.deb", "+2", "# of the new version\n")
        another(deb, work + "/test/stacygate_3.deb", "+3", "# of the newer version\n")
        shutil.copy(SRC + "/tests/e2e/booted_driver.py", work + "/test/")
        good, bad = booted.result(work, os.path.abspath(__file__))
        passed += good
        failed += bad


def package():
    if not booted.has_build_tree():
        if booted.why_not():
            print(f"SKIPPED: {booted.why_not()}: no package is built")
            return
        booted.make_build_tree()
    for program, needed in (("dpkg-buildpackage", "dpkg-dev"), ("dh", "debhelper")):
        if not in_suite_is(program):
            print(f"SKIPPED: {program} is not installed (Debian: {needed}): no package is built")
            return
    where = f"{BUILD}/long-deb/{booted.SUITE}"
    deb = build(where)
    if deb:
        same_bytes(deb, where)
        contents(deb)
        lint(deb)
        life(deb)


def main():
    if "--inside" in sys.argv:
        booted.boot(sys.argv[-1], SRC + "/tests/build/deb_driver.py")
        return 0
    control()
    version()
    removal()
    shipped()
    if LONG:
        package()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
