package dev.sparrow;

/** Time of one operator of a run. */
public final class OpTime {
    private final String name;
    private final String op;
    private final String kernel;
    private final long nanoseconds;

    // Called by the native library.
    OpTime(String name, String op, String kernel, long nanoseconds) {
        this.name = name;
        this.op = op;
        this.kernel = kernel;
        this.nanoseconds = nanoseconds;
    }

    /** Its name in the source network. */
    public String name() {
        return name;
    }

    /** What it computes. */
    public String op() {
        return op;
    }

    /** The kernel that ran. */
    public String kernel() {
        return kernel;
    }

    /** How long it took. */
    public long nanoseconds() {
        return nanoseconds;
    }
}
