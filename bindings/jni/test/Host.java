import dev.sparrow.Model;
import dev.sparrow.Session;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** {@code Host MODEL INPUT OUTPUT [RUNS [THREADS]]}: what bindings/host does, from Java. */
public final class Host {
    private static long rss() throws IOException {
        for (String line : Files.readAllLines(Paths.get("/proc/self/status"))) {
            if (line.startsWith("VmRSS:")) {
                return Long.parseLong(line.replaceAll("\\D", ""));
            }
        }
        return 0;
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static byte[] once(Model model, byte[] input) {
        try (Session session = new Session(model)) {
            session.input(0).put(input);
            session.run();
            return bytes(session.output(0));
        }
    }

    private static long[] soak(Model model, byte[] input, byte[] expected, int runs, CyclicBarrier start, long[] before)
            throws Exception {
        long[] times = new long[runs];
        try (Session session = new Session(model)) {
            ByteBuffer in = session.input(0);
            ByteBuffer out = session.output(0);
            ByteBuffer wanted = ByteBuffer.wrap(expected);
            start.await();
            for (int i = 0; i < runs; i++) {
                if (i == runs / 10) {
                    before[0] = rss();
                }
                long begun = System.nanoTime();
                in.clear();
                in.put(input);
                session.run();
                times[i] = System.nanoTime() - begun;
                if (!out.equals(wanted)) {
                    throw new IllegalStateException("run " + i + " gives another output than the first");
                }
            }
        }
        return times;
    }

    public static void main(String[] arguments) throws Exception {
        byte[] input = Files.readAllBytes(Paths.get(arguments[1]));
        try (Model model = Model.open(new File(arguments[0]))) {
            byte[] expected = once(model, input);
            Files.write(Paths.get(arguments[2]), expected);
            if (arguments.length < 4) {
                return;
            }
            int runs = Integer.parseInt(arguments[3]);
            int threads = arguments.length < 5 ? 1 : Integer.parseInt(arguments[4]);
            CyclicBarrier start = new CyclicBarrier(threads);
            ExecutorService pool = Executors.newFixedThreadPool(threads);
            long[] before = new long[1];
            List<Callable<long[]>> tasks = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                tasks.add(() -> soak(model, input, expected, runs, start, before));
            }
            long[] times = new long[runs * threads];
            int at = 0;
            for (Future<long[]> one : pool.invokeAll(tasks)) {
                System.arraycopy(one.get(), 0, times, at, runs);
                at += runs;
            }
            pool.shutdown();
            long after = rss();
            Arrays.sort(times);
            System.out.printf(
                    "{\"min_ns\":%d,\"median_ns\":%d,\"rss_before\":%d,\"rss_after\":%d,\"runs\":%d}%n",
                    times[0], times[times.length / 2], before[0], after, times.length);
        }
    }
}
