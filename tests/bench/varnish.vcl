# SPDX-License-Identifier: Apache-2.0
# Varnish with the gateway's duties for a read that is remembered: two headers of its own, answers kept by user for 30 s and
# used for 10 min more when the server is gone. @WORDS@ are replaced by tests/bench/run.
vcl 4.1;

backend bench {
	.path = "@UPSTREAM@";
}

sub vcl_recv {
	set req.http.X-API-Key = "bench-key-0123456789abcdef0123456789abcdef";
	set req.http.X-User-ID = "bench-user@bench";
	return (hash);
}

sub vcl_hash {
	hash_data(req.http.X-User-ID);
}

sub vcl_backend_response {
	set beresp.ttl = 30s;
	set beresp.grace = 10m;
}

sub vcl_deliver {
	if (obj.hits > 0) {
		set resp.http.X-Cache = "HIT";
	}
}
