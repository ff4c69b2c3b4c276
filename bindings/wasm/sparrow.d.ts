/** Runs Sparrow models in browsers, workers and Node. */

/** What went wrong, for programs; `message` says it for people, with a remedy where there is one. */
export type SparrowErrorCode =
  /** An argument that makes no sense. */
  | 'argument'
  /** The bytes are not a Sparrow file. */
  | 'not-a-model'
  /** The file needs another version of Sparrow. */
  | 'version'
  /** The file is truncated or has been altered. */
  | 'damaged'
  /** The file's sha256 is not the one asked for. */
  | 'hash'
  /** The file, or the module, could not be fetched or read. */
  | 'network'
  /** There is not enough memory. */
  | 'memory'
  /** The model has no entry point with this number. */
  | 'no-entry'
  /** The model has been closed. */
  | 'closed'
  /** Elements of another type than the tensor's. */
  | 'type'
  /** Another number of elements than the tensor's. */
  | 'size'
  /** The engine has no WebAssembly SIMD. */
  | 'unsupported'
  /** A fault of Sparrow's; the model is closed. */
  | 'internal';

/** Everything this package throws by itself. An aborted load throws the signal's reason. */
export class SparrowError extends Error {
  readonly code: SparrowErrorCode;
  /** The number of the error in every host language; 0 where only this one has it. */
  readonly number: number;
  constructor(code: SparrowErrorCode, message: string, options?: { number?: number; cause?: unknown });
}

/** Which of the package's modules: with relaxed SIMD, or with the SIMD of every current browser. */
export type Simd = 'relaxed' | 'simd128';

/** The best module this engine can run; null if none. */
export function supported(): Simd | null;

export type Elements =
  | Float32Array | Uint16Array | Int8Array | Uint8Array
  | Int32Array | BigInt64Array;

/** An input or output. */
export interface Tensor {
  /** Its name in the source network. */
  readonly name: string;
  /** Type of its elements; `f16` as bits in a Uint16Array, `bool` as 0 and 1 in a Uint8Array. */
  readonly type: 'f32' | 'f16' | 'i8' | 'u8' | 'i32' | 'i64' | 'bool';
  /** Its dimensions, as in the source network. */
  readonly shape: readonly number[];
  /** `real = scale * (code - zero)` of a quantized one, else null. */
  readonly quantization: { readonly scale: number; readonly zero: number } | null;
  /**
   * Its elements in the module's memory, row-major, without a copy: always the same array, valid until the model is
   * closed. A run may reuse an input's memory: write every input before each run.
   * @throws {SparrowError} `closed`
   */
  readonly data: Elements;
  /**
   * Copies elements in. A typed array must be of the tensor's own type.
   * @throws {SparrowError} `size`, `type`, `closed`
   */
  set(values: ArrayLike<number> | BigInt64Array): void;
}

export interface LoadOptions {
  /** Told of every part of the file that has arrived. */
  progress?: (step: { loaded: number; total: number }) => void;
  /** The file's sha256, 64 hexadecimal digits; another one is an error. (The file's own hashes are always checked.) */
  sha256?: string;
  /** Keep the file in the browser's cache and take it from there next time. Needs `sha256`; without effect in Node. */
  cache?: boolean;
  /** Stops loading. */
  signal?: AbortSignal;
  /** Number of the entry point; default 0. */
  entry?: number;
  /** The module to take; default the best one the engine can run. */
  simd?: Simd;
  /** Folder of sparrow-*.wasm, ending in a slash; default that of sparrow.js. */
  base?: string | URL;
}

/** The time of one operator of a run. */
export interface OperatorTime {
  /** Its name in the source network. */
  readonly name: string;
  /** What it computes. */
  readonly op: string;
  /** The kernel that ran; a name that ends in `_scalar` is not a fast one. */
  readonly kernel: string;
  readonly ms: number;
}

/** A model, open and ready to run, on the thread that loaded it: load it in a worker to keep a page smooth. */
export class Model {
  private constructor();
  /**
   * Reads a model straight into the module's memory and checks it. A string is an address, or in Node a path.
   * @throws {SparrowError} `network`, `not-a-model`, `damaged`, `version`, `hash`, `memory`, `no-entry`, `argument`,
   * `unsupported`
   */
  static load(source: string | URL | Response | Blob | ArrayBuffer | ArrayBufferView, options?: LoadOptions): Promise<Model>;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** The module it runs in. */
  readonly simd: Simd;
  readonly closed: boolean;
  /**
   * Computes the outputs from the inputs; allocates nothing.
   * @throws {SparrowError} `closed`, `internal`
   */
  run(): void;
  /**
   * A run that takes the time of every operator.
   * @throws {SparrowError} `closed`, `internal`
   */
  profile(): OperatorTime[];
  /** Gives its memory back. Arrays taken from it may still be read, but nothing writes them any more. */
  close(): void;
}
