// Compiled, never run: the types fit the documented use.
import { Model, SparrowError, supported, type LoadOptions, type OperatorTime, type Simd, type Tensor } from '../sparrow.js';

const options: LoadOptions = { sha256: '0'.repeat(64), cache: true, signal: AbortSignal.timeout(1000), entry: 0,
  simd: 'simd128', base: new URL('.', import.meta.url), progress: ({ loaded, total }) => void (loaded / total) };

export async function classify(pixels: Float32Array): Promise<number> {
  const best: Simd | null = supported();
  if (!best) throw new SparrowError('unsupported', 'no SIMD');
  const model: Model = await Model.load(new URL('model.spw', import.meta.url), options);
  try {
    const image: Tensor = model.inputs[0]!, scores: Tensor = model.outputs[0]!;
    image.set(pixels);
    model.run();
    const times: OperatorTime[] = model.profile();
    const { data } = scores;
    if (!(data instanceof Float32Array)) throw new TypeError(scores.type);
    return data.indexOf(Math.max(...data)) + times.length;
  } catch (error) {
    if (error instanceof SparrowError && error.code === 'closed') return error.number;
    throw error;
  } finally {
    model.close();
  }
}

// @ts-expect-error: a model is made by load
new Model();
// @ts-expect-error: there is no such module
await Model.load('model.spw', { simd: 'avx2' });
