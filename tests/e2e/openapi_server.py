# SPDX-License-Identifier: Apache-2.0
"""A server that answers what a real StacyVM server answers to operations that the embedded one does not have, or differently:
one example for each, in the words of the API's documentation."""
import http.server
import json
import threading

NOW, LATER = "2026-01-02T03:04:05.123456789+05:30", "2026-01-02T04:04:05Z"
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
SANDBOX = {"id": "sb-0000000a", "state": "idle", "provider": "docker", "image": "alpine:latest", "memory_mb": 1024, "vcpus": 1, "owner_id": "alice",
           "tenant_id": "t1", "vm_id": "vm-1", "worker_id": "local", "created_at": NOW, "expires_at": LATER, "metadata": {"k": "v"}, "preview_domain": "localhost"}
TEMPLATE = {"name": "t", "version": 0, "image": "i", "memory_mb": 0, "cpu_cores": 0, "ttl_seconds": 0, "pool_size": 0,
            "created_at": "0001-01-01T00:00:00Z", "updated_at": NOW}
PROVIDER = {"name": "docker", "healthy": False, "default": True, "latency_ms": 3, "last_checked": LATER, "error": "no", "runtime_count": 2,
            "capabilities": ["spawn", "exec", "exec_stream", "files", "console", "health", "runtime_inventory", "container"]}
DETAIL = {"name": "docker", "healthy": True, "default": True, "sandbox_count": 2, "health": PROVIDER,
          "config": {"network": "bridge", "runtime": "runc", "type": "docker"}}
QUOTA = {"owner_id": "team-a", "max_sandboxes": 2, "max_ttl": "2h0m0s", "max_exec_timeout": "1m0s", "created_at": LATER, "updated_at": LATER}
USAGE = {"owner_id": "nobody", "active_sandboxes": 0, "max_sandboxes": 0, "max_ttl": "24h0m0s", "max_exec_timeout": "10m0s", "quota_configured": False}
SUMMARY = {"total": 1, "with_max_sandboxes": 1, "with_max_ttl": 1, "with_max_exec_timeout": 1}
WORKER = {"id": "w", "hostname": "h", "status": "online", "providers": ["docker"], "capabilities": None, "capacity": {"max_sandboxes": 4, "rpc_url": "http://h:1"},
          "last_heartbeat": LATER, "created_at": LATER, "updated_at": LATER, "stale": False}
METRICS = {"events": {"subscribers": 0, "history_size": 0, "events_total": 0}, "gc_cycles": 1, "goroutines": 9, "memory_alloc": 1, "operations": [],
           "providers": {"total": 1, "healthy": 1, "items": []}, "sandboxes": {"total": 0, "active": 0}, "uptime": "6.611358ms", "workers": {}}
DIAGNOSTICS = {"build": {}, "generated_at": LATER, "limits": {}, "redactions": []}
SPEC = {"id": "s", "owner_id": "o", "name": "n", "base_image": "i", "python_packages": ["numpy"], "apt_packages": None, "python_version": "3.12",
        "created_at": NOW, "updated_at": NOW}
BUILD = {"id": "b", "spec_id": "s", "status": "ready", "current_step": "done", "log": "", "image_size_bytes": 1, "digest_local": "sha256:0", "created_at": NOW,
         "finished_at": NOW, "updated_at": NOW, "artifacts": []}
REGISTRY = {"id": "r", "owner_id": "o", "provider": "ghcr", "username": "u", "is_default": True, "created_at": NOW, "updated_at": NOW}
AUDIT = {"id": "a", "actor": "x", "method": "GET", "path": "/p", "status": 200, "duration_ms": 1, "request_id": "q", "remote_addr": "127.0.0.1",
         "user_agent": "u", "tenant_id": "", "created_at": LATER}
TENANT = {"id": "t", "name": "n", "owner_id": "o", "settings": "{}", "created_at": LATER, "updated_at": LATER}
EVENT = {"id": "evt-1", "type": "operation.failed", "sandbox_id": "sb-0000000a", "timestamp": NOW, "data": {"error": "e", "operation": "exec", "provider": "docker"}}


def both(method, path, status, value, kind=JSON):
    """The public route, and the same below /admin."""
    return {(method, path): (status, kind, value), (method, "/admin" + path): (status, kind, value)}


# (method, path below /api/v1) -> status, content type, body
EXAMPLES = {
    ("GET", "/sandboxes"): (200, JSON, [SANDBOX]), ("GET", "/sandboxes/sb-0000000a"): (200, JSON, SANDBOX),
    ("POST", "/sandboxes/admission"): (200, JSON, {"allowed": True, "queueable": False, "active_sandboxes": 3, "max_sandboxes": 0, "max_ttl": "24h0m0s",
                                                   "selected_worker_id": "local", "eligible_workers": 1}),
    ("GET", "/sandboxes/sb-0000000a/stats"): (200, JSON, {"cpu_pct": 1.5, "mem_bytes": 1, "mem_limit_bytes": 2, "supported": True}),
    ("GET", "/sandboxes/sb-0000000a/exec/ws"): (501, TEXT, b"Not Implemented\n"),
    ("GET", "/sandboxes/sb-0000000a/files/list"): (200, JSON, [{"path": "workspace/d/a.txt", "size": 7, "mode": "-rw-r--r--", "is_dir": False, "mod_time": LATER}]),
    ("GET", "/sandboxes/sb-0000000a/files/glob"): (200, JSON, None),
    ("GET", "/sandboxes/sb-0000000a/logs"): (404, TEXT, b"404 page not found\n"),
    ("GET", "/templates"): (200, JSON, [TEMPLATE]), ("GET", "/templates/t"): (200, JSON, TEMPLATE), ("PUT", "/templates/t"): (200, JSON, TEMPLATE),
    ("GET", "/ready"): (503, JSON, {"status": "not_ready", "providers": [PROVIDER], "ready_providers": 0, "total_providers": 1, "uptime": "1m0s", "version": "0.15.0"}),
    ("GET", "/pool/status"): (200, JSON, {"enabled": True, "vms": 1, "max_vms": 2, "total_users": 3, "max_users_per_vm": 4}),
    ("GET", "/snapshots"): (200, JSON, [{"image": "i", "provider": "firecracker", "created_at": NOW}]),
    ("GET", "/events"): (200, "text/event-stream", b"data: " + json.dumps(EVENT).encode() + b"\n\n"),
    **both("GET", "/providers", 200, [PROVIDER]), **both("GET", "/providers/docker", 200, DETAIL), **both("POST", "/providers/test", 200, {"docker": True}),
    **both("GET", "/quotas", 200, [QUOTA]), **both("GET", "/quotas/summary", 200, SUMMARY), **both("GET", "/quotas/team-a", 200, QUOTA),
    **both("GET", "/quotas/team-a/usage", 200, USAGE), **both("PUT", "/quotas/team-a", 200, QUOTA), **both("DELETE", "/quotas/team-a", 200, {"status": "deleted"}),
    **both("GET", "/metrics", 200, METRICS), **both("GET", "/diagnostics", 200, DIAGNOSTICS),
    **both("GET", "/metrics/prometheus", 200, b"stacyvm_up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
    **both("GET", "/workers", 200, [WORKER]), **both("GET", "/workers/w", 200, WORKER),
    ("PATCH", "/config"): (200, JSON, {"message": "Configuration saved successfully. Please restart StacyVM for changes to take effect.", "status": "updated"}),
    ("POST", "/environments/specs"): (201, JSON, SPEC), ("GET", "/environments/specs"): (200, JSON, [SPEC]), ("GET", "/environments/specs/s"): (200, JSON, SPEC),
    ("GET", "/environments/specs/s/suggestions"): (200, JSON, {"spec_id": "s", "suggestions": ["pin numpy"]}),
    ("POST", "/environments/builds"): (201, JSON, BUILD), ("GET", "/environments/builds"): (200, JSON, None), ("GET", "/environments/builds/b"): (200, JSON, BUILD),
    ("POST", "/environments/builds/b/cancel"): (409, JSON, {"code": "CONFLICT", "message": "build already finalized"}),
    ("GET", "/environments/builds/b/spawn-config"): (200, JSON, {"build_id": "b", "build_status": "ready", "ready": True, "provider": "docker", "image": "i",
                                                                 "target": "local", "digest": "sha256:0", "note": ""}),
    ("POST", "/environments/registry-connections"): (201, JSON, REGISTRY), ("GET", "/environments/registry-connections"): (200, JSON, [REGISTRY]),
    ("DELETE", "/environments/registry-connections/r"): (200, JSON, {"status": "deleted"}),
    ("GET", "/admin/audit"): (200, JSON, [AUDIT]), ("GET", "/admin/audit?format=csv"): (200, "text/csv", b"id,actor\na,x\n"),
    ("POST", "/admin/workers/w/heartbeat"): (200, JSON, WORKER), ("DELETE", "/admin/workers/w"): (200, JSON, {"status": "deleted"}),
    ("POST", "/admin/workers/w/leases/r/renew"): (200, JSON, {"lease": {"resource_id": "r", "holder_id": "w", "generation": 2, "expires_at": LATER}}),
    ("GET", "/admin/tenants"): (200, JSON, {"tenants": [TENANT]}), ("POST", "/admin/tenants"): (201, JSON, {"tenant": TENANT}),
    ("GET", "/admin/tenants/t"): (200, JSON, {"tenant": TENANT}), ("PUT", "/admin/tenants/t"): (200, JSON, {"tenant": TENANT}), ("DELETE", "/admin/tenants/t"): (204, None, b""),
    ("GET", "/admin/tenants/t/members"): (200, JSON, {"members": []}), ("PUT", "/admin/tenants/t/members/u"): (200, JSON, {"user": "u", "role": "viewer"}),
    ("DELETE", "/admin/tenants/t/members/u"): (204, None, b""),
    ("GET", "/admin/tenants/t/audit"): (200, JSON, {"tenant_id": "t", "exported_at": LATER, "admin_audit": [AUDIT], "op_audit": None}),
    ("GET", "/admin/tenants/t/policies"): (200, JSON, {"policies": []}), ("POST", "/admin/tenants/t/policies"): (201, JSON, {"id": "p"}),
    ("DELETE", "/admin/tenants/t/policies/p"): (204, None, b""),
    ("POST", "/admin/worker-tokens"): (200, JSON, {"token": "x", "worker_id": "w", "expires_at": LATER}),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/api/v1")
        key = (self.command, path if "format=csv" in path else path.partition("?")[0])
        status, kind, value = EXAMPLES.get(key, (401, JSON, {"code": "UNAUTHORIZED", "message": "invalid or missing API key"}))
        body = value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", self.headers.get("X-Request-ID", "none"))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

    def log_message(self, *_):
        pass


def start():
    """The port on 127.0.0.1; it goes on until the process ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
