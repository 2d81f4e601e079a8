/* SPDX-License-Identifier: Apache-2.0 */
/* Every handle of libcurl calls a connection too old after a second, so that a test need not wait for two minutes. */
#include <curl/curl.h>

CURL *__real_curl_easy_init(void);
CURL *__wrap_curl_easy_init(void);

CURL *__wrap_curl_easy_init(void)
{
	CURL *easy = __real_curl_easy_init();

	if (easy)
		curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, 1L);
	return easy;
}
