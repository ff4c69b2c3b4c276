import dev.sparrow.CancelledException;
import dev.sparrow.ElementType;
import dev.sparrow.Entry;
import dev.sparrow.Model;
import dev.sparrow.ModelException;
import dev.sparrow.OpTime;
import dev.sparrow.Options;
import dev.sparrow.Session;
import java.io.File;
import java.io.IOException;
import java.nio.BufferOverflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.ReadOnlyBufferException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/** {@code Tests MODEL INPUT EXPECTED}: the Java API on a real network, misuse included. */
public final class Tests {
    private static File file;
    private static byte[] input;
    private static byte[] expected;

    private interface Body {
        void run() throws Exception;
    }

    private static void check(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    private static <E extends Throwable> E fails(Class<E> type, Body body) {
        try {
            body.run();
        } catch (Throwable thrown) {
            if (type.isInstance(thrown)) {
                return type.cast(thrown);
            }
            throw new AssertionError("expected " + type.getSimpleName() + ", came " + thrown, thrown);
        }
        throw new AssertionError("expected " + type.getSimpleName());
    }

    private static byte[] run(Session session) {
        session.input(0).put(input);
        session.run();
        byte[] bytes = new byte[session.outputs().get(0).byteSize()];
        session.output(0).get(bytes);
        return bytes;
    }

    private static void computes() throws Exception {
        byte[] content = Files.readAllBytes(file.toPath());
        ByteBuffer direct = ByteBuffer.allocateDirect(content.length + 5);
        direct.position(5);
        direct.put(content);
        direct.position(5);
        Model[] models = {Model.open(file), Model.of(ByteBuffer.wrap(content)), Model.of(direct)};
        check(direct.position() == 5, "the caller's buffer is left as it was");
        for (Model model : models) {
            for (Options options : new Options[] {new Options(), new Options().threads(3), new Options().without("neon", "avx2")}) {
                try (Session session = new Session(model, options)) {
                    for (int i = 0; i < 20; i++) {
                        check(Arrays.equals(run(session), expected), "output");
                    }
                }
            }
            model.verify();
            model.close();
        }
    }

    private static void describes() throws Exception {
        try (Model model = Model.open(file); Session session = new Session(model)) {
            check(model.entries().size() == 1, "one entry point");
            Entry entry = model.entries().get(0);
            check(entry.inputs().get(0).name().equals("image"), "name");
            check(entry.inputs().get(0).type() == ElementType.F32, "type");
            check(Arrays.equals(entry.inputs().get(0).shape(), new int[] {1, 1, 28, 28}), "shape");
            check(entry.inputs().get(0).byteSize() == 28 * 28 * 4, "size");
            check(entry.arenaSize() > 28 * 28 * 4, "arena");
            check(session.input(0).isDirect() && session.input(0).order() == ByteOrder.nativeOrder(), "direct");
            check(session.output(0).isDirect() && session.output(0).order() == ByteOrder.nativeOrder(), "direct");
            List<OpTime> times = session.profile();
            check(times.size() > 10 && !times.get(0).kernel().isEmpty(), "profile");
        }
    }

    private static void refusesWrongSizes() throws Exception {
        try (Model model = Model.open(file); Session session = new Session(model)) {
            ByteBuffer in = session.input(0);
            fails(BufferOverflowException.class, () -> in.put(new byte[28 * 28 * 4 + 1]));
            fails(IndexOutOfBoundsException.class, () -> in.putFloat(28 * 28 * 4 - 3, 1));
            fails(ReadOnlyBufferException.class, () -> session.output(0).put((byte) 1));
            fails(IndexOutOfBoundsException.class, () -> session.input(1));
            fails(IndexOutOfBoundsException.class, () -> session.output(-1));
            fails(IllegalArgumentException.class, () -> new Session(model, new Options().entry(1)));
            fails(IllegalArgumentException.class, () -> new Session(model, new Options().threads(257)));
            fails(IllegalArgumentException.class, () -> new Options().threads(0));
            fails(IllegalArgumentException.class, () -> new Options().without("mmx"));
            check(Arrays.equals(run(session), expected), "still runs");
        }
    }

    private static void refusesBadFiles() throws Exception {
        IOException absent = fails(IOException.class, () -> Model.open(new File(file.getPath() + ".absent")));
        check(absent.getMessage().contains(".absent"), "names the file");
        fails(IOException.class, () -> Model.open(file.getParentFile()));
        byte[] content = Files.readAllBytes(file.toPath());
        byte[] half = Arrays.copyOf(content, content.length / 2);
        check(fails(ModelException.class, () -> Model.of(ByteBuffer.wrap(half))).code() == 3, "code of a truncated file");
        check(fails(ModelException.class, () -> Model.of(ByteBuffer.allocate(0))).code() == 1, "code of nothing");
        content[content.length - 100] ^= 1;
        try (Model altered = Model.of(ByteBuffer.wrap(content))) {
            check(fails(ModelException.class, altered::verify).code() == 9, "code of an altered weight");
        }
        fails(NullPointerException.class, () -> Model.open(null));
        fails(NullPointerException.class, () -> Model.of(null));
    }

    private static void refusesUseAfterClose() throws Exception {
        Model model = Model.open(file);
        Session session = new Session(model);
        ByteBuffer in = session.input(0);
        model.close();
        model.close();
        fails(IllegalStateException.class, model::verify);
        fails(IllegalStateException.class, () -> new Session(model));
        check(Arrays.equals(run(session), expected), "a session outlives its model");
        session.close();
        session.close();
        fails(IllegalStateException.class, session::run);
        fails(IllegalStateException.class, session::profile);
        fails(IllegalStateException.class, session::cancel);
        fails(IllegalStateException.class, () -> session.input(0));
        fails(IllegalStateException.class, () -> session.output(0));
        // The buffer is still memory, and nobody else's.
        for (int i = 0; i < 3; i++) {
            System.gc();
            in.clear();
            in.put(input);
        }
    }

    private static void cancels() throws Exception {
        try (Model model = Model.open(file); Session session = new Session(model)) {
            session.cancel();
            check(fails(CancelledException.class, session::run).code() == 18, "code");
            check(Arrays.equals(run(session), expected), "one cancel stops one run");
            AtomicReference<Throwable> end = new AtomicReference<>();
            Thread runner = new Thread(() -> {
                try {
                    while (true) {
                        session.run();
                    }
                } catch (Throwable thrown) {
                    end.set(thrown);
                }
            });
            runner.start();
            Thread.sleep(50);
            session.cancel();
            runner.join(20_000);
            check(end.get() instanceof CancelledException, "another thread's cancel: " + end.get());
        }
    }

    private static void refusesTwoThreadsInOneSession() throws Exception {
        try (Model model = Model.open(file)) {
            Session session = new Session(model);
            AtomicInteger refused = new AtomicInteger();
            AtomicInteger ran = new AtomicInteger();
            AtomicReference<Throwable> other = new AtomicReference<>();
            List<Thread> threads = new ArrayList<>();
            CountDownLatch start = new CountDownLatch(4);
            for (int t = 0; t < 4; t++) {
                Thread thread = new Thread(() -> {
                    start.countDown();
                    for (int i = 0; i < 3000; i++) {
                        try {
                            session.run();
                            ran.incrementAndGet();
                        } catch (IllegalStateException busy) {
                            refused.incrementAndGet();
                        } catch (Throwable thrown) {
                            other.set(thrown);
                        }
                        if (i == 2500) {
                            session.close();
                        }
                    }
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
            check(other.get() == null, "only the one exception: " + other.get());
            check(ran.get() > 0 && refused.get() > 0, ran + " ran, " + refused + " were refused");
        }
    }

    private static void runsEightSessionsAtOnce() throws Exception {
        try (Model model = Model.open(file)) {
            AtomicInteger right = new AtomicInteger();
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < 8; t++) {
                Thread thread = new Thread(() -> {
                    try (Session session = new Session(model)) {
                        for (int i = 0; i < 200; i++) {
                            right.addAndGet(Arrays.equals(run(session), expected) ? 1 : 0);
                        }
                    }
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
            check(right.get() == 8 * 200, right + " of 1600");
        }
    }

    public static void main(String[] arguments) throws Exception {
        file = new File(arguments[0]).getAbsoluteFile();
        input = Files.readAllBytes(new File(arguments[1]).toPath());
        expected = Files.readAllBytes(new File(arguments[2]).toPath());
        String[] names = {"computes", "describes", "wrong sizes", "bad files", "use after close", "cancel", "two threads", "eight sessions"};
        Body[] bodies = {Tests::computes, Tests::describes, Tests::refusesWrongSizes, Tests::refusesBadFiles,
            Tests::refusesUseAfterClose, Tests::cancels, Tests::refusesTwoThreadsInOneSession, Tests::runsEightSessionsAtOnce};
        int failed = 0;
        for (int i = 0; i < bodies.length; i++) {
            try {
                bodies[i].run();
                System.out.println("ok     " + names[i]);
            } catch (Throwable thrown) {
                failed++;
                System.out.println("FAILED " + names[i]);
                thrown.printStackTrace(System.out);
            }
        }
        System.out.println("java: " + (bodies.length - failed) + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
