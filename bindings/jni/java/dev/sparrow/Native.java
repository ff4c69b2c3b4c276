package dev.sparrow;

import java.io.IOException;
import java.nio.ByteBuffer;

/** The methods of the native library. Handles come from it and are passed back only while what they stand for lives. */
final class Native {
    static {
        // A program that is not an Android app may say where the library is.
        String path = System.getProperty("dev.sparrow.library");
        if (path == null) {
            System.loadLibrary("sparrow_jni");
        } else {
            System.load(path);
        }
    }

    private Native() {}

    static native long modelOpen(String path) throws IOException;

    static native long modelFromBuffer(ByteBuffer bytes, int offset, int size);

    static native void modelVerify(long model);

    static native Entry[] modelEntries(long model);

    static native void modelFree(long model);

    static native long sessionNew(long model, int threads, int withoutFeatures, int entry, ByteBuffer arena);

    static native long sessionOffset(long session, boolean output, int index);

    static native void sessionRun(long session);

    static native void sessionCancel(long session);

    static native OpTime[] sessionProfile(long session);

    static native void sessionFree(long session);

    static native int cpuFeatures();

    static native int feature(String name);
}
