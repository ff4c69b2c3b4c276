/* What the SVE kernels share: the operands as the crate sparrow-kernels hands them over, the kinds of numbers, and the
 * last step. C, because Rust has no stable SVE types; right at any vector length, since whoever loops over channels
 * steps by what a vector holds, and a predicate leaves out the lanes past the block of channels.
 *
 * The structs mirror `Tile`, `Row`, `InputRow` and `Epilogue`, which say what each field means; `src/mirror.rs` lists their
 * fields in this order, so that those cannot change alone. Compiled without contraction: a last step's product and sum are
 * rounded one after the other, as everywhere else.
 */
#ifndef SPARROW_SVE_H
#define SPARROW_SVE_H

#include <arm_sve.h>
#include <stddef.h>
#include <stdint.h>

/* Channels of a panel of weights, or of a row of sums on their way to the last step. */
#define CHANNELS 16

enum activation { CLAMP = 0, LEAKY_RELU = 1, PRELU = 2, HARD_SWISH = 3 };
enum dtype { F32 = 0, F16 = 1, I8 = 2, I32 = 4 };

struct epilogue {
    uint32_t activation, output;
    float lo, hi;
    int32_t y_zero, residual_zero;
    float residual_scale;
};

struct tile {
    const uint8_t *const *runs;
    uint8_t *const *y;
    const uint8_t *const *residual;
    const uint8_t *weights;
    size_t panel_stride;
    const uint8_t *bias;
    const float *scale, *slopes;
    const uint16_t *counts, *positions;
    size_t taps, kc, rows, channels;
    struct epilogue epilogue;
    uint32_t hint;
    uint8_t *room;
};

_Static_assert(sizeof(struct epilogue) == 28, "as sparrow_kernels::conv::Epilogue");
_Static_assert(sizeof(struct tile) == 152 && offsetof(struct tile, epilogue) == 112, "as sparrow_kernels::conv::Tile");

struct input_row {
    const uint8_t *start;
    size_t step;
};

struct row {
    const struct input_row *inputs;
    size_t rows;
    const uint8_t *pad;
    size_t in_w, kh, kw, stride_w, dil_w;
    ptrdiff_t pad_left;
    size_t out_w;
    uint8_t *y;
    size_t y_step, y_row;
    const uint8_t *residual;
    size_t residual_step, residual_row;
    const uint8_t *weights, *bias;
    const float *scale, *slopes;
    const uint16_t *counts, *positions;
    size_t channels;
    struct epilogue epilogue;
    uint32_t hint;
};

_Static_assert(sizeof(struct input_row) == 16, "as sparrow_kernels::depthwise::InputRow");
_Static_assert(sizeof(struct row) == 216 && offsetof(struct row, epilogue) == 184, "as sparrow_kernels::depthwise::Row");

/* The pixels whose sums are ready: where channel 0 of each goes, and the residual's (null: there is none). */
struct pixels {
    const struct epilogue *epilogue;
    const float *scale, *slopes;
    uint8_t *const *y;
    const uint8_t *const *residual;
    size_t count;
};

/* The last step of channels `c..end`, at most CHANNELS of them, of all the pixels: `sums` holds CHANNELS of each, which
 * begin with channel c, biases added. The int8 one uses them up. */
void sparrow_sve_finish_f32(const struct pixels *to, size_t c, size_t end, const float *sums);
void sparrow_sve_finish_f16(const struct pixels *to, size_t c, size_t end, const float16_t *sums);
void sparrow_sve_finish_i8(const struct pixels *to, size_t c, size_t end, int32_t *sums);

/* The kinds of numbers: SUM is a vector of sums and ITEM one of them, LANES how many it holds and WITHIN(i, n) its lanes
 * below n when the first is i; BEGIN loads the bias of the lanes `in`, from channel c on. */
#define SUM_F32 svfloat32_t
#define SUM_F16 svfloat16_t
#define SUM_I8 svint32_t
#define ITEM_F32 float
#define ITEM_F16 float16_t
#define ITEM_I8 int32_t
#define LANES_F32 svcntw()
#define LANES_F16 svcnth()
#define LANES_I8 svcntw()
#define WITHIN_F32(i, n) svwhilelt_b32_u64(i, n)
#define WITHIN_F16(i, n) svwhilelt_b16_u64(i, n)
#define WITHIN_I8(i, n) svwhilelt_b32_u64(i, n)
#define BEGIN_F32(in, bias, c, end) svld1(in, (const float *)(bias) + (c))
#define BEGIN_F16(in, bias, c, end) narrow((const float *)(bias), c, end)
#define BEGIN_I8(in, bias, c, end) svld1(in, (const int32_t *)(bias) + (c))
#define FINISH_F32 sparrow_sve_finish_f32
#define FINISH_F16 sparrow_sve_finish_f16
#define FINISH_I8 sparrow_sve_finish_i8

/* Floats `c..end` as halves. */
static inline svfloat16_t narrow(const float *from, size_t c, size_t end)
{
    svbool_t first = svwhilelt_b32_u64(c, end), second = svwhilelt_b32_u64(c + svcntw(), end);
    /* A conversion leaves its halves in the even lanes. */
    return svuzp1(svcvt_f16_x(first, svld1(first, from + c)), svcvt_f16_x(second, svld1(second, from + c + svcntw())));
}

#endif
