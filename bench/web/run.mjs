// Times the module that `run` has built. A layer's time is its least: on a busy machine only that is its own, and the sum
// of the layers' times is steadier than the whole network's.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const { chromium } = createRequire(new URL('../../kernels-wasm/package.json', import.meta.url))('playwright-core');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update'];
const ISOLATED = { 'content-type': 'text/html', 'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp' };
const DTYPES = { f32: 0, i8: 2 };
const { values: options, positionals: [file] } = parseArgs({
  allowPositionals: true,
  options: {
    dtype: { type: 'string', default: 'f32,i8' }, sparsity: { type: 'string', default: '0' },
    block: { type: 'string', default: '16' }, mask: { type: 'string', default: '0' }, // Features bits to switch off
    rounds: { type: 'string', default: '40' }, only: { type: 'string', default: 'node,chromium' },
    flags: { type: 'string', default: '' }, // of Chromium's engine
    layers: { type: 'boolean' }, operators: { type: 'boolean' }, plain: { type: 'boolean' },
  },
});

/** Times one network; also shipped to the browser as text, so it names nothing from outside. */
async function time({ base64, dtype, sparsity, block, mask, rounds }) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const { exports } = (await WebAssembly.instantiate(bytes)).instance;
  const count = dtype === null ? exports.build_operators(mask) : exports.build(dtype, sparsity, block, mask);
  const text = (length) => new TextDecoder().decode(new Uint8Array(exports.memory.buffer, exports.text(), length));
  const layers = Array.from({ length: count }, (_, i) => {
    const [name, kernel, work] = text(exports.name(i)).split('\t');
    return { name, kernel, work: Number(work), ms: Infinity };
  });
  let whole = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    exports.run(0, count);
    whole = Math.min(whole, performance.now() - start);
    layers.forEach((layer, i) => {
      // Short layers run a few times: the clock's grain is 5 microseconds in an isolated page.
      const runs = Math.min(100, Math.ceil(0.2 / layer.ms) || 1);
      const start = performance.now();
      for (let run = 0; run < runs; run++) exports.run(i, i + 1);
      layer.ms = Math.min(layer.ms, (performance.now() - start) / runs || Infinity);
    });
  }
  const difference = dtype === null ? 0 : exports.verify();
  return { layers, whole, difference, features: exports.features() };
}

function print(engine, title, { layers, whole, difference, features }) {
  const sum = layers.reduce((total, { ms }) => total + ms, 0);
  if (options.layers || options.operators)
    for (const { name, kernel, work, ms } of layers)
      console.log(`  ${name.padEnd(32)} ${kernel.padEnd(32)} ${ms.toFixed(4).padStart(9)} ms ${(work / ms / 1e6).toFixed(2).padStart(7)} G/s`);
  if (!options.operators)
    console.log(`${engine.padEnd(24)} ${title.padEnd(18)} layers ${sum.toFixed(2)} ms, whole ${whole.toFixed(2)} ms, ` +
      `largest difference from scalar ${difference.toExponential(1)}, features ${features.toString(16)}`);
}

const base64 = fs.readFileSync(file).toString('base64');
const list = (text) => text.split(',');
const cases = options.operators ? [{ dtype: null, title: 'operators' }]
  : list(options.dtype).flatMap((name) => list(options.sparsity).map((sparsity) => {
      if (!(name in DTYPES)) throw new Error(`--dtype ${name}: f32 or i8`);
      return { dtype: DTYPES[name], sparsity: Number(sparsity), title: `${name} ${sparsity} % sparse` };
    }));
const common = { base64, block: Number(options.block), mask: Number(options.mask), rounds: Number(options.rounds) };
for (const engine of list(options.only)) {
  if (engine === 'node') for (const one of cases) print(`Node ${process.version}`, one.title, await time({ ...common, ...one }));
  if (engine !== 'chromium') continue;
  const executable = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
    .find((path) => path && fs.existsSync(path));
  if (!executable) throw new Error('no Chromium: set CHROMIUM to its program');
  const browser = await chromium.launch({ executablePath: executable, args: [...FLAGS, `--js-flags=${options.flags}`] });
  for (const one of cases) {
    const page = await browser.newPage();
    await page.route('http://localhost/', (route) => route.fulfill({ headers: ISOLATED, body: '<!doctype html>' }));
    await page.goto('http://localhost/');
    print(`Chromium ${browser.version()}`, one.title, await page.evaluate(time, { ...common, ...one }));
    await page.close();
  }
  await browser.close();
}
