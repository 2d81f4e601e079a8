// SPDX-License-Identifier: Apache-2.0
// The promises of the SDK, kept over loopback TCP to Node's own fetch with the headers that the TypeScript SDK sends, under
// isolation: owner. The key and the user id that it is given reach no server.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { api, ask, destroy, exec, fault, log, ok, promises, row, socketPath, spawn } from './sdk_promises.mjs';

const KEY = 'SEKRET-fetch-key';
const DUMMY = 'dummy-key-of-the-sdk';
const ports = {}; // listener -> port
const leave = new AbortController(); // ends what is still open at the end

const listens = (server, port, host) => new Promise((resolve, reject) => {
	server.once('error', reject);
	server.listen(port, host, () => resolve(server.address().port));
});

// A port that nobody has on either loopback address, below those that the kernel takes by itself.
async function freePort() {
	for (;;) {
		const port = 20000 + Math.floor(Math.random() * 12000);
		if (Object.values(ports).includes(port)) continue;
		const servers = [];
		try {
			for (const host of ['127.0.0.1', '::1']) {
				const server = net.createServer();
				await listens(server, port, host).catch((e) => { if (e.code !== 'EADDRNOTAVAIL') throw e; });
				servers.push(server);
			}
			return port;
		} catch {
			// Somebody has it.
		} finally {
			for (const server of servers) if (server.listening) await new Promise((resolve) => server.close(resolve));
		}
	}
}

// A server that remembers what it was sent.
const seen = [];
const recorder = http.createServer(async (request, response) => {
	let text = '';
	for await (const piece of request) text += piece;
	seen.push({ line: `${request.method} ${request.url}`, headers: request.headersDistinct, raw: request.rawHeaders.join('\n'), text });
	response.setHeader('Content-Type', 'application/json');
	response.end('[]');
});
recorder.unref();

// YAML as well.
async function config(dir) {
	for (const name of ['sdk', 'recorded', 'nobody']) ports[name] = await freePort();
	const key = path.join(dir, 'key');
	writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
	const url = `http://127.0.0.1:${await listens(recorder, 0, '127.0.0.1')}`;
	const rule = (name, more) => ({ name, match: { listener: name }, user_id: `${name}@test`, ...more });
	return JSON.stringify({
		listen: [{ path: socketPath, name: 'own' }, { tcp: `127.0.0.1:${ports.sdk}`, name: 'sdk' }, { tcp: `127.0.0.1:${ports.recorded}`, name: 'recorded' }],
		upstreams: { here: { url: 'local' }, recorder: { url } },
		credentials: { team: { api_key: { file: key } } },
		clients: [
			rule('sdk', { upstream: 'here', isolation: 'owner', allow: ['sandboxes', 'templates:read', 'templates:write', 'system', 'prune'] }),
			rule('recorded', { upstream: 'recorder', credential: 'team', isolation: 'none' }),
			rule('own', { upstream: 'here', allow: ['all'], isolation: 'none' }),
		],
	}, null, 1);
}

// As the SDK does: key and user id on every request, a Content-Type only with a body.
async function open(method, target, headers, body, listener = 'sdk', host = 'localhost') {
	const control = new AbortController();
	const response = await fetch(`http://${host}:${ports[listener]}${target}`, {
		method, body, signal: AbortSignal.any([control.signal, leave.signal]),
		headers: { 'X-API-Key': DUMMY, 'X-User-ID': 'mallory', ...headers },
	});
	return { status: response.status, headers: Object.fromEntries(response.headers), pieces: response.body ?? [], leave: () => control.abort() };
}

promises({
	config,
	isolated: true,
	open,
	nobody: () => open('GET', '/api/v1/health', {}, undefined, 'nobody'),
	refused: (e) => e instanceof TypeError && [e.cause, ...(e.cause.errors ?? [])].some(({ code }) => code === 'ECONNREFUSED'),
	close: () => {
		leave.abort();
		recorder.close();
	},
});

row('row 1: by each name of this machine, with a user id that is the gateway\'s', async () => {
	for (const host of ['localhost', '127.0.0.1']) assert.equal((await open('GET', '/api/v1/health', {}, undefined, 'sdk', host)).status, 200, host);
	const made = await spawn({ image: 'node:20', owner_id: 'mallory' });
	assert.deepEqual([made.owner_id, made.metadata['stacygate.owner']], ['sdk@test', 'sdk@test']);
	await destroy(made.id);
});

row('what fetch sends goes through, what the SDK was given as key and user id does not', async () => {
	const before = seen.length;
	const text = JSON.stringify({ image: 'x', owner_id: 'mallory' });
	for (const [method, target, body] of [['GET', '/api/v1/sandboxes?a=b+c%7E*', undefined], ['POST', '/api/v1/sandboxes', text], ['DELETE', '/api/v1/sandboxes/sb-0000000a', undefined]]) {
		const answer = await open(method, target, body ? { 'Content-Type': 'application/json' } : {}, body, 'recorded');
		assert.equal(answer.status, 200);
		assert.ok(!('access-control-allow-origin' in answer.headers));
		for await (const piece of answer.pieces) assert.equal(Buffer.from(piece).toString(), '[]');
	}
	const mine = seen.slice(before).filter(({ line }) => line.includes('/sandboxes'));
	assert.deepEqual(mine.map(({ line }) => line), ['GET /api/v1/sandboxes?a=b+c%7E*', 'POST /api/v1/sandboxes', 'DELETE /api/v1/sandboxes/sb-0000000a']);
	for (const { headers, raw, text: body } of mine) {
		assert.deepEqual([headers['x-api-key'], headers['x-user-id']], [[KEY], ['recorded@test']]);
		assert.deepEqual([headers['user-agent'], headers.accept, headers['sec-fetch-mode']], [['node'], ['*/*'], ['cors']]);
		assert.ok(!(raw + body).includes(DUMMY) && !(raw + body).includes('mallory'), raw + body);
	}
	assert.deepEqual(mine.map(({ headers }) => headers['content-type']), [undefined, ['application/json'], undefined]);
	assert.ok(!log().includes(DUMMY) && !log().includes(KEY));
});

row('another owner\'s sandbox is none', async () => {
	const others = await new Promise((resolve, reject) => {
		const request = http.request({ socketPath, method: 'POST', path: '/api/v1/sandboxes' }, async (response) => {
			let text = '';
			for await (const piece of response) text += piece;
			resolve(JSON.parse(text).id);
		});
		request.on('error', reject);
		request.end('{}');
	});
	await fault(api('GET', `/sandboxes/${others}`), 404, 'NOT_FOUND', `sandbox not found: ${others}`);
	await fault(api('DELETE', `/sandboxes/${others}`), 404, 'NOT_FOUND', `sandbox not found: ${others}`);
	await fault(api('POST', `/sandboxes/${others}/exec`, { command: 'true' }), 404, 'NOT_FOUND', others);
	const mine = await spawn();
	assert.deepEqual((await ok(api('GET', '/sandboxes'))).map((s) => s.id), [mine.id]);
	assert.equal((await exec(mine.id, 'echo mine')).stdout, 'mine\n');
	await destroy(mine.id);
	assert.equal((await ask('GET', '/gateway/v1/whoami')).json.user_id, 'sdk@test');
});
