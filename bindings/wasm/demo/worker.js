// The demo's networks, away from the page's thread.
import { Model } from './sparrow.js';

const ROUNDS = 5, LEAST_MS = 1; // of timing: the clock of a page may have a coarse grain, and its machine other work
let models = [];

const loading = fetch('networks.json').then((response) => response.json()).then(async (networks) => {
  const loaded = networks.map(() => 0), total = networks.reduce((sum, { bytes }) => sum + bytes, 0);
  models = await Promise.all(networks.map(({ file, sha256 }, i) => Model.load(new URL(file, import.meta.url), {
    sha256, cache: true,
    progress: (step) => {
      loaded[i] = step.loaded;
      postMessage({ kind: 'progress', share: loaded.reduce((a, b) => a + b) / total });
    },
  })));
  postMessage({ kind: 'ready', networks, simd: models[0].simd });
});
loading.catch((error) => postMessage({ kind: 'failed', message: error.message }));

const softmax = (scores) => {
  const peak = Math.max(...scores), powers = Array.from(scores, (score) => Math.exp(score - peak));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
};

/** A few runs on one picture: milliseconds of one, writing its input included. */
function time(model, pixels) {
  const [image] = model.inputs, start = performance.now();
  let runs = 0, now;
  do {
    image.data.set(pixels);
    model.run();
    runs++;
    now = performance.now();
  } while (now - start < LEAST_MS);
  return (now - start) / runs;
}

/** All networks on one picture, in turns: their probabilities, and the time of the best round. */
function classify(pixels) {
  const best = models.map(() => Infinity);
  for (let round = 0; round < ROUNDS; round++)
    models.forEach((model, i) => { best[i] = Math.min(best[i], time(model, pixels)); });
  return models.map(({ outputs: [scores] }, i) => ({ shares: softmax(scores.data), ms: best[i] }));
}

/** Every picture through every network. */
function all({ pictures, labels }) {
  const start = performance.now();
  const right = models.map((model) => {
    const [image] = model.inputs, [scores] = model.outputs;
    return labels.reduce((count, label, k) => {
      for (let i = 0; i < image.data.length; i++) image.data[i] = pictures[k * image.data.length + i] / 255;
      model.run();
      return count + (scores.data.indexOf(Math.max(...scores.data)) === label);
    }, 0);
  });
  return { right, runs: labels.length * models.length, ms: performance.now() - start };
}

onmessage = async ({ data }) => {
  await loading;
  if (data.kind === 'classify') postMessage({ kind: 'classified', id: data.id, results: classify(data.pixels) });
  else postMessage({ kind: 'all', ...all(data) });
};
