// Runs the modules that `test` has built, in this Node and in Chromium. node test.mjs DIRECTORY
import fs from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';

const MODULES = ['simd128', 'emulated', 'relaxed'];
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update'];
const directory = process.argv[2];
const image = (name) => fs.readFileSync(path.join(directory, `${name}.wasm`)).toString('base64');

/** Runs a module's comparison; also shipped to the browser as text, so it names nothing from outside. */
async function compare(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  if (!WebAssembly.validate(bytes)) return null;
  const { exports } = (await WebAssembly.instantiate(bytes)).instance;
  const ok = exports.compare() !== 0;
  const text = new TextDecoder().decode(new Uint8Array(exports.memory.buffer, exports.text(), exports.text_len()));
  return { ok, text, features: exports.features() };
}

/** Kernels that may be skipped: in the relaxed module, those for another kind of dot. */
const mayBeSkipped = (module, kernel) => module === 'relaxed' && /_relaxed_(un)?signed$/.test(kernel);

/** Node had no relaxed SIMD, or another encoding of it, before version 20; a browser must have it. */
const mayBeRefused = (engine, module) => module === 'relaxed' && /^Node v1\d\./.test(engine);

let good = true;
const refused = [];
function judge(engine, module, result) {
  console.log(`\n== ${engine}, ${module}${result ? `, features ${result.features.toString(16)}` : ': the engine refuses the module'}`);
  if (!result) {
    refused.push(`${engine}, ${module}`);
    good &&= mayBeRefused(engine, module);
    return;
  }
  console.log(result.text.trimEnd());
  const skipped = [...result.text.matchAll(/^(\S+) +skipped/gm)].map((match) => match[1]);
  const wrong = skipped.filter((kernel) => !mayBeSkipped(module, kernel));
  if (wrong.length) console.log(`skipped without need: ${wrong.join(' ')}`);
  good &&= result.ok && wrong.length === 0;
}

for (const module of MODULES) judge(`Node ${process.version}`, module, await compare(image(module)));

const executable = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  .find((file) => file && fs.existsSync(file));
if (executable) {
  const browser = await chromium.launch({ executablePath: executable, args: FLAGS });
  const page = await browser.newPage();
  for (const module of MODULES) judge(`Chromium ${browser.version()}`, module, await page.evaluate(compare, image(module)));
  await browser.close();
} else {
  console.log('\n== Chromium: not installed (set CHROMIUM to its program)');
  good = false;
}
if (refused.length) console.log(`\nmodules not run: ${refused.join('; ')}`);
console.log(good ? '\nall kernels agree' : '\nFAILED');
process.exit(good ? 0 : 1);
