/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/dial_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config.h"

static char *make_authority(const struct config_upstream *config)
{
	bool tls = config->scheme == CONFIG_HTTPS;
	char *text;

	if (config->scheme != CONFIG_HTTP && !tls)
		return strdup("localhost");
	if (config->port == (tls ? 443 : 80))
		return strdup(config->host);
	return asprintf(&text, "%s:%u", config->host, config->port) < 0 ? NULL : text;
}

static char *copy_of(const char *text, bool *failed)
{
	char *copy = text ? strdup(text) : NULL;

	*failed = *failed || (text && !copy);
	return copy;
}

int dial_place_init(struct dial_place *p, const struct config_upstream *config, const char *unix_path)
{
	bool tls = config->scheme == CONFIG_HTTPS;
	bool failed = false;

	p->authority = make_authority(config);
	if (!p->authority)
		return -ENOMEM;
	p->unix_path = copy_of(unix_path, &failed);
	p->cert_file = copy_of(config->tls.cert_file, &failed);
	p->key_file = copy_of(config->tls.key_file, &failed);
	p->proxy = copy_of(config->proxy, &failed);
	buf_add_str(&p->ca, buf_str(&config->tls.ca));
	if (tls && config->tls.server_name) {
		if (asprintf(&p->url, "https://%s:%u/", config->tls.server_name, config->port) < 0)
			p->url = NULL;
		if (asprintf(&p->connect_to, "%s:%u:%s:%u", config->tls.server_name, config->port, config->host,
			     config->port) < 0)
			p->connect_to = NULL;
		failed = failed || !p->connect_to;
	} else if (asprintf(&p->url, "%s://%s/", tls ? "https" : "http", p->authority) < 0) {
		p->url = NULL;
	}
	if (tls)
		p->share = dial_share_new();
	return !failed && p->url && !p->ca.failed && (!tls || p->share) ? 0 : -ENOMEM;
}

void dial_place_fini(struct dial_place *p)
{
	free(p->authority);
	free(p->url);
	free(p->unix_path);
	free(p->connect_to);
	free(p->cert_file);
	free(p->key_file);
	free(p->proxy);
	buf_fini(&p->ca);
	dial_share_free(p->share);
}

struct dial_target dial_place_target(const struct dial_place *p, bool no_near, uint64_t timeout_ms)
{
	return (struct dial_target){
		.url = p->url,
		.connect_to = p->connect_to,
		.unix_path = p->unix_path,
		.ca = buf_str(&p->ca),
		.cert_file = p->cert_file,
		.key_file = p->key_file,
		.proxy = p->proxy,
		.no_near = no_near,
		.share = p->share,
		.timeout_ms = timeout_ms,
	};
}
