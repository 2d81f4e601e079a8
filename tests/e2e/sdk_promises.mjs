// SPDX-License-Identifier: Apache-2.0
// The promises of the SDK, kept through a real gateway to whatever `transport` asks with:
//   config(dir)         the text of a configuration file, or undefined for none
//   open(method, path, headers, text)   sends one request; resolves at the head: status, headers in lower case, an async
//                       iterator over the body's pieces, leave() to end it early
//   nobody(), refused   a request where nobody listens, and how its error looks
//   isolated            whether its rule is under isolation: owner, where a destroyed sandbox is as one that never was
//   close()             drops what connections are kept
import assert from 'node:assert/strict';
import { spawn as start, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

const BUILD = path.resolve(process.env.SG_BUILDDIR ?? '.');
const dir = mkdtempSync('/tmp/sg-node.');
export const socketPath = path.join(dir, 'run', 'stacygate.sock');
const logPath = path.join(dir, 'log');
let transport;
let gateway;
let ended; // resolves when the gateway has ended

const probe = spawnSync('bwrap', ['--unshare-user', '--unshare-pid', '--ro-bind', '/', '/', '--proc', '/proc', 'true']);
const refused = probe.status !== 0;
if (refused) console.log(`SKIPPED: user namespaces are refused here, or bwrap is missing: ${probe.stderr ?? probe.error}`);

export const log = () => readFileSync(logPath, 'utf8');

function open(method, target, body, headers) {
	const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
	return transport.open(method, target, { ...(text !== undefined && { 'Content-Type': 'application/json' }), ...headers }, text);
}

export async function ask(method, target, body, headers) {
	const response = await open(method, target, body, headers);
	const pieces = [];
	for await (const piece of response.pieces) pieces.push(piece);
	const bytes = Buffer.concat(pieces);
	return { status: response.status, headers: response.headers, bytes, get json() { return JSON.parse(bytes.toString()); } };
}

export const api = (method, target, body) => ask(method, `/api/v1${target}`, body);

export async function ok(promise, status = 200) {
	const answer = await promise;
	assert.equal(answer.status, status, answer.bytes.toString());
	return answer.json;
}

export async function fault(promise, status, code, text = '') {
	const answer = await promise;
	assert.equal(answer.status, status, answer.bytes.toString());
	assert.deepEqual(Object.keys(answer.json).sort(), ['code', 'message']);
	assert.equal(answer.json.code, code);
	assert.ok(answer.json.message.includes(text), answer.json.message);
}

async function until(question, what, seconds = 30) {
	for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(10)) if (await question()) return;
	assert.fail(`not within ${seconds} s: ${what}`);
}

export const spawn = (fields = {}) => ok(api('POST', '/sandboxes', fields), 201);
export const exec = (id, command, fields = {}) => ok(api('POST', `/sandboxes/${id}/exec`, { command, ...fields }));
const write = (id, file, content, mode) => ok(api('POST', `/sandboxes/${id}/files`, { path: file, content, mode }));
const files = (id, tail, values) => api('GET', `/sandboxes/${id}/files${tail}?${new URLSearchParams(values)}`);
export const destroy = (id) => ok(api('DELETE', `/sandboxes/${id}`));

// As the SDK's withSandbox: destroyed even if the callback throws.
async function withSandbox(fields, use) {
	const { id } = await spawn(fields);
	try {
		return await use(id);
	} finally {
		assert.deepEqual(await destroy(id), { status: 'destroyed' });
	}
}

export const row = (name, body) => test(name, { skip: refused && 'user namespaces are refused' }, body);

async function startGateway() {
	if (refused) return;
	for (const name of ['run', 'state', 'home']) mkdirSync(path.join(dir, name), { mode: 0o700 });
	const fd = openSync(logPath, 'a');
	const env = { ...process.env, RUNTIME_DIRECTORY: path.join(dir, 'run'), STATE_DIRECTORY: path.join(dir, 'state'),
		HOME: path.join(dir, 'home'), XDG_CONFIG_HOME: path.join(dir, 'home') };
	const config = await transport.config(dir);
	const file = path.join(dir, 'stacygate.yaml');
	if (config) writeFileSync(file, config);
	gateway = start(path.join(BUILD, 'stacygated'), config ? ['-c', file] : [], { env, cwd: dir, stdio: ['ignore', fd, fd] });
	ended = new Promise((resolve) => gateway.on('exit', (code, signal) => resolve(code ?? signal)));
	await until(async () => {
		assert.equal(gateway.exitCode, null, existsSync(logPath) ? log() : 'no log');
		try {
			return (await ask('GET', '/gateway/v1/health')).status === 200;
		} catch {
			return false;
		}
	}, 'the gateway answers');
}

async function stopGateway() {
	transport.close();
	try {
		if (!gateway) return;
		gateway.kill('SIGTERM');
		assert.equal(await ended, 0, log());
		assert.doesNotMatch(log(), /Sanitizer|runtime error|check failed/);
		assert.ok(!existsSync(socketPath), 'the socket is left behind');
	} finally {
		gateway?.kill('SIGKILL');
		rmSync(dir, { recursive: true, force: true });
	}
}

// Registers the rows as tests, around one gateway.
export function promises(given) {
	transport = given;
	before(startGateway);
	after(stopGateway);
	rows();
}

function rows() {
	row('row 1: a time for one request', () => withSandbox({}, async (id) => {
		const slow = ask('POST', `/api/v1/sandboxes/${id}/exec`, { command: 'sleep 60' }, { 'Stacygate-Timeout': '300ms' });
		await fault(slow, 504, 'UPSTREAM_TIMEOUT');
		assert.equal((await exec(id, 'echo still here')).stdout, 'still here\n');
	}));

	row('row 2: spawn, exec, destroy', async () => {
		const { id, image } = await spawn({ image: 'node:20' });
		assert.match(id, /^sb-[0-9a-f]{8}$/);
		assert.equal(image, 'node:20');
		assert.equal((await exec(id, "node -e 'console.log(1+1)'")).stdout, '2\n');
		assert.deepEqual(await destroy(id), { status: 'destroyed' });
		await fault(api('GET', `/sandboxes/${id}`), 404, 'NOT_FOUND', id);
	});

	row('row 3 with the tools of this API: destroyed even if the callback throws', async () => {
		let seen;
		await assert.rejects(withSandbox({}, async (id) => {
			seen = id;
			throw new Error('mine');
		}), /mine/);
		await fault(api('GET', `/sandboxes/${seen}`), 404, 'NOT_FOUND', seen);
	});

	row('row 4: spawn options and defaults', async () => {
		const full = await spawn({ image: 'python:3.12', memory_mb: 512, vcpus: 2, ttl: '5m', metadata: { job: 'nightly' } });
		assert.deepEqual([full.image, full.memory_mb, full.vcpus, full.metadata.job], ['python:3.12', 512, 2, 'nightly']);
		assert.ok(Math.abs(Date.parse(full.expires_at) - Date.parse(full.created_at) - 300_000) < 1500);
		const plain = await spawn();
		assert.deepEqual([plain.image, plain.memory_mb, plain.vcpus], ['alpine:latest', 1024, 1]);
		assert.ok(Math.abs(Date.parse(plain.expires_at) - Date.parse(plain.created_at) - 1_800_000) < 1500);
		await destroy(full.id);
		await destroy(plain.id);
		await fault(api('POST', '/sandboxes', { provider: 'nope' }), 404, 'NOT_FOUND', 'nope');
	});

	row('rows 5 and 6: exec', () => withSandbox({}, async (id) => {
		const done = await exec(id, 'echo hi; echo err >&2; exit 3');
		assert.deepEqual([done.exit_code, done.stdout, done.stderr], [3, 'hi\n', 'err\n']);
		assert.match(done.duration, /^[0-9.]+(ns|µs|ms|s)$/);
		assert.equal((await exec(id, "printf '%s|'", { args: ['a b', "it's", '$HOME'] })).stdout, "a b|it's|$HOME|");
		assert.equal((await exec(id, 'echo $GREETING; pwd', { env: { GREETING: 'héllo' }, workdir: '/tmp' })).stdout, 'héllo\n/tmp\n');
		const began = Date.now();
		await fault(api('POST', `/sandboxes/${id}/exec`, { command: 'sleep 30; echo x', timeout: '200ms' }), 408, 'TIMEOUT', id);
		assert.ok(Date.now() - began < 10_000);
	}));

	row('row 7: stream, as it arrives', () => withSandbox({}, async (id) => {
		const command = 'echo first; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo second >&2';
		const response = await open('POST', `/api/v1/sandboxes/${id}/exec`, { command, stream: true });
		assert.equal(response.headers['content-type'], 'application/x-ndjson');
		let text = '';
		let released = false;
		for await (const piece of response.pieces) {
			text += Buffer.from(piece).toString();
			// The second line cannot come before the first has been seen here.
			if (!released && text.includes('\n') && text.trim()) {
				released = true;
				await write(id, '/tmp/go', '');
			}
		}
		const records = text.split('\n').filter((line) => line.trim()).map((line) => JSON.parse(line));
		assert.deepEqual(records, [{ stream: 'stdout', data: 'first\n' }, { stream: 'stderr', data: 'second\n' }]);
	}));

	row('row 7: leaving a stream ends the command', () => withSandbox({}, async (id) => {
		const command = 'echo $$ >/tmp/pid; echo on; exec sleep 600';
		const response = await open('POST', `/api/v1/sandboxes/${id}/exec`, { command, stream: true });
		await response.pieces[Symbol.asyncIterator]().next();
		response.leave();
		await until(async () => (await exec(id, 'kill -0 $(cat /tmp/pid) 2>/dev/null || echo gone')).stdout === 'gone\n', 'the command ends', 10);
	}));

	row('rows 8 to 13: files', () => withSandbox({}, async (id) => {
		assert.deepEqual(await write(id, '/app/run.sh', '#!/bin/sh\necho it runs\n', '755'), { status: 'written' });
		assert.equal((await exec(id, '/app/run.sh')).stdout, 'it runs\n');
		await write(id, '/app/src/hé llo.test.js', 'héllo\n');
		await write(id, '/app/src/deep/er.test.js', '');
		const read = await files(id, '', { path: '/app/src/hé llo.test.js' });
		assert.equal(read.headers['content-type'], 'application/octet-stream');
		assert.deepEqual(read.bytes, Buffer.from('héllo\n'));
		const list = await ok(files(id, '/list', { path: '/app' }));
		assert.deepEqual(list.map((e) => [e.name, e.path, e.is_dir]), [['run.sh', '/app/run.sh', false], ['src', '/app/src', true]]);
		for (const key of ['size', 'mode', 'mod_time']) assert.ok(key in list[0], key);
		assert.ok((await ok(api('GET', `/sandboxes/${id}/files/list`))).some((e) => e.name === 'app'));
		assert.deepEqual((await ok(files(id, '/glob', { pattern: '/app/**/*.test.js' }))).sort(),
			['/app/src/deep/er.test.js', '/app/src/hé llo.test.js']);
		const stat = await ok(files(id, '/stat', { path: '/app/run.sh' }));
		assert.equal(Number.parseInt(stat.mode, 8), 0o755);
		assert.equal(stat.size, 23);
		assert.deepEqual(await ok(api('POST', `/sandboxes/${id}/files/move`, { old_path: '/app/run.sh', new_path: '/app/go.sh' })), { status: 'moved' });
		assert.deepEqual(await ok(api('POST', `/sandboxes/${id}/files/chmod`, { path: '/app/go.sh', mode: '0600' })), { status: 'chmod applied' });
		assert.equal(Number.parseInt((await ok(files(id, '/stat', { path: '/app/go.sh' }))).mode, 8), 0o600);
		assert.deepEqual(await ok(api('DELETE', `/sandboxes/${id}/files?path=/app/go.sh`)), { status: 'deleted' });
		await fault(api('DELETE', `/sandboxes/${id}/files?path=/app/src`), 500, 'INTERNAL_ERROR');
		assert.deepEqual(await ok(api('DELETE', `/sandboxes/${id}/files?path=/app/src&recursive=true`)), { status: 'deleted' });
		assert.deepEqual(await ok(files(id, '/list', { path: '/app' })), []);
	}));

	row('row 9: every byte comes back', () => withSandbox({}, async (id) => {
		await exec(id, 'i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %03o $i)"; i=$((i+1)); done >/workspace/all');
		const { bytes } = await files(id, '', { path: '/workspace/all' });
		assert.deepEqual(bytes, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
	}));

	row('rows 15 and 16: templates', async () => {
		const saved = await ok(api('POST', '/templates', { name: 'n', image: 'node:20', memory_mb: 256, vcpus: 2, ttl: '1h' }), 201);
		assert.deepEqual([saved.vcpus, saved.ttl_seconds], [2, 3600]);
		assert.deepEqual([saved.cpu_cores, saved.ttl], [2, '1h0m0s']);
		// Saving creates or updates: the second one replaces, and is the same template.
		const again = await ok(api('POST', '/templates', { name: 'n', image: 'node:20', memory_mb: 256, vcpus: 2, ttl: '1h' }));
		assert.deepEqual([again.name, again.vcpus, again.created_at], ['n', 2, saved.created_at]);
		assert.deepEqual((await ok(api('GET', '/templates'))).map((t) => t.name), ['n']);
		assert.equal((await ok(api('GET', '/templates/n'))).image, 'node:20');
		const made = await ok(api('POST', '/templates/n/spawn', { ttl: '10m' }), 201);
		assert.deepEqual([made.image, made.memory_mb, made.vcpus], ['node:20', 256, 2]);
		assert.ok(Math.abs(Date.parse(made.expires_at) - Date.parse(made.created_at) - 600_000) < 1500);
		await destroy(made.id);
		assert.deepEqual(await ok(api('DELETE', '/templates/n')), { status: 'deleted' });
		const name = 'a:b h\u00e9';
		await ok(api('POST', '/templates', { name, image: 'node:20' }), 201);
		assert.equal((await ok(api('GET', `/templates/${encodeURIComponent(name)}`))).name, name);
		assert.deepEqual(await ok(api('DELETE', `/templates/${encodeURIComponent(name)}`)), { status: 'deleted' });
		await fault(api('POST', '/templates/n/spawn'), 404, 'NOT_FOUND', 'n');
	});

	row('row 17: life time', async () => {
		const { id } = await spawn({ ttl: '300ms' });
		await until(async () => (await api('GET', `/sandboxes/${id}`)).status === 404, 'the sandbox ends by itself', 10);
		await withSandbox({ ttl: '1m' }, async (lives) => {
			const { expires_at: expires } = await ok(api('POST', `/sandboxes/${lives}/extend`, { ttl: '1h' }));
			assert.ok(Math.abs(Date.parse(expires) - Date.now() - 3_600_000) < 5000);
			assert.equal((await ok(api('GET', `/sandboxes/${lives}`))).expires_at, expires);
		});
	});

	row('rows 18 and 20: list, reattach, providers, prune, health', () => withSandbox({}, async (id) => {
		assert.deepEqual((await ok(api('GET', '/sandboxes'))).map((s) => s.id), [id]);
		assert.equal((await ok(api('GET', `/sandboxes/${id}`))).state, 'running');
		assert.equal((await exec(id, 'echo again')).stdout, 'again\n');
		assert.deepEqual((await ok(api('GET', '/providers'))).map((p) => [p.healthy, p.default]), [[true, true]]);
		assert.deepEqual(await ok(api('DELETE', '/sandboxes')), { pruned: 0 });
		assert.equal((await ok(api('GET', '/health'))).status, 'ok');
		assert.deepEqual(await ok(api('GET', '/pool/status')), { enabled: false });
	}));

	row('row 21: errors told apart', async () => {
		await fault(api('GET', '/sandboxes/sb-00000000'), 404, 'NOT_FOUND', 'sandbox not found: sb-00000000');
		await fault(api('POST', '/sandboxes', '{bad'), 400, 'BAD_REQUEST');
		const made = await ask('GET', '/gateway/v1/none');
		assert.equal(made.headers['stacygate-error'], 'NOT_FOUND');
		await assert.rejects(transport.nobody(), transport.refused);
	});

	row('row 22: destroyed is destroyed, and a repeat is no error', async () => {
		const { id, state } = await spawn();
		assert.equal(state, 'running');
		await destroy(id);
		await fault(api('POST', `/sandboxes/${id}/exec`, { command: 'true' }), 404, 'NOT_FOUND', `sandbox ${transport.isolated ? 'not found' : 'destroyed'}: ${id}`);
		await destroy(id);
	});

	row('many at once over a few connections', () => withSandbox({}, async (id) => {
		const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => exec(id, `echo ${i}`)));
		assert.deepEqual(answers.map((a) => a.stdout), Array.from({ length: 40 }, (_, i) => `${i}\n`));
	}));
}
