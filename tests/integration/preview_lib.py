# SPDX-License-Identifier: Apache-2.0
"""What the tests of previews share: a gateway whose rules lead to a front of previews, and that front, which records."""
import base64
import hashlib
import http.client
import socket

import vm_lib
from tls_lib import DEADLINE, KEY, Answer, Upstream

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What of a client's must not reach a sandbox, with a spelling that some servers read alike, and the gateway's own.
SECRETS = {"X-API-Key": "theirs", "x-admin-api-key": "theirs", "X-User-ID": "root", "X_User_Id": "root", "X-Tenant-ID": "t",
           "X-Worker-Token": "w", "Stacygate-Lease": "connection", "Stacygate-Anything": "x"}


def free_port():
    """One that nobody has on either loopback address just now."""
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        four.bind(("127.0.0.1", 0))
        port = four.getsockname()[1]
        six.bind(("::1", port))
        return port


class Gateway(vm_lib.Gateway):
    """Callers as in vm_lib; `front` is the value of preview.url. With `tcp` the caller alice comes by a TCP listener as well."""

    def __init__(self, server, rules=None, front=None, tcp=False, url=None, extra="", **more):
        self.front, self.tcp, self.url, self.extra = front, tcp, url, extra
        self.port = free_port() if tcp else 0
        super().__init__(server, rules, **more)

    def configure(self, upstreams=None):
        super().configure(upstreams)
        with open(self.config, encoding="utf-8") as file:
            text = file.read()
        if self.tcp:
            text = text.replace("listen:\n", f'listen:\n  - {{ tcp: "127.0.0.1:{self.port}", name: web, '
                                             'origins: ["http://app.test"] }\n', 1)
            text = text.replace("match: { listener: alice }", "match: { listener: [alice, web] }")
        if self.url:
            text = text.replace(f"http://127.0.0.1:{self.server.port}", self.url)
        if self.front:
            text += f"preview: {{ url: {self.front} }}\n"
        text += self.extra
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)

    def preview(self, name, host, method="GET", target="/", body=None, headers=None):
        return self.ask(name, method, target, body, {"Host": host, **(headers or {})})

    def web(self, host, method="GET", target="/", headers=None):
        """The same over TCP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE * 2)
        try:
            connection.request(method, target, headers={"Host": host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read(), True)
        finally:
            connection.close()

    def url_of(self, name, sandbox, port, headers=None):
        return self.ask(name, "GET", f"/gateway/v1/sandboxes/{sandbox}/preview/{port}", None, headers)


class Front(Upstream):
    """Answers for every sandbox, and says on which connection (`n`) it was asked for which host."""

    def __init__(self, answer=None, **more):
        self.program = answer or self.say
        super().__init__(answer=self.on_preview, **more)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def on_preview(self, connection, request):
        request.connection = connection
        return self.program(connection, request)

    def say(self, connection, request):
        connection.answer(f"{request.all('host')[0]} {request.serial} {request.method} {request.target} "
                          f"{hashlib.sha256(request.body).hexdigest()}".encode())

    def clean(self):
        """That nothing of the gateway's and nothing of the clients' secrets has come here."""
        for r in self.requests:
            for name, value in r.headers:
                plain = name.replace("_", "-")
                assert plain not in ("x-api-key", "x-admin-api-key", "x-user-id", "x-tenant-id") and KEY not in value, r.headers
                assert not plain.startswith(("x-worker-", "stacygate-")), r.headers


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()


def echo_socket(connection, request):
    """Agrees to a WebSocket and sends every byte back until the other side ends."""
    connection.send(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSet-Cookie: a=b\r\n"
                     f"Sec-WebSocket-Accept: {accept_of(request.all('sec-websocket-key')[0])}\r\n\r\n").encode())
    if connection.data:
        connection.send(connection.data)
    while piece := connection.sock.recv(65536):
        connection.send(piece)
    connection.close()
    return True
