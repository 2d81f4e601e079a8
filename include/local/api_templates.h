/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of the saved templates; spawning from one is api_sandbox's. */
#ifndef LOCAL_API_TEMPLATES_H
#define LOCAL_API_TEMPLATES_H

struct call;

void api_templates_list(struct call *call);
void api_templates_create(struct call *call);
void api_templates_get(struct call *call);
void api_templates_replace(struct call *call);
void api_templates_delete(struct call *call);

#endif
