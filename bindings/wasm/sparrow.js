// Loads and runs Sparrow models: in browsers, in workers and in Node.
//
// Every model gets an instance of the WebAssembly module of its own. Its memory grows while the file is read and never
// after, so the typed arrays that show inputs and outputs are made once and stay valid; closing the model drops the
// instance and with it all of that memory. A trap, were there one, ends that model and no other.

const ELEMENTS = [
  ['f32', Float32Array], ['f16', Uint16Array], ['i8', Int8Array], ['u8', Uint8Array], ['i32', Int32Array],
  ['i64', BigInt64Array], ['bool', Uint8Array],
];
const MAGIC = [0x53, 0x50, 0x41, 0x52, 0x52, 0x4f, 0x57, 0x1a]; // "SPARROW", 26
const HEADER = 64; // bytes; the file's own size stands at 16
const WORDS_OF_TENSOR = 10;
const CACHE = 'sparrow-models';
const IN_NODE = Boolean(globalThis.process?.versions?.node);

/** Codes for the numbers of the Rust API; `number` keeps the finer one. */
const codeOf = (number) =>
  number === 1 ? 'not-a-model' : number === 2 || number === 8 || number === 11 || number === 12 ? 'version'
    : number === 16 ? 'no-entry' : number === 200 ? 'memory' : number < 100 ? 'damaged' : 'internal';

/** Everything this package throws by itself. */
export class SparrowError extends Error {
  constructor(code, message, { number = 0, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SparrowError';
    this.code = code;
    this.number = number;
  }
}

// Smallest modules that use one instruction: i8x16.popcnt, and i8x16.relaxed_swizzle.
const PROBES = {
  simd128: [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
  relaxed: [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253,
    15, 253, 128, 2, 11],
};

/** The best of this package's modules that the engine can run: 'relaxed', 'simd128', or null. */
export function supported() {
  const can = (name) => WebAssembly.validate(Uint8Array.from(PROBES[name]));
  return can('relaxed') ? 'relaxed' : can('simd128') ? 'simd128' : null;
}

const modules = new Map();

/** The compiled module, once for all models. */
function compiled(simd, base) {
  const url = new URL(`sparrow-${simd}.wasm`, base);
  if (!modules.has(url.href)) {
    const module = compile(url).catch((cause) => {
      modules.delete(url.href);
      throw cause instanceof SparrowError ? cause : new SparrowError('network', `${url}: ${cause.message}`, { cause });
    });
    modules.set(url.href, module);
  }
  return modules.get(url.href);
}

async function compile(url) {
  if (url.protocol === 'file:' && IN_NODE) {
    const { readFile } = await import(/* @vite-ignore */ /* webpackIgnore: true */ 'node:fs/promises');
    return WebAssembly.compile(await readFile(url));
  }
  const response = await get(url, {});
  const wasm = response.headers.get('content-type')?.startsWith('application/wasm');
  return wasm ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

async function get(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (cause) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw new SparrowError('network', `${url}: ${cause.cause?.message ?? cause.message}`, { cause });
  }
  if (!response.ok) throw new SparrowError('network', `${url}: ${response.status} ${response.statusText}`.trim());
  return response;
}

/** Where a string leads: an address, or in Node a path. */
async function address(source) {
  if (source instanceof URL) return source;
  if (!IN_NODE) return new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (/^[a-z][a-z0-9+.-]+:/i.test(source)) return new URL(source);
  const { pathToFileURL } = await import(/* @vite-ignore */ /* webpackIgnore: true */ 'node:url');
  return pathToFileURL(source);
}

/** The parts of a file in Node. */
async function* partsOfFile(url, signal) {
  const { createReadStream } = await import(/* @vite-ignore */ /* webpackIgnore: true */ 'node:fs');
  try {
    yield* createReadStream(url, { signal, highWaterMark: 1 << 20 });
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw new SparrowError('network', cause.message, { cause });
  }
}

/** The parts of a response's or blob's stream; what it still holds is given up if the reader stops early. */
async function* partsOfStream(stream, signal) {
  const reader = stream.getReader();
  try {
    for (;;) {
      let part;
      try {
        part = await reader.read();
      } catch (cause) {
        if (signal?.aborted) throw signal.reason;
        throw new SparrowError('network', `the transfer broke off: ${cause.message}`, { cause });
      }
      if (part.done) return;
      yield part.value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** A source of bytes as parts of it, and the address it came from if it has one. */
async function open(source, { signal, cached }) {
  if (source instanceof ArrayBuffer) return { parts: [new Uint8Array(source)] };
  if (ArrayBuffer.isView(source)) return { parts: [new Uint8Array(source.buffer, source.byteOffset, source.byteLength)] };
  if (source instanceof Blob) return { parts: partsOfStream(source.stream(), signal) };
  if (source instanceof Response) {
    if (!source.ok || !source.body || source.bodyUsed)
      throw new SparrowError('network', `${source.url || 'the response'}: status ${source.status}, or its body is used up`);
    return { parts: partsOfStream(source.body, signal) };
  }
  if (typeof source !== 'string' && !(source instanceof URL))
    throw new SparrowError('argument', 'a model is a URL, a Response, a Blob or bytes');
  const url = await address(source);
  if (url.protocol === 'file:' && IN_NODE) return { parts: partsOfFile(url, signal) };
  const hit = await cached?.match(url);
  const response = hit ?? await get(url, { signal });
  return { parts: partsOfStream(response.body, signal), url, fromCache: Boolean(hit) };
}

const truncated = (found, promised) => new SparrowError('damaged',
  `${found} bytes, not ${promised}: the file is truncated or has been altered`, { number: 3 });

/** A clear refusal before megabytes of something else are read; all else of the header is checked when it is opened. */
function sizeIn(header, loaded) {
  if (MAGIC.some((byte, i) => header[i] !== byte))
    throw new SparrowError('not-a-model', 'not a Sparrow file; make one with `sparrow convert`', { number: 1 });
  if (loaded < HEADER) throw truncated(loaded, `the ${HEADER} of a header`);
  const size = new DataView(header.buffer).getBigUint64(16, true);
  if (size < BigInt(HEADER) || size >= 1n << 32n)
    throw new SparrowError('memory', `the file says it has ${size} bytes: more than WebAssembly can hold`, { number: 200 });
  return Number(size);
}

/** Writes the parts of a file into the instance's memory, as they come. Returns the bytes there. */
async function receive({ exports }, parts, { progress, signal }) {
  const header = new Uint8Array(HEADER);
  let loaded = 0, bytes = null;
  for await (let part of parts) {
    signal?.throwIfAborted();
    if (!bytes) {
      const taken = part.subarray(0, HEADER - loaded);
      header.set(taken, loaded);
      loaded += taken.length;
      if (loaded < HEADER) continue;
      const size = sizeIn(header, loaded), at = exports.reserve(size) >>> 0;
      if (!at) throw new SparrowError('memory', `there is no memory for a file of ${size} bytes`, { number: 200 });
      bytes = new Uint8Array(exports.memory.buffer, at, size);
      bytes.set(header);
      part = part.subarray(taken.length);
    }
    if (loaded + part.length > bytes.length) throw truncated('more', bytes.length);
    bytes.set(part, loaded);
    loaded += part.length;
    progress?.({ loaded, total: bytes.length });
  }
  signal?.throwIfAborted();
  if (loaded < HEADER) sizeIn(header, loaded);
  if (loaded < bytes.length) throw truncated(loaded, bytes.length);
  return bytes;
}

async function hashOf(bytes) {
  const crypto = globalThis.crypto ?? (IN_NODE ? (await import(/* @vite-ignore */ /* webpackIgnore: true */ 'node:crypto')).webcrypto : null);
  if (!crypto?.subtle)
    throw new SparrowError('argument', 'sha256 needs a secure page: https, or http on this machine');
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Reads a model's file into a fresh instance, checked against its hash, from the cache if it is there. */
async function load(module, source, options) {
  const { sha256, cache } = options;
  const cached = cache && globalThis.caches ? await caches.open(CACHE).catch(() => null) : null;
  for (let attempt = cached; ; attempt = null) {
    const instance = await WebAssembly.instantiate(module, { host: { now: () => performance.now() } });
    const { parts, url, fromCache } = await open(source, { ...options, cached: attempt });
    let found, bytes;
    try {
      bytes = await receive(instance, parts, options);
      found = sha256 && await hashOf(bytes);
      if (found !== sha256) throw new SparrowError('hash', `the model's sha256 is ${found}, not ${sha256}`);
    } catch (error) {
      // Another version, or a damaged copy, in the cache: what the server has decides.
      if (!fromCache || options.signal?.aborted) throw error;
      await cached.delete(url);
      continue;
    }
    // A full disk, or a page that may not store anything, is no reason not to run.
    if (cached && url && !fromCache) await cached.put(url, new Response(bytes)).catch(() => {});
    return instance;
  }
}

const closed = () => new SparrowError('closed', 'the model is closed');

/** An input or output: what it is, and a view of its elements in the module's memory. */
class Tensor {
  #model;
  #data;

  constructor(model, view, words) {
    const [name, length, dtype, dims, rank, data, bytes, quantized] = words;
    const [type, Elements] = ELEMENTS[dtype];
    const buffer = view.buffer;
    this.#model = model;
    this.#data = new Elements(buffer, data, bytes / Elements.BYTES_PER_ELEMENT);
    this.name = new TextDecoder().decode(new Uint8Array(buffer, name, length));
    this.type = type;
    this.shape = Object.freeze(Array.from(new Uint32Array(buffer, dims, rank)));
    this.quantization = quantized & 1
      ? Object.freeze({ scale: new Float32Array(words.buffer, words.byteOffset + 32, 1)[0], zero: words[9] | 0 }) : null;
    Object.freeze(this);
  }

  get data() {
    if (this.#model.closed) throw closed();
    return this.#data;
  }

  set(values) {
    const { data } = this;
    if (values?.length !== data.length)
      throw new SparrowError('size', `'${this.name}' has ${data.length} elements, not ${values?.length}`);
    if (ArrayBuffer.isView(values) && values.constructor !== data.constructor)
      throw new SparrowError('type', `'${this.name}' takes ${data.constructor.name}, not ${values.constructor.name}`);
    data.set(values);
  }
}

function checked({ sha256, cache = false, entry = 0, simd, ...options }) {
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) throw new SparrowError('argument', 'sha256 has 64 hexadecimal digits');
  if (cache && !sha256) throw new SparrowError('argument', 'a cache needs sha256, or a new model would be taken for the old one');
  if (!Number.isInteger(entry) || entry < 0) throw new SparrowError('argument', 'entry is the number of an entry point');
  if (simd !== undefined && !(simd in PROBES)) throw new SparrowError('argument', "simd is 'relaxed' or 'simd128'");
  simd ??= supported();
  if (!simd) throw new SparrowError('unsupported', 'this engine has no WebAssembly SIMD: use a newer browser');
  return { ...options, sha256: sha256?.toLowerCase(), cache, entry, simd };
}

/** A model, open and ready to run. */
export class Model {
  #exports;
  #operators;

  static async load(source, options = {}) {
    const { simd, entry, base = import.meta.url, ...rest } = checked(options);
    rest.signal?.throwIfAborted();
    const instance = await load(await compiled(simd, base), source, rest);
    return new Model(OPENING, instance.exports, entry, simd);
  }

  /** Not to be called: models come from `load`. */
  constructor(key, exports, entry, simd) {
    if (key !== OPENING) throw new SparrowError('argument', 'a model is made by await Model.load(...)');
    this.#exports = exports;
    this.#call('open', entry);
    this.simd = simd;
    this.inputs = this.#tensors(0);
    this.outputs = this.#tensors(1);
    this.#exports.operators();
    this.#operators = this.#text().trimEnd().split('\n').map((line) => line.split('\t'));
    Object.freeze(this);
  }

  run() {
    this.#call('run');
  }

  profile() {
    this.#call('profile');
    const times = new Float64Array(this.#exports.memory.buffer, this.#exports.times() >>> 0, this.#operators.length);
    return this.#operators.map(([op, kernel, name], i) => ({ name, op, kernel, ms: times[i] }));
  }

  get closed() {
    return this.#exports === null;
  }

  close() {
    this.#exports = null;
  }

  #call(name, ...args) {
    if (this.closed) throw closed();
    let number;
    try {
      number = this.#exports[name](...args);
    } catch (cause) {
      // Whatever state the instance is in now, nobody sees it again.
      this.close();
      throw new SparrowError('internal', `the module failed and the model is closed: ${cause.message}`, { cause });
    }
    if (number) throw new SparrowError(codeOf(number), this.#text(), { number });
  }

  #text() {
    const { memory, text, text_len } = this.#exports;
    return new TextDecoder().decode(new Uint8Array(memory.buffer, text() >>> 0, text_len()));
  }

  #tensors(role) {
    const { memory, tensor, tensor_count } = this.#exports;
    return Object.freeze(Array.from({ length: tensor_count(role) }, (_, index) =>
      new Tensor(this, memory, new Uint32Array(memory.buffer, tensor(role, index) >>> 0, WORDS_OF_TENSOR))));
  }
}
const OPENING = Symbol('opening');
