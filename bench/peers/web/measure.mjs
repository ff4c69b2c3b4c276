// Runs in the page: loads one network into several programs and lets them take turns.
//
// Each of `open` below loads a program and a network, and gives a function that does one inference on whatever the
// input holds.

const WARMUP = 3, LEAST_RUNS = 5, MOST_RUNS = 2000;
const SETTLE_MS = 1000; // of running before anything counts: the engine compiles hot code a second time

const image = (shape) => new Float32Array(shape.reduce((a, b) => a * b)).map((_, i) => ((i * 7919) % 256) / 256);

const open = {
  async 'LiteRT.js'({ url }) {
    const litert = await import('@litertjs/core');
    await litert.loadLiteRt('/modules/@litertjs/core/wasm/');
    const network = await litert.loadAndCompile(url, { accelerator: 'wasm' });
    const shape = Array.from(network.getInputDetails()[0].shape);
    const input = new litert.Tensor(image(shape), shape);
    return async () => {
      for (const output of await network.run(input)) output.delete();
    };
  },

  async 'onnxruntime-web'({ url, shape }) {
    const ort = await import('/modules/onnxruntime-web/dist/ort.wasm.min.mjs');
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/modules/onnxruntime-web/dist/';
    const session = await ort.InferenceSession.create(url, { executionProviders: ['wasm'] });
    const feeds = { [session.inputNames[0]]: new ort.Tensor('float32', image(shape), shape) };
    return () => session.run(feeds);
  },

  async Sparrow({ url }) {
    const { Model } = await import('/sparrow/sparrow.js');
    const network = await Model.load(url);
    return () => network.run();
  },
};

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/** {median, best} time of so many runs, in ms, after a few that do not count. */
async function turn(run, runs) {
  for (let i = 0; i < WARMUP; i++) await run();
  const times = [];
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return { median: median(times), best: Math.min(...times) };
}

async function settle(run) {
  for (const end = performance.now() + SETTLE_MS; performance.now() < end; ) await run();
}

/**
 * contenders: [{name, kind, url, shape}]
 * -> {turns: {name: [{median, best} of each round]}, notes: {name: why it could not run}}
 */
export async function measure({ contenders, rounds, turnMs }) {
  const ready = [], turns = {}, notes = {};
  for (const contender of contenders) {
    try {
      const run = await open[contender.kind](contender);
      await settle(run);
      const runs = Math.round(turnMs / (await turn(run, LEAST_RUNS)).median);
      ready.push({ name: contender.name, run, runs: Math.min(MOST_RUNS, Math.max(LEAST_RUNS, runs)) });
      turns[contender.name] = [];
    } catch (error) {
      notes[contender.name] = String(error?.message ?? error);
    }
  }
  for (let round = 0; round < rounds; round++)
    for (const { name, run, runs } of ready) turns[name].push(await turn(run, runs));
  return { turns, notes };
}
