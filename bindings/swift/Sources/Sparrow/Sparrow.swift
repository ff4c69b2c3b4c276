import CSparrow
import Foundation

/// Why a call failed.
public struct SparrowError: Error, CustomStringConvertible {
    /// A number that never changes: one of `SparrowStatus` in `sparrow.h`.
    public let code: Int32
    /// The same in words.
    public let description: String

    /// Whether `Session.cancel` stopped the run.
    public var isCancelled: Bool { code == 18 }
}

private func check(_ status: SparrowStatus) throws {
    let code = Int32(status)
    guard code == 0 else {
        throw SparrowError(code: code, description: String(cString: sparrow_last_error()))
    }
}

private func string(_ text: SparrowText) -> String {
    String(decoding: UnsafeRawBufferPointer(start: text.data, count: text.len), as: UTF8.self)
}

/// A model: a mapped file, or bytes in memory, validated once. Any thread may use it.
public final class Model {
    fileprivate let handle: OpaquePointer

    /// Maps a file; it must not be changed in place while the model is open.
    public init(path: String) throws {
        var made: OpaquePointer?
        try check(sparrow_model_open(path, &made))
        handle = made!
    }

    /// Copies a model from memory.
    public init(bytes: Data) throws {
        var made: OpaquePointer?
        try bytes.withUnsafeBytes { buffer in
            try check(sparrow_model_from_bytes(buffer.baseAddress, buffer.count, &made))
        }
        handle = made!
    }

    /// Compares the hash of every part of the file, weights included.
    public func verify() throws {
        try check(sparrow_model_verify(handle))
    }

    deinit {
        sparrow_model_free(handle)
    }
}

/// An input or output.
public struct Tensor {
    /// Its name in the source network.
    public let name: String
    /// Its dimensions.
    public let shape: [Int]
    /// Its elements, row-major, inside the session's memory: nothing is copied. Valid while the session lives.
    public let bytes: UnsafeMutableRawBufferPointer

    fileprivate init(_ tensor: SparrowTensor) {
        name = string(tensor.name)
        let dims = withUnsafeBytes(of: tensor.dims) { Array($0.bindMemory(to: UInt32.self)) }
        shape = dims.prefix(Int(tensor.rank)).map(Int.init)
        bytes = UnsafeMutableRawBufferPointer(start: tensor.data, count: tensor.size)
    }

    /// The elements as values of a type as wide as theirs.
    public func elements<Element>(as type: Element.Type) -> UnsafeMutableBufferPointer<Element> {
        bytes.bindMemory(to: type)
    }
}

/// An entry point ready to run. One thread uses it at a time.
public final class Session {
    private let handle: OpaquePointer

    /// A session of a model's entry point.
    public init(_ model: Model, threads: Int = 1, entry: Int = 0) throws {
        var options = SparrowOptions()
        options.threads = UInt32(clamping: threads)
        options.entry = UInt32(clamping: entry)
        var made: OpaquePointer?
        try check(sparrow_session_new(model.handle, &options, &made))
        handle = made!
    }

    /// What is written before each run; a run may reuse its memory.
    public func input(_ index: Int) throws -> Tensor {
        var tensor = SparrowTensor()
        try check(sparrow_session_input(handle, index, &tensor))
        return Tensor(tensor)
    }

    /// What is read after a run.
    public func output(_ index: Int) throws -> Tensor {
        var tensor = SparrowTensor()
        try check(sparrow_session_output(handle, index, &tensor))
        return Tensor(tensor)
    }

    /// Runs the entry point.
    public func run() throws {
        try check(sparrow_session_run(handle))
    }

    /// Stops the run under way, or else the next one. Any thread may call it.
    public func cancel() {
        _ = sparrow_session_cancel(handle)
    }

    deinit {
        sparrow_session_free(handle)
    }
}
