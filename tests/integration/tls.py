# SPDX-License-Identifier: Apache-2.0
"""https upstreams through the real gateway: what is accepted and refused, how connections end, are kept and used again."""
import hashlib
import http.client
import os
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from tls_lib import BUILD, KEY, Authority, Connection, Gateway, Upstream, echo, main, openssl, server_context, wait_for

CERTIFICATES = tempfile.mkdtemp(prefix="sg-certs.")
OWN = Authority(CERTIFICATES, "own")
OTHER = Authority(CERTIFICATES, "other")
GOOD = OWN.issue("good")


# What GnuTLS says of every fault of a certificate but a wrong name, and of what is no TLS.
GNUTLS = "GnuTLS" in subprocess.run([os.path.join(BUILD, "stacygated"), "-V"], capture_output=True, text=True).stdout
GNUTLS_WORDS = ("verification failed", "unexpected TLS packet") if GNUTLS else ()

# Of libcurl 7.88 and of 8.14.
OTHER_NAME = ("subject name matches target", "does not match target host", "name mismatch", "hostname mismatch")


def https(server, *settings, ca=OWN.certificate, host="127.0.0.1", tls=""):
    """The YAML lines of an upstream."""
    return [f"url: https://{host}:{server.port}", f"tls: {{ ca_file: {ca}{tls} }}", *settings]


def good_server(answer=echo, **more):
    return Upstream(server_context(GOOD), answer, **more)


def test_private_ca_accepted():
    """Key and user id arrive once each, whatever the client says, over TLS 1.2 and 1.3, and by name and address."""
    two = Upstream(server_context(GOOD, highest=ssl.TLSVersion.TLSv1_2))
    three = Upstream(server_context(GOOD, lowest=ssl.TLSVersion.TLSv1_3))
    with Gateway({"two": https(two), "three": https(three, host="localhost")}) as g:
        for name, server in (("two", two), ("three", three)):
            answer = g.ask(name, "POST", "/api/v1/x?a=b", b"{}", {"X-API-Key": "mine", "x-user-id": "root"})
            assert answer.status == 200, (answer, g.log())
            request, = server.requests
            assert request.all("x-api-key") == [KEY] and request.all("x-user-id") == [name + "-user"], request.headers
            assert (request.method, request.target, request.body) == ("POST", "/api/v1/x?a=b", b"{}")
            assert g.health(name) == {"name": name, "healthy": True}
        assert two.requests[0].all("host") == [f"127.0.0.1:{two.port}"]
        assert two.names == [None] and three.names == ["localhost"], (two.names, three.names)


def refused(settings_of, server, status, *words, forbid=b"HTTP"):
    """The dial fails: the client, the log and health say why, and no byte of HTTP is sent."""
    with Gateway({"up": settings_of}) as g:
        begin = time.monotonic()
        answer = g.ask("up", "POST", "/api/v1/x", b"{}")
        took = time.monotonic() - begin
        assert answer.status == status and answer.whole, (answer, g.log())
        message = answer.json()["message"]
        health = g.health("up")
        assert health["healthy"] is False
        for text in (message, health["error"], g.log()):
            assert any(word in text for word in words + GNUTLS_WORDS), f"none of {words} in {text}"
        assert server.plain == 0 and not server.requests, "HTTP reached the server"
        assert server.connections == 1, f"{server.connections} connections for one POST"
        wait_for("the connection is closed", lambda: not server.live)
    server.close()
    return took


def test_f24_expired():
    server = Upstream(server_context(OWN.issue("expired", first="20200101000000Z", last="20210101000000Z")))
    refused(https(server), server, 502, "expired")


def test_f24_not_yet_valid():
    server = Upstream(server_context(OWN.issue("future", first="20900101000000Z", last="20910101000000Z")))
    refused(https(server), server, 502, "not yet valid")


def test_f24_wrong_host():
    server = Upstream(server_context(OWN.issue("elsewhere", hosts=("DNS:elsewhere.test",))))
    refused(https(server), server, 502, *OTHER_NAME)


def test_f24_common_name_is_not_enough():
    server = Upstream(server_context(OWN.issue("127.0.0.1", hosts=("DNS:elsewhere.test",))))
    refused(https(server), server, 502, *OTHER_NAME)


def test_f24_self_signed():
    server = Upstream(server_context(OTHER.issue("stranger")))
    refused(https(server), server, 502, "unable to get local issuer", "self-signed", "self signed")
    bare, key = os.path.join(CERTIFICATES, "self.pem"), os.path.join(CERTIFICATES, "self.key")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config",
            OWN.path("ca.cnf"), "-subj", "/CN=alone", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", bare)
    with open(bare, "a", encoding="ascii") as both, open(key, encoding="ascii") as text:
        both.write(text.read())
    server = Upstream(server_context(bare))
    refused(https(server), server, 502, "self-signed", "self signed")


def test_f24_system_authorities():
    """Without ca_file the system's are trusted, and ours is none of them."""
    server = good_server()
    refused([f"url: https://127.0.0.1:{server.port}"], server, 502, "unable to get local issuer", "self-signed certificate")


def test_f24_old_versions():
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        server = Upstream(server_context(GOOD, lowest=version, highest=version))
        refused(https(server), server, 502, "alert protocol version", "unsupported protocol", "version")


def raw_server(what):
    """Has the accepted socket; records what comes on it."""
    got = bytearray()

    def serve(connection):
        what(connection, got)
    server = Upstream(raw=serve)
    server.got = got
    return server


def test_f25_handshake_stall():
    def stall(connection, got):
        while data := connection.sock.recv(4096):
            got.extend(data)
    server = raw_server(stall)
    took = refused(https(server, "timeouts: { connect: 700ms }"), server, 504, "timed out", "timeout", "Timeout")
    assert 0.5 < took < 4, took
    assert server.got[:1] == b"\x16" and b"HTTP/" not in server.got and KEY.encode() not in server.got


def test_f25_reset_in_handshake():
    def reset(connection, got):
        got.extend(connection.sock.recv(4096))
        connection.reset()
    server = raw_server(reset)
    refused(https(server), server, 502, "reset", "SSL_ERROR_SYSCALL", "unexpected eof")
    assert b"HTTP/" not in server.got and KEY.encode() not in server.got


def test_f25_garbage():
    def garbage(connection, got):
        got.extend(connection.sock.recv(4096))
        connection.sock.sendall(b"220 mail.test ready\r\n")
        while data := connection.sock.recv(4096):
            got.extend(data)
    server = raw_server(garbage)
    refused(https(server), server, 502, "wrong version number", "SSL")
    assert b"HTTP/" not in server.got and KEY.encode() not in server.got


def test_f25_closes_in_handshake():
    def close(connection, got):
        got.extend(connection.sock.recv(1))
        connection.finish()
    server = raw_server(close)
    refused(https(server), server, 502, "SSL", "reset", "closed")


def test_f26_truncation():
    """A body that ends with the connection is whole only when TLS says that it ends: of its first answer or a later one."""
    def until_close(connection, request):
        if request.target.endswith("first"):
            echo(connection, request)
            return False
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 5000)
        if request.target.endswith("cut"):
            connection.close()
        else:
            connection.finish()
        return True
    for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        server = Upstream(server_context(GOOD, highest=highest), until_close)
        with Gateway({"up": https(server)}) as g:
            for later in (False, True):
                connections = server.connections
                for end in ("whole", "cut", "whole"):
                    if later:
                        g.get("up", "/api/v1/first")
                    answer = g.ask("up", target="/api/v1/" + end)
                    assert answer.status == 200 and answer.whole == (end == "whole"), f"{highest}, {later}, {end}: {answer}"
                    assert not answer.whole or answer.body == b"x" * 5000
                assert server.connections == connections + 3


def test_f26_lengths_cut_short():
    """With a length, or in chunks, what is cut is cut for the client; before the head it is 502."""
    def part(connection, request):
        connection.send({"length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxxx",
                         "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n",
                         "head": b"HTTP/1.1 200 OK\r\nContent-"}[request.target[8:]])
        connection.close()
        return True
    server = good_server(part)
    with Gateway({"up": https(server)}) as g:
        for kind in ("length", "chunks"):
            answer = g.ask("up", target="/api/v1/" + kind)
            assert answer.status == 200 and not answer.whole and answer.body in (b"", b"xxx"), (kind, answer)
        answer = g.ask("up", "POST", "/api/v1/head", b"{}")
        assert answer.status == 502, answer
        assert len(server.requests) == 3, "a request was sent twice"


def test_f27_authority_changed():
    """A reload takes the new authorities; connections made under the old ones serve nobody any more. And a server that
    shows another certificate of an authority that is trusted is the same server."""
    server = good_server()
    work = tempfile.mkdtemp(prefix="sg-ca.", dir=CERTIFICATES)
    ca = os.path.join(work, "ca.pem")
    shutil.copy(OWN.certificate, ca)
    with Gateway({"up": https(server, ca=ca)}) as g:
        g.get("up")
        shutil.copy(OTHER.certificate, ca)
        g.get("up")  # what was read stays in force until the reload
        assert server.connections == 1
        g.reload()
        assert g.ask("up").status == 502, "the old authority is still trusted"
        server.context.load_cert_chain(OTHER.issue("rotated"))
        g.get("up")
        server.context.load_cert_chain(GOOD)
        shutil.copy(OWN.certificate, ca)
        g.reload()
        g.get("up")
        assert g.health("up")["healthy"]
        with open(ca, "w", encoding="ascii") as file:
            file.write("not a certificate\n")
        g.process.send_signal(1)
        wait_for("the fault is logged", lambda: "holds no certificate" in g.log())
        g.get("up")


def test_client_certificate():
    """Shown when written, with the key in the same file or in its own; changed by a reload; its lack is an error."""
    server = Upstream(server_context(GOOD, client_ca=OTHER.certificate))
    first, second = OTHER.issue("first", hosts=()), OTHER.issue("second", hosts=())
    both, cert, key = (os.path.join(CERTIFICATES, name) for name in ("mine.pem", "mine.crt", "mine.key"))
    shutil.copy(first, both)
    shutil.copy(OTHER.path("first.crt"), cert)
    shutil.copy(OTHER.path("first.key"), key)

    def shown():
        return dict(part[0] for part in server.peers[-1]["subject"])["commonName"]
    with Gateway({"one": https(server, tls=f", cert_file: {both}"),
                  "apart": https(server, tls=f", cert_file: {cert}, key_file: {key}"), "none": https(server)}) as g:
        for name in ("one", "apart"):
            g.get(name)
            assert shown() == "first"
        answer = g.ask("none", "POST", "/api/v1/x", b"{}")
        assert answer.status == 502 and len(server.requests) == 2, answer
        shutil.copy(second, both)
        g.reload()
        g.get("one")
        assert shown() == "second", "the old certificate was shown"
        connections = server.connections
        g.get("apart")  # nothing of it has changed, so it keeps its connections
        assert server.connections == connections


def test_server_name():
    """The certificate is held to it and the server is told it; Host stays what the url says."""
    certificate = OWN.issue("named", hosts=("DNS:stacyvm.internal",))
    server = Upstream(server_context(certificate))
    with Gateway({"up": https(server, tls=", server_name: stacyvm.internal"),
                  "wrong": https(server, tls=", server_name: elsewhere.internal"), "none": https(server)}) as g:
        g.get("up")
        assert server.names == ["stacyvm.internal"], server.names
        assert server.requests[0].all("host") == [f"127.0.0.1:{server.port}"]
        for name in ("wrong", "none"):
            answer = g.ask(name)
            message = answer.json()["message"]
            assert answer.status == 502 and any(words in message for words in OTHER_NAME), answer
        assert len(server.requests) == 1


def test_sessions_are_used_again():
    """A second connection resumes the first one's session; another upstream's, and one with other settings, does not."""
    def once(connection, request):
        connection.answer(b"ok", "Connection: close\r\n")
        connection.finish()
        return True
    for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        server = Upstream(server_context(GOOD, highest=highest), once)
        with Gateway({"up": https(server), "twin": https(server)}) as g:
            for _ in range(5):
                g.get("up")
            # With GnuTLS libcurl keeps no tickets of TLS 1.3, and not every session of 1.2.
            least = 4 if not GNUTLS else 3 if highest == ssl.TLSVersion.TLSv1_2 else 0
            resumed = server.resumed
            assert server.handshakes == 5 and least <= resumed <= 4, (highest, server.handshakes, resumed)
            g.get("twin")
            assert (server.handshakes, server.resumed) == (6, resumed), "a session of another upstream"


def test_big_bodies():
    """48 MiB each way at once, byte for byte, past a side that does not read for a while."""
    size = 48 << 20
    blob = random.Random(1).randbytes(size)
    stuck = threading.Event()

    def before(connection):
        assert stuck.wait(20)

    def both_ways(connection, request):
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n"
                        f"X-Digest: {hashlib.sha256(request.body).hexdigest()}\r\n\r\n".encode())
        connection.send(request.body[::-1])
    server = good_server(both_ways, before_body=before)
    with Gateway({"up": https(server)}) as g:
        connection = g.connect("up")
        connection.connect()
        sent = [0]

        def upload():
            connection.sock.sendall(f"POST /api/v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
            for at in range(0, size, 65536):
                connection.sock.sendall(blob[at:at + 65536])
                sent[0] = at + 65536
        sender = threading.Thread(target=upload)
        sender.start()
        # The server reads nothing: what was taken is in buffers, and the gateway has had to try again.
        wait_for("buffers fill", lambda: sent[0] > 0)
        last, since = sent[0], time.monotonic()
        while time.monotonic() - since < 0.3:
            time.sleep(0.01)
            if sent[0] != last:
                last, since = sent[0], time.monotonic()
        assert last < size // 2, f"the gateway takes in more than it can hold: {last}"
        stuck.set()
        sender.join()
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        body = answer.read()
        assert answer.status == 200, (answer.status, body[:300], g.log())
        assert answer.getheader("X-Digest") == hashlib.sha256(blob).hexdigest(), "the upload arrived changed"
        assert body == blob[::-1], "the download arrived changed"
        connection.close()
        answer = g.ask("up", "POST", "/api/v1/y", iter([blob[:100000], blob[100000:size]]))  # chunked
        assert answer.status == 200 and answer.body == blob[::-1], answer


def test_f32_chunks_at_once():
    """No chunk waits for the next: the server sends one only when the client has had the one before."""
    had = threading.Semaphore(0)

    def stream(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(200):
            line = b'{"n":%d}\n' % i + b" " * (i * 100 % 20000) + b"\n"
            connection.send(b"%x\r\n%s\r\n" % (len(line), line))
            assert had.acquire(timeout=10), f"chunk {i} was held back"
        connection.send(b"0\r\n\r\n")
    server = good_server(stream)
    with Gateway({"up": https(server)}) as g:
        connection = g.connect("up")
        connection.request("GET", "/api/v1/x")
        answer = connection.getresponse()
        for i in range(200):
            assert answer.readline() == b'{"n":%d}\n' % i
            assert answer.readline().strip() == b""
            had.release()
        assert answer.read() == b""
        connection.close()
        assert not server.faults, server.faults


def test_many_on_a_pool():
    """200 at once share 8 connections; everybody gets the answer to his own request."""
    server = good_server()
    with Gateway({"up": https(server, "pool: { max_connections: 8, max_per_identity: 8, max_idle: 8 }")}) as g:
        wrong = []

        def ask(n):
            try:
                answer = g.get("up", f"/api/v1/x?n={n}").json()
                if answer["target"] != f"/api/v1/x?n={n}":
                    wrong.append(answer)
            except Exception as fault:
                wrong.append(repr(fault))
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(200)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong, wrong[:3]
        assert len(server.requests) == 200 and server.connections <= 8, (len(server.requests), server.connections)
        assert g.pool("up")["evicted"] == 0


def test_tickets_do_not_evict():
    """Session tickets lie unread on a fresh TLS 1.3 connection: it is kept and used all the same."""
    server = Upstream(server_context(GOOD, lowest=ssl.TLSVersion.TLSv1_3))
    with Gateway({"up": https(server, "pool: { min_idle: 3, max_idle: 8 }")}) as g:
        wait_for("three are dialled ahead", lambda: g.pool("up")["idle"] == 3 and server.handshakes == 3)
        for i in range(30):
            assert g.get("up", f"/api/v1/{i}").json()["target"] == f"/api/v1/{i}"
        pool = g.pool("up")
        assert pool["evicted"] == 0, pool
        assert pool["reused"] >= 26 and server.handshakes <= 5, (pool, server.connections)


def test_idle_ends():
    """A connection that ends while idle, with or without a good-bye, serves nobody any more; nothing is sent twice."""
    kept = []

    def keep(connection, request):
        kept.append(connection.orders)
        echo(connection, request)
        return connection.obey()
    server = good_server(keep)
    with Gateway({"up": https(server)}) as g:
        for n, end in enumerate((Connection.finish, Connection.close, Connection.reset)):
            g.get("up")
            kept[-1].put(end)
            wait_for("it is evicted", lambda n=n: g.pool("up")["evicted"] == 2 * n + 1)
            assert g.ask("up", "POST", "/api/v1/x", b"{}").status == 200
            assert g.pool("up")["connections"] == 1
            kept[-1].put(Connection.close)
            wait_for("it is evicted", lambda: g.pool("up")["connections"] == 0)
            assert len(server.requests) == 2 * (n + 1)


def test_client_leaves_a_silent_stream():
    """The server hears it at once, also one that answers no good-bye: libcurl 8.14 waits 2 s for that where it may."""
    ended = []

    def silent(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        established = connection.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        wait_for("the client has left", lambda: connection.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != established)
        ended.append(time.monotonic())
        return True
    server = good_server(silent)
    with Gateway({"up": https(server)}) as g:
        client = g.connect("up")
        client.request("GET", "/api/v1/x")
        assert client.getresponse().read(2) == b"hi"
        left = time.monotonic()
        client.close()
        wait_for("the server has heard", lambda: ended)
        assert ended[0] - left < 1.5, ended[0] - left
        wait_for("it is gone", lambda: g.pool("up")["connections"] == 0)


def test_c15_unasked_bytes():
    """What a server says unasked on an idle connection is nobody's answer."""
    kept = []

    def keep(connection, request):
        kept.append(connection.orders)
        echo(connection, request)
        return connection.obey()
    server = good_server(keep)
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    with Gateway({"up": https(server)}) as g:
        for n in range(3):
            g.get("up")
            kept[-1].put(lambda connection, n=n: connection.send(evil[:1] if n == 1 else evil))
            wait_for("it is evicted", lambda n=n: g.pool("up")["evicted"] == 2 * n + 1)
            assert g.get("up", "/api/v1/next").json()["target"] == "/api/v1/next"
            kept[-1].put(Connection.finish)
            wait_for("it is gone", lambda: g.pool("up")["connections"] == 0)


def test_c15_bytes_behind_an_answer():
    """C15: an answer and half of another in one record: the rest dies with its connection."""
    def more(connection, request):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    server = good_server(more)
    with Gateway({"up": https(server)}) as g:
        for _ in range(5):
            assert g.get("up").body == b"ok"
        assert server.connections == 5


def test_c15_record_behind_an_answer():
    """C15: what comes in a record of its own behind an answer, the first or a later one, is nobody's."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    def answers(connection, request):
        # Corked, both records come at once.
        connection.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        echo(connection, request)
        if request.target.endswith("evil"):
            connection.send(evil)
        connection.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    server = good_server(answers)
    with Gateway({"up": https(server)}) as g:
        for n in range(20):
            for target in ("/api/v1/evil", "/api/v1/a", "/api/v1/b", "/api/v1/evil")[n % 3:]:
                assert g.get("up", target).json()["target"] == target


def test_large_record_in_pieces():
    """An answer longer than a read, in one TLS record and in many, with the reader's end in the middle of one."""
    body = random.Random(2).randbytes(300000)

    def send(connection, request):
        n = int(request.target.rsplit("/", 1)[1])
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:n])
        connection.send(body[n:])
    server = good_server(send)
    with Gateway({"up": https(server)}) as g:
        for n in (0, 1, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 299999):
            assert g.get("up", f"/api/v1/{n}").body == body, n
        assert server.connections == 1


def test_tunnel():
    """A WebSocket's bytes, both ways at once, and the end of each side."""
    size = 4 << 20

    def upgrade(connection, request):
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        connection.send(connection.take(size)[::-1])
        connection.finish()
        return True
    server = good_server(upgrade)
    blob = random.Random(3).randbytes(size)
    with Gateway({"up": https(server)}) as g:
        connection = g.connect("up")
        connection.connect()
        connection.sock.sendall(b"GET /api/v1/x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.sock.recv(4096)
            assert piece, head
            head += piece
        assert head.startswith(b"HTTP/1.1 101 "), head
        sender = threading.Thread(target=connection.sock.sendall, args=(blob,))
        sender.start()
        got = head.split(b"\r\n\r\n", 1)[1]
        while piece := connection.sock.recv(1 << 20):
            got += piece
        sender.join()
        assert got == blob[::-1], f"{len(got)} bytes of {size}, or others"
        connection.close()


def test_x6_key_log():
    """SSLKEYLOGFILE would give away the session keys, and so the API key."""
    server = good_server()
    work = tempfile.mkdtemp(prefix="sg-keylog.", dir=CERTIFICATES)
    log = os.path.join(work, "keys")
    with Gateway({"up": https(server)}, env={"SSLKEYLOGFILE": log, "CURL_CA_BUNDLE": OTHER.certificate,
                                            "SSL_CERT_FILE": OTHER.certificate}) as g:
        g.get("up")
        assert not os.path.exists(log), "the session keys were written to a file"


def test_parallel_dials_fail_alike():
    """Many wait while the certificate is refused: everybody is told why, and the circuit opens."""
    server = Upstream(server_context(OTHER.issue("stranger2")))
    with Gateway({"up": https(server)}) as g:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(g.ask("up"))) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert [a.status for a in answers] == [502] * 20, answers
        assert all("certificate" in a.json()["message"] for a in answers), answers
        assert g.pool("up")["circuit_open"] and server.plain == 0
    server.close()


if __name__ == "__main__":
    try:
        main([test_private_ca_accepted, test_f24_expired, test_f24_not_yet_valid, test_f24_wrong_host,
              test_f24_common_name_is_not_enough, test_f24_self_signed, test_f24_system_authorities,
              test_f24_old_versions, test_f25_handshake_stall, test_f25_reset_in_handshake, test_f25_garbage,
              test_f25_closes_in_handshake, test_f26_truncation, test_f26_lengths_cut_short,
              test_f27_authority_changed, test_client_certificate, test_server_name,
              test_sessions_are_used_again, test_big_bodies, test_f32_chunks_at_once, test_many_on_a_pool,
              test_tickets_do_not_evict, test_idle_ends, test_client_leaves_a_silent_stream, test_c15_unasked_bytes,
              test_c15_bytes_behind_an_answer, test_c15_record_behind_an_answer,
              test_large_record_in_pieces, test_tunnel, test_x6_key_log,
              test_parallel_dials_fail_alike])
    finally:
        shutil.rmtree(CERTIFICATES, ignore_errors=True)
