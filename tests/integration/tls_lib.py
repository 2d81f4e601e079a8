# SPDX-License-Identifier: Apache-2.0
"""What the tests of TLS and of proxies share: certificates, an upstream that records, proxies, and a real gateway."""
import http.client
import json
import os
import queue
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BUILD = os.environ.get("SG_BUILDDIR", ".")
KEY = "SEKRET-tls-key"  # it must never be written anywhere but to the upstream
DEADLINE = 20.0         # what must happen, happens within this on a slow machine with sanitizers


class Skip(Exception):
    """A test that needs what this machine does not have."""


def wait_for(what, holds, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = holds()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what}")


# --- certificates -----------------------------------------------------------------------------------------------------

CA_CONFIG = """
[ca]
default_ca = own
[own]
database = {d}/index.txt
serial = {d}/serial
new_certs_dir = {d}
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
"""


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr}"


class Authority:
    """A certificate authority of our own below a directory."""

    def __init__(self, directory, name):
        self.directory = os.path.join(directory, name)
        os.mkdir(self.directory)
        for file, text in (("index.txt", ""), ("serial", "1000\n"), ("ca.cnf", CA_CONFIG.format(d=self.directory))):
            with open(self.path(file), "w", encoding="ascii") as out:
                out.write(text)
        self.certificate = self.path("ca.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config",
                self.path("ca.cnf"), "-extensions", "authority", "-subj", "/CN=" + name, "-days", "30", "-keyout",
                self.path("ca.key"), "-out", self.certificate)

    def path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, name, hosts=("DNS:localhost", "IP:127.0.0.1", "IP:::1"), first=None, last=None):
        """A certificate; gives its file, in which the key is too. Times as YYYYMMDDHHMMSSZ."""
        key, request, bare, both = (self.path(name + end) for end in (".key", ".csr", ".crt", ".pem"))
        arguments = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config",
                     self.path("ca.cnf"), "-subj", "/CN=" + name, "-keyout", key, "-out", request]
        if hosts:
            arguments += ["-addext", "subjectAltName=" + ",".join(hosts)]
        openssl(*arguments)
        openssl("ca", "-batch", "-notext", "-config", self.path("ca.cnf"), "-cert", self.certificate, "-keyfile",
                self.path("ca.key"), "-in", request, "-out", bare, *(("-startdate", first) if first else ()),
                *(("-enddate", last) if last else ("-days", "30")))
        with open(both, "w", encoding="ascii") as out:
            for part in (bare, key):
                with open(part, encoding="ascii") as text:
                    out.write(text.read())
        return both


def server_context(certificate, lowest=ssl.TLSVersion.TLSv1_2, highest=None, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if lowest < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # else OpenSSL itself would refuse, not the gateway
    context.minimum_version = lowest
    if highest:
        context.maximum_version = highest
    context.load_cert_chain(certificate)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


# --- the upstream -----------------------------------------------------------------------------------------------------

class Request:
    def __init__(self, method, target, headers, body, serial):
        self.method, self.target, self.headers, self.body, self.serial = method, target, headers, body, serial

    def all(self, name):
        return [value for key, value in self.headers if key == name]


class Connection:
    """
    One accepted connection; after the handshake `stream` is what HTTP goes over. Only the thread that serves it may use
    it: whoever closes a socket that another thread reads from makes that read from the next socket of this number.
    """

    def __init__(self, server, sock):
        self.server, self.sock, self.stream, self.data = server, sock, sock, b""
        self.served = 0
        self.closed = False
        self.orders = queue.Queue()

    def obey(self):
        """Does what others order, until that closes it. For an `answer`: the connection is idle for the gateway."""
        while not self.closed:
            self.orders.get(timeout=DEADLINE * 2)(self)
        return True

    def fill(self):
        piece = self.stream.recv(65536)
        self.server.count_plain(len(piece))
        self.data += piece
        return bool(piece)

    def take(self, n):
        parts, have = [self.data], len(self.data)
        while have < n:
            piece = self.stream.recv(1 << 20)
            if not piece:
                raise ConnectionError("the request ends early")
            self.server.count_plain(len(piece))
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self.data = data[n:]
        return data[:n]

    def line(self):
        while b"\r\n" not in self.data:
            if not self.fill():
                raise ConnectionError("the request ends early")
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def request(self):
        """The next one, or None at the end of the connection."""
        while b"\r\n\r\n" not in self.data:
            if not self.fill():
                return None
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, value in (line.split(":", 1) for line in lines)]
        method, target, _ = first.split(" ")
        fields = dict(headers)
        if self.server.before_body:
            self.server.before_body(self)
        if fields.get("transfer-encoding") == "chunked":
            parts = []
            while (size := int(self.line(), 16)) > 0:
                parts.append(self.take(size + 2)[:-2])
            self.line()
            body = b"".join(parts)
        else:
            body = self.take(int(fields.get("content-length", "0")))
        self.served += 1
        return Request(method, target, headers, body, self.served)

    def send(self, data):
        self.stream.sendall(data)

    def answer(self, body, extra=""):
        self.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)

    def finish(self):
        """Ends the TLS stream as it should end."""
        if isinstance(self.stream, ssl.SSLSocket):
            self.stream.settimeout(0.0)
            try:
                self.stream.unwrap()
            except (ssl.SSLError, OSError):
                pass  # our close_notify is out; the peer's is not waited for
        self.close()

    def reset(self):
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        """A TLS stream is cut short by this."""
        self.closed = True
        self.stream.close()


def echo(connection, request):
    """Answers with what must never get mixed up."""
    connection.answer(json.dumps({"user": request.all("x-user-id"), "target": request.target,
                                  "bytes": len(request.body)}).encode())


class Upstream:
    """
    Serves HTTP by threads. It counts connections, handshakes, resumed sessions and bytes after the handshake, and keeps the
    requests. `answer` returns true when it has closed or finished the connection. `raw` has the accepted socket instead.
    """

    def __init__(self, context=None, answer=echo, host="127.0.0.1", raw=None, before_body=None, port=0):
        self.context, self.on_request, self.raw, self.before_body = context, answer, raw, before_body
        self.connections = self.handshakes = self.resumed = self.plain = 0
        self.requests, self.faults, self.names, self.peers, self.live = [], [], [], [], []
        self.lock = threading.Lock()
        if context:
            context.sni_callback = lambda _, name, __: self.names.append(name)
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def count_plain(self, n):
        with self.lock:
            self.plain += n

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                self.listener.close()
                return
            sock.settimeout(DEADLINE * 2)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock)
            with self.lock:
                self.connections += 1
                self.live.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.raw:
                self.raw(connection)
                return
            if self.context:
                connection.stream = self.context.wrap_socket(connection.sock, server_side=True)
                with self.lock:
                    self.handshakes += 1
                    self.resumed += connection.stream.session_reused
                    self.peers.append(connection.stream.getpeercert())
            while (request := connection.request()) is not None:
                with self.lock:
                    self.requests.append(request)
                if self.on_request(connection, request):
                    return
        except (OSError, ValueError, AssertionError, queue.Empty) as fault:  # ssl.SSLError is an OSError
            self.faults.append(repr(fault))
        finally:
            connection.close()
            with self.lock:
                self.live.remove(connection)

    def close(self):
        """No more connections."""
        self.listener.shutdown(socket.SHUT_RDWR)


def relay(a, b):
    """Bytes from a to b until the end, in this thread."""
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Proxy:
    """An HTTP proxy (CONNECT only) or a SOCKS5 one. `hosts` is the names that only it knows; `refuse` what it answers."""

    def __init__(self, kind="http", hosts=None, refuse=None):
        self.kind, self.hosts, self.refuse = kind, hosts or {}, refuse
        self.targets, self.heads, self.seen = [], [], b""
        self.upstream = Upstream(raw=self.serve)
        self.port = self.upstream.port
        self.url = f"{'http' if kind == 'http' else 'socks5h'}://127.0.0.1:{self.port}"

    def connections(self):
        return self.upstream.connections

    def serve(self, connection):
        ok, host, port = self.http(connection) if self.kind == "http" else self.socks(connection)
        if not ok:
            connection.finish()
            return
        out = socket.create_connection((self.hosts.get(host, host).strip("[]"), port))
        back = threading.Thread(target=relay, args=(out, connection.sock), daemon=True)
        back.start()
        try:
            while data := connection.data or connection.sock.recv(65536):
                connection.data = b""
                self.seen += data[:4096]
                out.sendall(data)
            out.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        back.join(DEADLINE)
        out.close()

    def http(self, connection):
        while b"\r\n\r\n" not in connection.data:
            if not connection.fill():
                return False, None, 0
        head, connection.data = connection.data.split(b"\r\n\r\n", 1)
        self.heads.append(head.decode("latin-1"))
        method, target, _ = self.heads[-1].split("\r\n")[0].split(" ")
        self.targets.append((method, target))
        if self.refuse:
            connection.send(self.refuse)
            return False, None, 0
        assert method == "CONNECT", self.heads
        connection.send(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 tiny\r\n\r\n")
        host, port = target.rsplit(":", 1)
        return True, host, int(port)

    def socks(self, connection):
        _, count = connection.take(2)
        connection.take(count)
        connection.send(b"\x05\x00")
        _, command, _, kind = connection.take(4)
        if kind == 3:
            host = connection.take(connection.take(1)[0]).decode()
        else:
            host = socket.inet_ntop(*((socket.AF_INET, connection.take(4)) if kind == 1 else
                                      (socket.AF_INET6, connection.take(16))))
        port, = struct.unpack("!H", connection.take(2))
        self.targets.append((kind, host))
        connection.send(b"\x05" + (self.refuse or b"\x00") + b"\x00\x01" + bytes(6))
        return command == 1 and not self.refuse, host, port


# --- the gateway ------------------------------------------------------------------------------------------------------

class Answer:
    def __init__(self, status, headers, body, whole):
        self.status, self.headers, self.body, self.whole = status, headers, body, whole

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {'whole' if self.whole else 'cut'} {self.body[:300]!r}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=DEADLINE * 2):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self, method, target, body=None, headers=None):
        self.request(method, target, body=body, headers=headers or {})
        answer = self.getresponse()
        try:
            return Answer(answer.status, answer.getheaders(), answer.read(), True)
        except http.client.IncompleteRead as cut:
            return Answer(answer.status, answer.getheaders(), cut.partial, False)


class Gateway:
    """
    A real stacygated. `upstreams` is a mapping of names to lists of YAML lines; each has a listener and a rule of its own,
    and `users` further listeners: name to (upstream, user id).
    """

    def __init__(self, upstreams, users=None, env=None, program="stacygated", drain="1s", wrapper=(), rule=None, level="debug"):
        self.directory = tempfile.mkdtemp(prefix="sg-tls.")
        self.config = os.path.join(self.directory, "stacygate.yaml")
        self.users = {name: (name, name + "-user") for name in upstreams}
        self.users.update(users or {})
        self.drain, self.rule, self.level = drain, rule, level
        with open(os.open(self.path("key"), os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(KEY + "\n")
        self.configure(upstreams)
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.directory, "LANG": "C.UTF-8",
                            "RUNTIME_DIRECTORY": self.path("run"), "STATE_DIRECTORY": self.path("state")}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LLVM_PROFILE_FILE"):
            if name in os.environ:
                self.environment[name] = os.environ[name]
        self.environment.update(env or {})
        for name in ("run", "state"):
            os.mkdir(self.path(name), 0o700)
        self.command = [*wrapper, os.path.join(BUILD, program), "-c", self.config]
        self.start()

    def start(self):
        self.log_file = open(self.path("log"), "ab")
        self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log_file,
                                        stderr=self.log_file)
        try:
            wait_for("the gateway accepts", self.accepts)
        except AssertionError:
            self.process.kill()
            raise

    def stop(self):
        """SIGTERM; gives the exit status, a text when it does not end."""
        try:
            self.process.send_signal(signal.SIGTERM)
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "none: it had to be killed"
        finally:
            self.log_file.close()

    def path(self, name):
        return os.path.join(self.directory, name)

    def socket_of(self, name):
        return self.path(name + ".sock")

    def configure(self, upstreams):
        lines = [f"drain_timeout: {self.drain}", "listen:"]
        for name in self.users:
            lines.append(f"  - {{ path: {self.socket_of(name)}, name: {name} }}")
        lines.append("upstreams:")
        for name, settings in upstreams.items():
            lines += [f"  {name}:"] + ["    " + line for line in settings]
        lines += ["credentials:", f"  team: {{ api_key: {{ file: {self.path('key')} }} }}", "clients:"]
        for name, (upstream, user) in self.users.items():
            lines += [f"  - name: {name}", f"    match: {{ uid: {os.getuid()}, listener: {name} }}",
                      f"    upstream: {upstream}", "    credential: team", f"    user_id: {user}", "    admin: true",
                      *([f"    {self.rule}"] if self.rule else ())]
        lines.append(f"log: {{ level: {self.level}, access: stderr }}")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def accepts(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}: {self.log()}")
        try:
            for name in self.users:
                self.connect(name).connect()
            return True
        except OSError:
            return False

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def connect(self, name):
        return UnixConnection(self.socket_of(name))

    def ask(self, name, method="GET", target="/api/v1/x", body=None, headers=None):
        connection = self.connect(name)
        try:
            return connection.ask(method, target, body, headers)
        finally:
            connection.close()

    def get(self, name, target="/api/v1/x"):
        """A GET that must be answered well."""
        answer = self.ask(name, target=target)
        assert answer.status == 200 and answer.whole, f"{answer}\n{self.log()}"
        return answer

    def health(self, name):
        return next(u for u in self.ask(name, target="/gateway/v1/health").json()["upstreams"] if u["name"] == name)

    def pool(self, name):
        status = self.ask(name, target="/gateway/v1/status").json()
        return next(u for u in status["upstreams"] if u["name"] == name)["pool"]

    def reload(self):
        before = self.log().count("reloaded: ")
        self.process.send_signal(signal.SIGHUP)
        wait_for("the configuration is read again", lambda: self.log().count("reloaded: ") > before)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        status = self.stop()
        log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        if kind is not None:
            print("its log:", log[-6000:], flush=True)
            return
        assert status == 0, f"it ended with {status}: {log[-4000:]}"
        for bad in ("Sanitizer", "runtime error", "check failed", KEY):
            assert bad not in log, f"{bad!r} in its log: {log[-4000:]}"


def main(tests):
    """Runs the tests, or those named on the command line, each under its own name."""
    chosen = [t for t in tests if len(sys.argv) == 1 or t.__name__ in sys.argv[1:]]
    passed = failed = 0
    for test in chosen:
        begin = time.monotonic()
        try:
            test()
        except Skip as why:
            print(f"SKIPPED: {test.__name__}: {why}", flush=True)
            continue
        except Exception:  # the next test must run as well
            traceback.print_exc(file=sys.stdout)
            print(f"FAIL: {test.__name__}", flush=True)
            failed += 1
        else:
            passed += 1
            print(f"ok: {test.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
