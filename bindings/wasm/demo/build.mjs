// Makes the demo's folder, which any static server can serve: node demo/build.mjs   (then: node demo/serve.mjs)
//
// Converts the zoo's Fashion-MNIST network to f32, int8 and sparse int8 with the program `sparrow`, and puts the files
// beside the page, the package and the test pictures. Needs the package's modules (../build).
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, '../../..'), site = path.join(here, 'site');
const SPARSITY = 0.3;
const FILES = ['fashion_f32.spw', 'fashion_int8.spw', 'fashion_int8_sparse.spw']; // in the order of the demo's report

fs.rmSync(site, { recursive: true, force: true });
fs.mkdirSync(site);
const cargo = ['run', '--quiet', '--release', '--package', 'sparrow-cli', '--', 'demo', '--json', '--show', '0'];
const report = JSON.parse(execFileSync('cargo', [...cargo, '--sparsity', String(SPARSITY), '--keep', site], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] }));
const networks = report.networks.map(({ name, accuracy }, i) => {
  const bytes = fs.readFileSync(path.join(site, FILES[i]));
  return { name, file: FILES[i], bytes: bytes.length, accuracy, sha256: createHash('sha256').update(bytes).digest('hex') };
});
fs.writeFileSync(path.join(site, 'networks.json'), JSON.stringify(networks, null, 1));

const copy = (from, ...names) => names.forEach((name) => fs.copyFileSync(path.join(from, name), path.join(site, name)));
copy(here, 'index.html', 'demo.css', 'demo.js', 'worker.js');
copy(path.join(here, '..'), 'sparrow.js', 'sparrow-simd128.wasm', 'sparrow-relaxed.wasm');
copy(path.join(root, 'models/zoo/fashion'), 'test_images.npy', 'test_labels.npy');
console.log(`demo: ${path.relative(process.cwd(), site)}`);
