package dev.sparrow;

/** {@link Session#cancel} stopped the run. */
public final class CancelledException extends SparrowException {
    private static final long serialVersionUID = 1;

    CancelledException(String message, int code) {
        super(message, code);
    }
}
