// The demo's networks, away from the page's thread.
import { Model } from './sparrow.js';

const LEAST_MS = 4, MOST_RUNS = 50; // of a timing: the clock of a page may have a coarse grain
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

/** One network on one picture: its probabilities and the milliseconds of a run. */
function classify(model, pixels) {
  const [image] = model.inputs, [scores] = model.outputs;
  let runs = 0;
  const start = performance.now();
  do {
    image.data.set(pixels);
    model.run();
    runs++;
  } while (performance.now() - start < LEAST_MS && runs < MOST_RUNS);
  return { shares: softmax(scores.data), ms: (performance.now() - start) / runs };
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
  if (data.kind === 'classify') postMessage({ kind: 'classified', id: data.id, results: models.map((model) => classify(model, data.pixels)) });
  else postMessage({ kind: 'all', ...all(data) });
};
