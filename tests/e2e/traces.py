# SPDX-License-Identifier: Apache-2.0
"""What the gateway sends to a collector is what OpenTelemetry's own definition of it takes: read by protobuf's JSON reader into
ExportTraceServiceRequest, which refuses every unknown name and every value of another type."""
import base64
import http.server
import json
import os
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import environment  # noqa: E402
import sg  # noqa: E402

PACKAGES = ["opentelemetry-proto==1.45.2", "protobuf==7.36.2"]
MODULE = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODIES = []


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        BODIES.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def read(body):
    """The request as protobuf has it. In OTLP's JSON ids are hexadecimal, where protobuf's own has base64."""
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    value = json.loads(body)
    for resource in value["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in {"traceId", "spanId", "parentSpanId"} & set(span):
                    span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return json_format.ParseDict(value, trace_service_pb2.ExportTraceServiceRequest())


def test_the_definition_takes_it():
    from opentelemetry.proto.trace.v1 import trace_pb2
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    gateway = sg.Gateway(f"tracing: {{ endpoint: 'http://127.0.0.1:{collector.server_address[1]}/v1/traces', sample: 1 }}\n").start()
    try:
        asked = {"/api/v1/health": 200, "/api/v1/sandboxes": 200, "/api/v1/sandboxes/sb-00000000": 404, "/gateway/v1/whoami": 200}
        for target, status in asked.items():
            assert gateway.request("GET", target, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).status == status, target
        gateway.stop()
        spans = [span for body in BODIES for resource in read(body).resource_spans for scope in resource.scope_spans for span in scope.spans]
        ours = [span for span in spans if span.trace_id.hex() == TRACE]
        assert len(ours) == len(asked), spans
        assert {span.parent_span_id.hex() for span in ours} == {PARENT} and len({span.span_id for span in ours}) == len(asked)
        assert {span.kind for span in spans} == {trace_pb2.Span.SPAN_KIND_SERVER}
        codes = {a.value.int_value for span in ours for a in span.attributes if a.key == "http.response.status_code"}
        assert codes == set(asked.values()), codes
        assert all(0 < span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
        # Those that asked whether the gateway was there began traces of their own.
        assert any(span.trace_id.hex() != TRACE and not span.parent_span_id for span in spans)
    finally:
        gateway.remove()
        collector.shutdown()


def test_what_is_none_is_refused():
    from google.protobuf import json_format
    for old, new in ((b'"kind":', b'"kindd":'), (b'"startTimeUnixNano":"', b'"startTimeUnixNano":"x'), (b'"intValue":"', b'"intValue":"x')):
        assert old in BODIES[-1]
        try:
            read(BODIES[-1].replace(old, new))
        except json_format.ParseError:
            continue
        raise AssertionError(f"{new} passes, so nothing here was tested")


if __name__ == "__main__":
    environment.enter("otlp-python", PACKAGES, MODULE)
    sys.exit(sg.main(globals()))
