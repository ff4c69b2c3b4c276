// A host of `cargo xtask hosts`: node test/host.mjs node|chromium MODEL INPUT OUTPUT leaves the output's bytes in OUTPUT.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from '../demo/serve.mjs';
import { launch } from './chromium.mjs';

/** Runs one input; also shipped to the browser, so it names nothing from outside. */
async function output({ module, file, input }) {
  const { Model } = await import(module);
  const bytes = (list) => Uint8Array.from(list);
  const model = await Model.load(bytes(file));
  const [x] = model.inputs, [y] = model.outputs;
  x.set(new x.data.constructor(bytes(input).buffer));
  model.run();
  const result = Array.from(new Uint8Array(y.data.slice().buffer));
  model.close();
  return result;
}

async function inChromium(root, data) {
  const server = await serve(root);
  const browser = await launch();
  try {
    const page = await browser.newPage();
    // Any page of the same origin does; this one runs nothing.
    await page.goto(`${server.origin}/package.json`);
    return await page.evaluate(output, { ...data, module: `${server.origin}/sparrow.js` });
  } finally {
    await browser.close();
    server.close();
  }
}

const [engine, model, input, target] = process.argv.slice(2);
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const data = { module: '../sparrow.js', file: [...fs.readFileSync(model)], input: [...fs.readFileSync(input)] };
fs.writeFileSync(target, Uint8Array.from(engine === 'chromium' ? await inChromium(root, data) : await output(data)));
