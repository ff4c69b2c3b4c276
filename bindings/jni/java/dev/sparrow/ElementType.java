package dev.sparrow;

/** Type of a tensor's elements. */
public enum ElementType {
    // In the order of their numbers in the file.
    F32(4),
    F16(2),
    I8(1),
    U8(1),
    I32(4),
    I64(8),
    BOOL(1);

    private static final ElementType[] ALL = values();
    private final int size;

    ElementType(int size) {
        this.size = size;
    }

    static ElementType of(int number) {
        return ALL[number];
    }

    /** Bytes of one element. */
    public int size() {
        return size;
    }
}
