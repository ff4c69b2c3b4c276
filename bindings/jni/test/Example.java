import dev.sparrow.Model;
import dev.sparrow.Session;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;

/** {@code Example MODEL INPUT}: the README's example. */
public final class Example {
    public static void main(String[] arguments) throws IOException {
        byte[] bytes = Files.readAllBytes(Paths.get(arguments[1]));
        FloatBuffer pixels = ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()).asFloatBuffer();
        try (Model model = Model.open(new File(arguments[0])); Session session = new Session(model)) {
            FloatBuffer input = session.input(0).asFloatBuffer();
            input.put(pixels);
            session.run();
            FloatBuffer scores = session.output(0).asFloatBuffer();
            System.out.println("first of " + scores.remaining() + " scores: " + scores.get(0));
        }
    }
}
