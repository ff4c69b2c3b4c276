// node host.mjs node|chromium MODEL INPUT OUTPUT: what bindings/host does, in Node or in Chromium.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from '../demo/serve.mjs';

/** Runs a model once; also shipped to the browser, so it names nothing from outside. */
async function run({ from, model: file, input }) {
  const { Model } = await import(from);
  const model = await Model.load(Uint8Array.from(file));
  const bytes = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);
  bytes(model.inputs[0].data).set(input);
  model.run();
  const output = [...bytes(model.outputs[0].data)];
  model.close();
  return output;
}

/** The same on a page. */
async function inChromium(work) {
  const { launch } = await import('./chromium.mjs');
  const server = await serve(path.join(path.dirname(fileURLToPath(import.meta.url)), '..'));
  const browser = await launch();
  try {
    const page = await browser.newPage();
    // Any page of the same origin does; this one runs nothing.
    await page.goto(`${server.origin}/package.json`);
    return await page.evaluate(run, { ...work, from: `${server.origin}/sparrow.js` });
  } finally {
    await browser.close();
    server.close();
  }
}

const [engine, model, input, output] = process.argv.slice(2);
const work = { from: '../sparrow.js', model: [...fs.readFileSync(model)], input: [...fs.readFileSync(input)] };
fs.writeFileSync(output, Uint8Array.from(await (engine === 'chromium' ? inChromium(work) : run(work))));
