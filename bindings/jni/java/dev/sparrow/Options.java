package dev.sparrow;

/** How a session runs: by default on one thread, with every CPU feature, from the first entry point. */
public final class Options {
    int threads = 1;
    int entry;
    int withoutFeatures;

    /** Threads, the caller's included: 256 at most. */
    public Options threads(int threads) {
        if (threads < 1) {
            throw new IllegalArgumentException("threads: " + threads);
        }
        this.threads = threads;
        return this;
    }

    /** Which of {@link Model#entries} to run. */
    public Options entry(int entry) {
        this.entry = entry;
        return this;
    }

    /** CPU features not to use, as in {@code "avx2"} or {@code "dotprod"}. */
    public Options without(String... features) {
        for (String feature : features) {
            int bit = Native.feature(feature);
            if (bit == 0) {
                throw new IllegalArgumentException("there is no CPU feature '" + feature + "'");
            }
            withoutFeatures |= bit;
        }
        return this;
    }
}
