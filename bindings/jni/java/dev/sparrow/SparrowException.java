package dev.sparrow;

/** Something failed inside Sparrow. */
public class SparrowException extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final int code;

    SparrowException(String message, int code) {
        super(message);
        this.code = code;
    }

    /** A number that never changes: those of {@code SparrowStatus} in {@code sparrow.h}. */
    public int code() {
        return code;
    }
}
