package dev.sparrow;

/** The bytes are not a valid model. */
public final class ModelException extends SparrowException {
    private static final long serialVersionUID = 1;

    ModelException(String message, int code) {
        super(message, code);
    }
}
