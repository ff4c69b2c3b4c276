package dev.sparrow;

import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/** An entry point of a model: what a session runs. */
public final class Entry {
    private final String name;
    private final List<Tensor> inputs;
    private final List<Tensor> outputs;
    private final long arenaSize;

    // Called by the native library.
    Entry(String name, Tensor[] inputs, Tensor[] outputs, long arenaSize) {
        this.name = name;
        this.inputs = Collections.unmodifiableList(Arrays.asList(inputs));
        this.outputs = Collections.unmodifiableList(Arrays.asList(outputs));
        this.arenaSize = arenaSize;
    }

    /** Its name. */
    public String name() {
        return name;
    }

    /** What is written before a run. */
    public List<Tensor> inputs() {
        return inputs;
    }

    /** What is read after it. */
    public List<Tensor> outputs() {
        return outputs;
    }

    /** Bytes of memory a session runs on. */
    public long arenaSize() {
        return arenaSize;
    }
}
