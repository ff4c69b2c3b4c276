// The package in Chromium: on a page and in a worker, both modules, the cache.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test, before, after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serve } from '../demo/serve.mjs';
import { launch } from './chromium.mjs';

const site = path.join(path.dirname(fileURLToPath(import.meta.url)), '../demo/site');
const INT8 = 'fashion_int8.spw';
const file = fs.readFileSync(path.join(site, INT8)), sha256 = createHash('sha256').update(file).digest('hex');

let browser, server, page;
before(async () => {
  server = await serve(site);
  browser = await launch();
  console.log(`# Chromium ${browser.version()}`);
  page = await browser.newPage();
  // Any page of the same origin does; this one runs nothing.
  await page.goto(`${server.origin}/networks.json`);
});
after(async () => {
  await browser.close();
  server.close();
});

/** What a network says of some pictures; also shipped to the browser, so it names nothing from outside. */
async function outputs({ package: file, source, options }) {
  const { Model } = await import(file);
  const model = await Model.load(source, options);
  const [image] = model.inputs, [scores] = model.outputs, values = [];
  for (let k = 0; k < 20; k++) {
    image.data.forEach((_, i) => { image.data[i] = ((i * 7919 + k * 31) % 256) / 255; });
    model.run();
    values.push(...scores.data);
  }
  const result = { values, simd: model.simd, kernels: model.profile().map(({ kernel }) => kernel) };
  model.close();
  return result;
}
const onPage = (name, options) =>
  page.evaluate(outputs, { package: `${server.origin}/sparrow.js`, source: `${server.origin}/${name}`, options });

test('relaxed SIMD is found and taken', async () => {
  const { simd, kernels } = await onPage('fashion_f32.spw', {});
  assert.equal(simd, 'relaxed');
  assert.ok(kernels.includes('conv_f32_b16_relaxed'), kernels.join(' '));
});

test('int8 networks say what they say in Node, in both modules', async () => {
  for (const name of [INT8, 'fashion_int8_sparse.spw']) {
    const here = await outputs({ package: '../sparrow.js', source: path.join(site, name), options: { simd: 'simd128' } });
    for (const simd of ['relaxed', 'simd128']) {
      const { values } = await onPage(name, { simd });
      // The last layer computes in floats, which relaxed SIMD rounds once where the other rounds twice.
      const most = simd === 'relaxed' ? 2e-6 * Math.max(...values.map(Math.abs)) : 0;
      assert.equal(values.length, 200);
      assert.ok(values.every((value, i) => Math.abs(value - here.values[i]) <= most), `${name} ${simd}`);
    }
  }
});

test('an engine without relaxed SIMD gets the other module, one without any is told', async () => {
  const simd = await page.evaluate(async (origin) => {
    const { validate } = WebAssembly, { Model } = await import(`${origin}/sparrow.js`);
    const load = () => Model.load(`${origin}/fashion_int8.spw`).then((model) => model.simd, (error) => error.code);
    try {
      WebAssembly.validate = (bytes) => !bytes.includes(2, 34) && validate(bytes); // relaxed opcodes end in 2
      const first = await load();
      WebAssembly.validate = () => false;
      return [first, await load()];
    } finally {
      WebAssembly.validate = validate;
    }
  }, server.origin);
  assert.deepEqual(simd, ['simd128', 'unsupported']);
});

test('a worker loads and runs a model', async () => {
  const classes = await page.evaluate((origin) => new Promise((resolve, reject) => {
    const code = `import { Model } from '${origin}/sparrow.js';
      const model = await Model.load('${origin}/fashion_int8.spw');
      model.run();
      postMessage(model.outputs[0].data.length);`;
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  }), server.origin);
  assert.equal(classes, 10);
});

test('the cache serves a model, and never another one or a damaged one', async () => {
  const load = (options) => page.evaluate(async ({ origin, name, options }) => {
    const { Model } = await import(`${origin}/sparrow.js`);
    let parts = 0;
    return Model.load(`${origin}/${name}`, { ...options, progress: () => { parts++; } })
      .then((model) => { model.run(); return parts > 0; }, (error) => `${error.code}: ${error.message}`);
  }, { origin: server.origin, name: INT8, options });
  const asked = () => server.asked.filter((name) => name === `/${INT8}`).length;
  const times = async (options) => {
    const first = asked();
    assert.equal(await load(options), true);
    return asked() - first;
  };
  assert.equal(await times({ sha256, cache: true }), 1, 'fetched and kept');
  assert.equal(await times({ sha256, cache: true }), 0, 'from the cache');
  await page.evaluate(async ({ origin, name }) => {
    const cache = await caches.open('sparrow-models');
    const [request] = await cache.keys(), bytes = new Uint8Array(await (await cache.match(request)).arrayBuffer());
    if (request.url !== `${origin}/${name}`) throw new Error(request.url);
    bytes[100] ^= 1;
    await cache.put(request, new Response(bytes));
  }, { origin: server.origin, name: INT8 });
  assert.equal(await times({ sha256, cache: true }), 1, 'a damaged copy is fetched again');
  assert.equal(await times({ sha256, cache: true }), 0, 'and kept');
  assert.match(await load({ sha256: '0'.repeat(64), cache: true }), /^hash: /);
  assert.equal(await times({ sha256, cache: true }), 1, 'what was not asked for is not kept');
});
