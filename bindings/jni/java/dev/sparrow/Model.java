package dev.sparrow;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/**
 * A model: a mapped file, or bytes in memory, validated once. Any thread may use it. Closing it leaves its sessions
 * alone: they keep what they need.
 */
public final class Model implements AutoCloseable {
    private long handle;
    private final List<Entry> entries;

    private Model(long handle) {
        this.handle = handle;
        this.entries = Collections.unmodifiableList(Arrays.asList(Native.modelEntries(handle)));
    }

    /**
     * Maps a file; no weight is read. It must not be changed in place while the model is open.
     *
     * @throws IOException if the file cannot be read
     * @throws ModelException if it is not a valid model
     */
    public static Model open(File file) throws IOException {
        return new Model(Native.modelOpen(file.getPath()));
    }

    /**
     * Copies a model from memory, from the buffer's position to its limit.
     *
     * @throws ModelException if it is not a valid model
     */
    public static Model of(ByteBuffer bytes) {
        ByteBuffer direct = bytes.duplicate();
        if (!bytes.isDirect()) {
            direct = ByteBuffer.allocateDirect(bytes.remaining());
            direct.put(bytes.duplicate());
            direct.flip();
        }
        return new Model(Native.modelFromBuffer(direct, direct.position(), direct.remaining()));
    }

    /** The entry points. */
    public List<Entry> entries() {
        return entries;
    }

    /**
     * Compares the hash of every part of the file, weights included: reads all of it.
     *
     * @throws ModelException if a part has been altered
     */
    public synchronized void verify() {
        Native.modelVerify(open());
    }

    /** The CPU features kernels may use on this machine, one a bit. */
    public static int cpuFeatures() {
        return Native.cpuFeatures();
    }

    synchronized long newSession(Options options, ByteBuffer arena) {
        return Native.sessionNew(open(), options.threads, options.withoutFeatures, options.entry, arena);
    }

    private long open() {
        if (handle == 0) {
            throw new IllegalStateException("the model is closed");
        }
        return handle;
    }

    /** Lets go of the model. A second call does nothing. */
    @Override
    public synchronized void close() {
        if (handle != 0) {
            Native.modelFree(handle);
            handle = 0;
        }
    }
}
