#!/usr/bin/env node
const help = `One-thread latency of Sparrow beside LiteRT.js and onnxruntime-web in headless Chromium.

    node run.mjs --lab DIR [--sparrow PROGRAM] [--networks N ...] [--precision P ...]
                 [--sparsity S ...] [--pattern auto|16|8|4] [--rounds N] [--turn-ms MS] [--json]
                 [--js-flags=FLAGS]

All programs of a case are loaded into one page and take turns there, round after round; a figure is the median of the
rounds' medians, a ratio the median of the rounds' ratios. Below 1 Sparrow is faster. Every case has a page of its own.
As root all of it runs ahead of other work; elsewhere, on a busy machine, look at the best run and at best_ratio.

--sparrow     converts the networks (../cases.py says how); the package in bindings/wasm, built, runs them in the page
--lab         what bench/peers/setup filled (default: $SPARROW_LAB or target/peers)
--js-flags    flags of Chromium's engine; =--no-enable-avx-vnni measures as on a CPU without VNNI

A row: network, precision, sparsity, ours_ms, peer, peer_version, peer_ms, ratio, ours_best_ms, peer_best_ms,
best_ratio, rounds; what concerns Sparrow is null without --sparrow, and note says why a figure is missing. Peer
"Sparrow dense" is Sparrow on the dense network.
`;
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = path.dirname(fileURLToPath(import.meta.url)), sparrowPackage = path.join(here, '../../../bindings/wasm');
const chromiumFlags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update'];
const contentTypes = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript',
  '.wasm': 'application/wasm', '.json': 'application/json' };

class Failure extends Error {}

/** `--networks a b` as `--networks a --networks b`, which is how node's parser takes lists. */
function spread(words) {
  const lists = new Set(['--networks', '--precision', '--sparsity']);
  const out = [];
  let list = null;
  for (const word of words) {
    if (word.startsWith('--')) list = lists.has(word) ? word : null;
    else if (list) { out.push(list, word); continue; }
    if (!lists.has(word)) out.push(word);
  }
  return out;
}

function readArguments() {
  const { values } = parseArgs({
    args: spread(process.argv.slice(2)),
    options: {
      lab: { type: 'string', default: process.env.SPARROW_LAB || path.join(here, '../../../target/peers') },
      sparrow: { type: 'string' },
      networks: { type: 'string', multiple: true }, precision: { type: 'string', multiple: true },
      sparsity: { type: 'string', multiple: true }, pattern: { type: 'string', default: 'auto' },
      rounds: { type: 'string', default: '9' }, 'turn-ms': { type: 'string', default: '250' },
      'js-flags': { type: 'string', default: '' },
      json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false },
    },
  });
  if (values.help) { process.stdout.write(help); process.exit(); }
  if (values.sparrow && !fs.existsSync(path.join(sparrowPackage, 'sparrow-relaxed.wasm')))
    throw new Failure('the package is not built: run bindings/wasm/build');
  const rounds = Number(values.rounds), turnMs = Number(values['turn-ms']);
  if (!(rounds >= 1) || !(turnMs > 0)) throw new Failure('--rounds and --turn-ms take positive numbers');
  return { ...values, lab: path.resolve(values.lab), rounds, turnMs };
}

/**
 * Goes on in the real-time class, which Chromium inherits: other work then hardly shows in the figures. Without the
 * right to it everything is measured all the same.
 */
function runBeforeOthers() {
  try {
    execFileSync('chrt', ['--rr', '--pid', '1', String(process.pid)], { stdio: 'ignore' });
  } catch {
    console.error('peers: no right to the real-time class (root has it): other work on this machine will disturb the figures');
  }
}

/** The cases, from the one list that all measuring scripts share. */
function readCases(options) {
  const words = [path.join(here, '../cases.py'), '--lab', options.lab, '--where', 'web', '--pattern', options.pattern];
  if (options.sparrow) words.push('--sparrow', options.sparrow);
  if (options.networks) words.push('--networks', ...options.networks);
  if (options.precision) words.push('--precision', ...options.precision);
  if (options.sparsity) words.push('--sparsity', ...options.sparsity);
  return JSON.parse(execFileSync('python3', words, { stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 }));
}

/** A server on this machine only, of a few folders; the headers give the page its precise clock. */
async function serve(folders) {
  const server = http.createServer((request, response) => {
    const [, name, ...rest] = decodeURIComponent(new URL(request.url, 'http://localhost').pathname).split('/');
    const file = folders[name] && path.join(folders[name], ...rest);
    const inside = file && !path.relative(folders[name], file).startsWith('..');
    if (!inside || !fs.statSync(file, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, {
      'content-type': contentTypes[path.extname(file)] ?? 'application/octet-stream',
      'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp',
    });
    fs.createReadStream(file).pipe(response);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

function findChromium() {
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const found = (process.env.PATH ?? '').split(path.delimiter).flatMap((folder) => names.map((n) => path.join(folder, n)))
    .find((file) => fs.existsSync(file));
  if (!found) throw new Failure(`no Chromium on the PATH (${names.join(', ')}): run bench/peers/setup web`);
  return found;
}

function playwright(lab) {
  try {
    return createRequire(path.join(lab, 'web/package.json'))('playwright-core').chromium;
  } catch {
    throw new Failure(`playwright-core is not in ${lab}/web: run bench/peers/setup web`);
  }
}

const packages = { 'LiteRT.js': '@litertjs/core', 'onnxruntime-web': 'onnxruntime-web' };
function peerVersion(lab, peer) {
  return packages[peer] ? JSON.parse(fs.readFileSync(path.join(lab, 'web/node_modules', packages[peer], 'package.json'))).version : null;
}

function contendersOf(options, runs) {
  return runs.filter((run) => run.file).map(({ name, file }) => ({
    name, kind: name.startsWith('Sparrow') ? 'Sparrow' : name,
    url: '/lab/' + path.relative(options.lab, file).split(path.sep).map(encodeURIComponent).join('/'),
  }));
}

async function measureCase(browser, origin, options, item) {
  const page = await browser.newPage();
  try {
    await page.goto(`${origin}/page/page.html`);
    await page.waitForFunction('window.measure', null, { timeout: 30000 });
    const contenders = contendersOf(options, item.runs).map((c) => ({ ...c, shape: item.input_shape }));
    const { turns, notes } = await page.evaluate((job) => window.measure(job),
      { contenders, rounds: options.rounds, turnMs: options.turnMs });
    for (const run of item.runs) if (run.note) notes[run.name] = run.note;
    return rowsOf(options, item, turns, notes);
  } finally {
    await page.close();
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const rounded = (value) => (value === null ? null : Math.round(value * 1000) / 1000);

/** [median of medians, best] of one program's turns; nulls where it has none. */
const summary = (turns) =>
  turns ? [median(turns.map((t) => t.median)), Math.min(...turns.map((t) => t.best))] : [null, null];

function rowsOf(options, item, turns, notes) {
  const ours = turns.Sparrow, [oursMs, oursBest] = summary(ours);
  return item.runs.map((run) => run.name).filter((name) => name !== 'Sparrow').map((peer) => {
    const theirs = turns[peer], [peerMs, peerBest] = summary(theirs), both = ours && theirs;
    return {
      network: item.network, precision: item.precision, sparsity: item.sparsity,
      peer, peer_version: peerVersion(options.lab, peer), rounds: options.rounds,
      ours_ms: rounded(oursMs), peer_ms: rounded(peerMs),
      ratio: both ? rounded(median(ours.map((turn, i) => turn.median / theirs[i].median))) : null,
      ours_best_ms: rounded(oursBest), peer_best_ms: rounded(peerBest),
      best_ratio: both ? rounded(oursBest / peerBest) : null,
      note: notes[peer] ?? notes.Sparrow ?? null,
    };
  });
}

function table(rows) {
  const number = (value, digits) => (value === null ? '-' : value.toFixed(digits));
  const lines = [['network', 'precision', 'peer', 'sparsity', 'ours ms', 'peer ms', 'ours/peer', 'best ours',
    'best peer', 'ratio'],
    ...rows.map((r) => [r.network, r.precision, r.peer, `${Math.round(r.sparsity * 100)}%`, number(r.ours_ms, 2),
      number(r.peer_ms, 2), number(r.ratio, 3), number(r.ours_best_ms, 2), number(r.peer_best_ms, 2), number(r.best_ratio, 3)])];
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const text = lines.map((line) => line.map((cell, i) => (i < 3 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '));
  return [...text, ...new Set(rows.filter((r) => r.note).map((r) => `note: ${r.note}`))].join('\n');
}

async function main() {
  const options = readArguments();
  const chromium = playwright(options.lab), executablePath = findChromium();
  const cases = readCases(options);
  const { origin, close } = await serve({
    page: here, modules: path.join(options.lab, 'web/node_modules'), lab: options.lab,
    sparrow: sparrowPackage,
  });
  const rows = [];
  runBeforeOthers();
  try {
    const browser = await chromium.launch({ executablePath, args: [...chromiumFlags, `--js-flags=${options['js-flags']}`] });
    console.error(`peers: Chromium ${browser.version()}`);
    for (const item of cases) {
      console.error(`peers: measuring ${item.label}`);
      rows.push(...await measureCase(browser, origin, options, item));
    }
    await browser.close();
  } finally {
    close();
  }
  console.log(options.json ? JSON.stringify(rows, null, 1) : table(rows));
}

main().catch((error) => {
  console.error(`peers: ${error instanceof Failure ? error.message : error.stack}`);
  process.exit(1);
});
