// The package in Node, as it is installed: packed by npm, unpacked into a node_modules of its own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test, after } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { serve } from '../demo/serve.mjs';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..'), site = path.join(root, 'demo/site');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sparrow-'));
const home = path.join(folder, 'node_modules/sparrow-wasm');
fs.mkdirSync(home, { recursive: true });
execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: root, stdio: 'ignore' });
execFileSync('tar', ['-xzf', path.join(folder, 'sparrow-wasm-0.1.0.tgz'), '-C', home, '--strip-components=1']);
after(() => fs.rmSync(folder, { recursive: true }));

const { Model, SparrowError, supported } = await import(pathToFileURL(path.join(home, 'sparrow.js')));
const best = supported();
console.log(`# Node ${process.version}, best module: ${best}`);

const FILES = ['fashion_f32.spw', 'fashion_int8.spw', 'fashion_int8_sparse.spw'].map((name) => path.join(site, name));
const [F32, INT8] = FILES;
const pictures = fs.readFileSync(path.join(site, 'test_images.npy')).subarray(128);
const labels = fs.readFileSync(path.join(site, 'test_labels.npy')).subarray(128);
const picture = (i) => Float32Array.from(pictures.subarray(i * 784, (i + 1) * 784), (p) => p / 255);
const networks = JSON.parse(fs.readFileSync(path.join(site, 'networks.json')));

const fails = (code, number) => (error) => error instanceof SparrowError && error.code === code && (number === undefined || error.number === number);
const best_of = (scores) => scores.indexOf(Math.max(...scores));

/** The outputs of the first pictures, as bytes. */
function outputs(model, count) {
  const [image] = model.inputs, [scores] = model.outputs;
  const bytes = [];
  for (let i = 0; i < count; i++) {
    image.set(picture(i));
    model.run();
    bytes.push(Buffer.from(scores.data.slice().buffer));
  }
  return Buffer.concat(bytes);
}

test('every network is as right as in the native program', async () => {
  for (const [i, { accuracy }] of networks.entries()) {
    const model = await Model.load(FILES[i]);
    assert.equal(model.simd, best);
    let right = 0;
    for (let k = 0; k < labels.length; k++) {
      model.inputs[0].data.set(picture(k));
      model.run();
      right += best_of(model.outputs[0].data) === labels[k];
    }
    // Floats may be rounded differently: a picture in a thousand may change its class.
    assert.ok(Math.abs(right / labels.length - accuracy) <= (i === 0 ? 0.0011 : 0), `${FILES[i]}: ${right}, ${accuracy}`);
    model.close();
  }
});

/** The networks' last layer computes in floats, which may be rounded differently; a code that differs before it shows more. */
const close = (got, want) => {
  const most = Math.max(...want.map(Math.abs));
  return got.length === want.length && got.every((value, i) => Math.abs(value - want[i]) <= 2e-6 * most);
};

test('int8 networks give what the native program gives, in both modules', async () => {
  const input = path.join(folder, 'x.npy'), output = path.join(folder, 'y.npy');
  const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 28, 28), }";
  for (const file of FILES.slice(1)) {
    const models = [await Model.load(file, { simd: 'simd128' }), ...(best === 'relaxed' ? [await Model.load(file)] : [])];
    for (let i = 0; i < 5; i++) {
      const head = Buffer.from(`\x93NUMPY\x01\x00\x00\x00${header.padEnd(117)}\n`, 'latin1');
      head.writeUInt16LE(118, 8);
      fs.writeFileSync(input, Buffer.concat([head, Buffer.from(picture(i).buffer)]));
      execFileSync('cargo', ['run', '--quiet', '--release', '--package', 'sparrow-cli', '--', 'run', file, '--input', input, '--output', output],
        { cwd: path.join(root, '../..'), stdio: 'pipe' });
      const native = new Float32Array(new Uint8Array(fs.readFileSync(output).subarray(-40)).buffer);
      for (const model of models) {
        model.inputs[0].set(picture(i));
        model.run();
        const { data } = model.outputs[0];
        assert.ok(close(data, native), `${file}, ${model.simd}, picture ${i}: ${data} and not ${native}`);
      }
    }
  }
});

test('inputs and outputs are described and shown without a copy, in memory that does not grow', async () => {
  const model = await Model.load(INT8);
  const [image] = model.inputs, [scores] = model.outputs;
  assert.deepEqual([image.name, image.type, [...image.shape]], ['image', 'f32', [1, 1, 28, 28]]);
  assert.deepEqual([scores.name, scores.type, [...scores.shape]], ['logits', 'f32', [1, 10]]);
  const { data } = image, memory = data.buffer, size = memory.byteLength;
  assert.equal(scores.data.buffer, memory);
  for (let i = 0; i < 1000; i++) model.run();
  const times = model.profile();
  assert.ok(times.length > 10 && times.every(({ name, op, kernel, ms }) => typeof name === 'string' && op && kernel && ms >= 0));
  assert.ok(times.some(({ kernel }) => /^conv_i8_b16_/.test(kernel)), times.map(({ kernel }) => kernel).join(' '));
  assert.ok(image.data === data && data.buffer === memory && memory.byteLength === size && data.length === 784);
  model.close();
});

test('a file comes from bytes, a blob, a response, a path and an address, in parts, with progress', async () => {
  const bytes = fs.readFileSync(INT8), want = outputs(await Model.load(bytes), 3);
  const { origin, close } = await serve(site);
  const parts = (size) => new Response(new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(new Uint8Array(bytes.subarray(at, at + size)));
      controller.close();
    },
  }));
  const sources = [bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), new Blob([bytes]), parts(7), parts(65536),
    pathToFileURL(INT8), `${origin}/fashion_int8.spw`, new URL(`${origin}/fashion_int8.spw`)];
  for (const source of sources) {
    const steps = [];
    const model = await Model.load(source, { progress: (step) => steps.push(step) });
    assert.deepEqual(outputs(model, 3), want);
    assert.deepEqual(steps.at(-1), { loaded: bytes.length, total: bytes.length });
    assert.ok(steps.every(({ loaded }, i) => i === 0 || loaded > steps[i - 1].loaded));
    model.close();
  }
  await assert.rejects(Model.load(`${origin}/missing.spw`), fails('network'));
  close();
  await assert.rejects(Model.load(`${origin}/fashion_int8.spw`), fails('network'));
  await assert.rejects(Model.load(path.join(folder, 'missing.spw')), fails('network'));
  await assert.rejects(Model.load(new Response('no', { status: 500 })), fails('network'));
});

test('sha256 is checked', async () => {
  const bytes = fs.readFileSync(INT8), sha256 = createHash('sha256').update(bytes).digest('hex');
  (await Model.load(bytes, { sha256 })).close();
  (await Model.load(bytes, { sha256: sha256.toUpperCase() })).close();
  await assert.rejects(Model.load(F32, { sha256 }), fails('hash'));
});

test('damaged files are refused', async () => {
  const bytes = fs.readFileSync(INT8);
  const altered = (change) => { const copy = Buffer.from(bytes); change(copy); return copy; };
  const refused = (source, code, number) => assert.rejects(Model.load(source), fails(code, number));
  await refused(new Uint8Array(0), 'not-a-model', 1);
  await refused(Buffer.from('<!doctype html>'.repeat(20)), 'not-a-model', 1);
  await refused(bytes.subarray(0, 40), 'damaged', 3);
  await refused(bytes.subarray(0, bytes.length - 1), 'damaged', 3);
  await refused(Buffer.concat([bytes, Buffer.alloc(1)]), 'damaged', 3);
  await refused(altered((b) => b.writeUInt32LE(99, 8)), 'version', 2);
  await refused(altered((b) => b.writeUInt32LE(7, 12)), 'damaged', 4);
  await refused(altered((b) => b.writeBigUInt64LE(1n << 40n, 16)), 'memory', 200);
  await refused(altered((b) => b.writeBigUInt64LE(0xfff00000n, 16)), 'memory', 200);
  // Ends and middles of the section table and of every section; what fills the space between them means nothing.
  const table = Array.from({ length: bytes.readUInt32LE(24) }, (_, i) => 64 + 32 * i);
  const sections = table.map((entry) => ({ at: Number(bytes.readBigUInt64LE(entry + 8)), size: Number(bytes.readBigUInt64LE(entry + 16)) }));
  assert.ok(sections.length >= 6);
  for (const { at, size } of [{ at: 64, size: 32 * table.length }, ...sections.filter(({ size }) => size > 0)])
    for (const place of [at, at + (size >> 1), at + size - 1])
      await refused(altered((b) => { b[place] ^= 0x10; }), 'damaged', 9).catch(({ message }) => assert.fail(`byte ${place}: ${message}`));
  assert.equal(outputs(await Model.load(bytes), 1).length, 40, 'other models are not touched');
});

test('wrong calls are errors', async () => {
  const model = await Model.load(F32), [image] = model.inputs;
  assert.throws(() => image.set(new Float32Array(783)), fails('size'));
  assert.throws(() => image.set(new Float64Array(784)), fails('type'));
  assert.throws(() => image.set(null), fails('size'));
  assert.throws(() => new Model(), fails('argument'));
  for (const options of [{ sha256: 'abc' }, { cache: true }, { entry: -1 }, { entry: 0.5 }, { simd: 'avx2' }])
    await assert.rejects(Model.load(F32, options), fails('argument'));
  await assert.rejects(Model.load(42), fails('argument'));
  await assert.rejects(Model.load(F32, { entry: 1 }), fails('no-entry', 16));
  await assert.rejects(Model.load(F32, { base: pathToFileURL(folder + '/') }), fails('network'));
  await assert.rejects(Model.load(F32, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  const abort = new AbortController();
  await assert.rejects(Model.load(new Blob([fs.readFileSync(F32)]), { signal: abort.signal, progress: () => abort.abort() }), { name: 'AbortError' });
  assert.equal(model.closed, false);
  model.close();
  model.close();
  assert.equal(model.closed, true);
  assert.throws(() => model.run(), fails('closed'));
  assert.throws(() => model.profile(), fails('closed'));
  assert.throws(() => image.data, fails('closed'));
  assert.throws(() => image.set(new Float32Array(784)), fails('closed'));
});

test('a module that traps ends its model and no other', async () => {
  // No input makes ours trap. A module stands in for it whose `reserve` returns 64 and whose `open` is `unreachable`.
  fs.writeFileSync(path.join(folder, 'sparrow-simd128.wasm'), Buffer.from('0061736d01000000' + '01060160017f017f' + '0303020000' +
    '0503010010' + '071b03066d656d6f72790200' + '0772657365727665' + '0000' + '046f70656e' + '0001' + '0a0b02' + '050041c0000b' + '0300000b', 'hex'));
  const base = pathToFileURL(folder + '/');
  await assert.rejects(Model.load(INT8, { simd: 'simd128', base }), fails('internal'));
});

test('it runs in a worker', async () => {
  const worker = new Worker(`
    import(${JSON.stringify(pathToFileURL(path.join(home, 'sparrow.js')).href)}).then(async ({ Model }) => {
      const model = await Model.load(${JSON.stringify(INT8)});
      model.run();
      require('node:worker_threads').parentPort.postMessage(model.outputs[0].data.slice());
    })`, { eval: true });
  const scores = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  assert.equal(scores.length, 10);
  await worker.terminate();
});

test('the README\'s example', () => {
  const [, example] = /```js\n(.*?)```/s.exec(fs.readFileSync(path.join(root, 'README.md'), 'utf8'));
  fs.writeFileSync(path.join(folder, 'example.mjs'), example);
  fs.copyFileSync(INT8, path.join(folder, 'fashion_int8.spw'));
  const text = execFileSync('node', [...process.execArgv, 'example.mjs'], { cwd: folder, encoding: 'utf8' });
  assert.match(text, new RegExp(`^100 %$\\nimage 1x1x28x28: class \\d, in ${best}\\n$`, 'm'));
});
