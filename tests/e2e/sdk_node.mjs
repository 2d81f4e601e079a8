// SPDX-License-Identifier: Apache-2.0
// The promises of the SDK, kept over the socket to Node's own http client, as a program that knows no SDK would use it.
import http from 'node:http';
import { promises, socketPath } from './sdk_promises.mjs';

const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

function open(method, path, headers, text, to = socketPath) {
	if (text !== undefined) headers['Content-Length'] = Buffer.byteLength(text);
	return new Promise((resolve, reject) => {
		const request = http.request({ socketPath: to, agent, method, path, headers }, (response) => resolve({
			status: response.statusCode, headers: response.headers, pieces: response, leave: () => response.destroy(),
		}));
		request.on('error', reject);
		request.end(text);
	});
}

promises({
	config: () => undefined,
	isolated: false,
	open,
	nobody: () => open('GET', '/api/v1/health', {}, undefined, `${socketPath}.none`),
	refused: { code: 'ENOENT' },
	close: () => agent.destroy(),
});
