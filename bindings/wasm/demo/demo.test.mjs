// Drives the demo page in Chromium, on a screen as large as a phone's.   node demo/demo.test.mjs [SCREENSHOT.png]
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test, before, after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch } from '../test/chromium.mjs';
import { serve } from './serve.mjs';

const site = path.join(path.dirname(fileURLToPath(import.meta.url)), 'site'), screenshot = process.argv[2];
const CLASSES = ['T-shirt', 'Trousers', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Boot'];
const labels = fs.readFileSync(path.join(site, 'test_labels.npy')).subarray(128);
const networks = JSON.parse(fs.readFileSync(path.join(site, 'networks.json')));
const problems = [];
let browser, server, page;

before(async () => {
  server = await serve(site);
  browser = await launch(['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']);
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, permissions: ['camera'] });
  page = await context.newPage();
  page.setDefaultTimeout(30000);
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) problems.push(message.text()); });
  page.on('pageerror', (error) => problems.push(error.message));
  await page.goto(`${server.origin}/`);
});
after(async () => {
  await browser.close();
  server.close();
});

const shown = () => page.evaluate(() => Number(document.body.dataset.shown ?? 0));
/** Waits until the page shows an answer that was asked for after this call began. */
async function answered(action) {
  const before = await shown();
  await action();
  await page.waitForFunction((id) => Number(document.body.dataset.shown) > id, before);
}
const cards = () => page.$$eval('#networks article', (articles) => articles.map((article) => ({
  title: article.querySelector('h2').textContent,
  time: article.querySelector('.time').textContent,
  classes: [...article.querySelectorAll('li')].map((line) => line.querySelector('em').textContent),
  shares: [...article.querySelectorAll('li b')].map((share) => parseInt(share.textContent)),
})));

test('dense, int8 and sparse networks answer side by side', async () => {
  await page.waitForFunction(() => document.body.dataset.shown);
  const seen = await cards();
  assert.deepEqual(seen.map(({ title }) => title), ['f32, dense', 'int8, dense', 'int8, 30 % sparse']);
  for (const { time, classes, shares } of seen) {
    assert.match(time, /^[\d.]+ ms$/);
    assert.equal(classes.length, 3);
    assert.ok(shares[0] >= shares[1] && shares[1] >= shares[2] && shares.every((share) => share >= 0 && share <= 100));
  }
  assert.equal(await page.textContent('#verdict'), seen[0].classes[0]);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${wide} pixels too wide`);
});

test('test pictures are shown with what they are', async () => {
  let right = 0;
  for (let k = 1; k <= 8; k++) {
    await answered(() => page.click(`#samples button:nth-child(${k})`));
    const truth = await page.textContent('#truth');
    assert.equal(truth === 'and right', (await page.textContent('#verdict')) === CLASSES[labels[k - 1]]);
    right += truth === 'and right';
  }
  assert.ok(right >= 6, `${right} of 8`);
  await page.click('#samples button:nth-child(1)');
});

test('all test pictures come out as in the native program', async () => {
  await page.click('#all');
  await page.waitForFunction(() => /right/.test(document.getElementById('state').textContent));
  const shares = (await page.textContent('#state')).match(/[\d.]+(?= %)/g).map(Number);
  networks.forEach(({ accuracy }, i) => assert.ok(Math.abs(shares[i] - accuracy * 100) < (i ? 0.01 : 0.11), `${shares[i]} ${accuracy}`));
  if (screenshot) {
    await answered(() => page.click('#samples button:nth-child(1)'));
    await page.screenshot({ path: screenshot });
  }
});

test('a picture file is classified, whatever its size and ground; another file is refused', async () => {
  // Trousers on white: two legs and a waist.
  const png = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(600, 400), context = canvas.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, 600, 400);
    context.fillStyle = '#234';
    context.fillRect(235, 30, 130, 60);
    context.fillRect(235, 30, 52, 340);
    context.fillRect(313, 30, 52, 340);
    return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
  });
  await answered(() => page.setInputFiles('#file', { name: 'trousers.png', mimeType: 'image/png', buffer: Buffer.from(png) }));
  assert.equal(await page.textContent('#verdict'), 'Trousers');
  assert.equal(await page.textContent('#truth'), '');
  await page.setInputFiles('#file', { name: 'x.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
  await page.waitForFunction(() => /not a picture/.test(document.getElementById('state').textContent));
});

test('a picture can be dropped', async () => {
  await answered(() => page.evaluate(async () => {
    const canvas = document.querySelector('#samples canvas'), transfer = new DataTransfer();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve));
    transfer.items.add(new File([blob], 'dropped.png', { type: 'image/png' }));
    dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
  }));
  assert.equal(await page.textContent('#verdict'), CLASSES[labels[0]]);
});

test('the camera runs until it is stopped', async () => {
  await answered(() => page.click('#camera'));
  assert.equal(await page.getAttribute('#camera', 'aria-pressed'), 'true');
  await answered(() => {});
  await page.click('#camera');
  assert.equal(await page.isVisible('#video'), false);
});

test('nothing was complained of', () => assert.deepEqual(problems.filter((text) => !/not a picture/.test(text)), []));
