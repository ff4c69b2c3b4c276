package dev.sparrow;

import java.util.Arrays;

/** An input or output of a model. */
public final class Tensor {
    private final String name;
    private final ElementType type;
    private final int[] shape;
    private final int byteSize;
    private final float scale;
    private final int zeroPoint;

    // Called by the native library.
    Tensor(String name, int type, int[] shape, int byteSize, float scale, int zeroPoint) {
        this.name = name;
        this.type = ElementType.of(type);
        this.shape = shape;
        this.byteSize = byteSize;
        this.scale = scale;
        this.zeroPoint = zeroPoint;
    }

    /** Its name in the source network. */
    public String name() {
        return name;
    }

    /** Type of its elements. */
    public ElementType type() {
        return type;
    }

    /** Its dimensions. */
    public int[] shape() {
        return shape.clone();
    }

    /** Bytes of its elements. */
    public int byteSize() {
        return byteSize;
    }

    /** Of a quantized tensor, {@code real = scale * (code - zeroPoint)}; 0 for another. */
    public float scale() {
        return scale;
    }

    /** The code of 0. */
    public int zeroPoint() {
        return zeroPoint;
    }

    @Override
    public String toString() {
        return name + " " + type + Arrays.toString(shape);
    }
}
