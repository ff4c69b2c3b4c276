package dev.sparrow;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * An entry point of a model, ready to run. One thread uses it at a time: a second one gets an
 * {@link IllegalStateException}. Threads that run at the same time make a session each.
 *
 * <p>Inputs and outputs are direct buffers over the memory the session runs on: nothing is copied. They may be kept; a
 * buffer that outlives its session is memory that is no longer used.
 */
public final class Session implements AutoCloseable {
    private final Entry entry;
    private final ByteBuffer arena;
    private final ReentrantLock lock = new ReentrantLock();
    /** Guards the handle where the lock cannot: for a cancel, which comes while another thread runs. */
    private final Object handleLock = new Object();
    private long handle;

    /** A session of the first entry point, on one thread. */
    public Session(Model model) {
        this(model, new Options());
    }

    /**
     * A session.
     *
     * @throws IllegalArgumentException if the model has no such entry point, or too many threads are asked for
     */
    public Session(Model model, Options options) {
        List<Entry> entries = model.entries();
        if (options.entry < 0 || options.entry >= entries.size()) {
            throw new IllegalArgumentException("there is no entry point " + options.entry);
        }
        entry = entries.get(options.entry);
        // The session begins at a multiple of 64 in it.
        arena = ByteBuffer.allocateDirect(Math.toIntExact(entry.arenaSize() + 63));
        handle = model.newSession(options, arena);
    }

    /** The inputs. */
    public List<Tensor> inputs() {
        return entry.inputs();
    }

    /** The outputs. */
    public List<Tensor> outputs() {
        return entry.outputs();
    }

    /**
     * Where the elements of an input are written, row-major, before each run (a run may reuse their memory): a direct
     * buffer in the machine's byte order.
     *
     * @throws IndexOutOfBoundsException if there is no such input
     */
    public ByteBuffer input(int index) {
        return view(false, index, entry.inputs());
    }

    /**
     * Where the elements of an output are read, row-major, after a run.
     *
     * @throws IndexOutOfBoundsException if there is no such output
     */
    public ByteBuffer output(int index) {
        return view(true, index, entry.outputs()).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
    }

    private ByteBuffer view(boolean output, int index, List<Tensor> tensors) {
        begin();
        try {
            int offset = (int) Native.sessionOffset(handle, output, index);
            ByteBuffer part = arena.duplicate();
            part.limit(offset + tensors.get(index).byteSize()).position(offset);
            return part.slice().order(ByteOrder.nativeOrder());
        } finally {
            lock.unlock();
        }
    }

    /**
     * Runs the entry point.
     *
     * @throws CancelledException if {@link #cancel} stopped it
     */
    public void run() {
        begin();
        try {
            Native.sessionRun(handle);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Runs the entry point and times every operator.
     *
     * @throws CancelledException if {@link #cancel} stopped it
     */
    public List<OpTime> profile() {
        begin();
        try {
            return Collections.unmodifiableList(Arrays.asList(Native.sessionProfile(handle)));
        } finally {
            lock.unlock();
        }
    }

    /** Stops the run under way before its next operator, or else the next run at once. Any thread may call it. */
    public void cancel() {
        synchronized (handleLock) {
            if (handle == 0) {
                throw new IllegalStateException("the session is closed");
            }
            Native.sessionCancel(handle);
        }
    }

    private void begin() {
        if (!lock.tryLock()) {
            throw new IllegalStateException("another thread is using the session");
        }
        if (handle == 0) {
            lock.unlock();
            throw new IllegalStateException("the session is closed");
        }
    }

    /** Ends the session, after the run that another thread may have under way. A second call does nothing. */
    @Override
    public void close() {
        lock.lock();
        try {
            synchronized (handleLock) {
                if (handle != 0) {
                    Native.sessionFree(handle);
                    handle = 0;
                }
            }
        } finally {
            lock.unlock();
        }
    }
}
