/* Convolution kernels for SVE, right at any vector length: C, because Rust has no stable SVE types.
 *
 * A tile is ROWS pixels by one panel of 16 output channels, taken in slices of as many channels as a vector of 32-bit
 * lanes holds: four slices at 128 bits, two at 256, one from 512 on, where a predicate leaves out the lanes past 16.
 * Sums of a slice stay in ROWS registers over all taps. Inputs are broadcast from a quadword load (four units at once,
 * multiplied by lane) or, for the rest and for kept positions, from one element.
 *
 * The structs mirror `Tile` and `Epilogue` of the crate sparrow-kernels, which says what each field means. Compiled
 * without contraction: a last step's product and sum are rounded one after the other, as everywhere else.
 */
#include <arm_sve.h>
#include <stddef.h>
#include <stdint.h>

#define ROWS 8
#define CHANNELS 16
/* X(N, r) for each row. */
#define EACH_ROW(X, N) X(N, 0) X(N, 1) X(N, 2) X(N, 3) X(N, 4) X(N, 5) X(N, 6) X(N, 7)

enum activation { CLAMP = 0, LEAKY_RELU = 1, PRELU = 2, HARD_SWISH = 3 };
enum dtype { F32 = 0, I8 = 2, I32 = 4 };

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
};

_Static_assert(sizeof(struct tile) == 14 * 8 + 8 * 4, "as sparrow_kernels::conv::Tile");

/* Adds nothing more: activation of the lanes `in`, slopes from channel `c` on. */
static inline svfloat32_t activate(const struct tile *t, svbool_t in, size_t c, svfloat32_t v)
{
    const struct epilogue *e = &t->epilogue;
    svbool_t negative = svcmplt(in, v, 0.0f);
    switch (e->activation) {
    case LEAKY_RELU: return svmul_m(negative, v, e->lo);
    case PRELU: return svmul_m(negative, v, svld1(in, t->slopes + c));
    case HARD_SWISH: return svdiv_x(in, svmul_x(in, v, svminnm_x(in, svmaxnm_x(in, svadd_x(in, v, 3.0f), 0.0f), 6.0f)), 6.0f);
    default: return svminnm_x(in, svmaxnm_x(in, v, e->lo), e->hi);
    }
}

/* Finishes the channels `in`, from `c` on, of one pixel of a float tile, bias included. */
static inline void FINISH_F32(const struct tile *t, size_t row, svbool_t in, size_t c, svfloat32_t v)
{
    if (t->residual) v = svadd_x(in, v, svld1(in, (const float *)t->residual[row] + c));
    svst1(in, (float *)t->y[row] + c, activate(t, in, c, v));
}

/* As FINISH_F32, for an int8 tile. */
static inline void FINISH_I8(const struct tile *t, size_t row, svbool_t in, size_t c, svint32_t sum)
{
    const struct epilogue *e = &t->epilogue;
    if (e->output == I32) {
        svst1(in, (int32_t *)t->y[row] + c, sum);
        return;
    }
    svfloat32_t v = svmul_x(in, svcvt_f32_x(in, sum), svld1(in, t->scale + c));
    if (e->output == F32) {
        FINISH_F32(t, row, in, c, v);
        return;
    }
    if (t->residual) {
        svint32_t code = svsub_x(in, svld1sb_s32(in, (const int8_t *)t->residual[row] + c), e->residual_zero);
        v = svadd_x(in, v, svmul_x(in, svcvt_f32_x(in, code), e->residual_scale));
    }
    if (e->activation == PRELU) v = svmul_m(svcmplt(in, v, 0.0f), v, svld1(in, t->slopes + c));
    v = svrintn_x(in, svminnm_x(in, svmaxnm_x(in, v, e->lo), e->hi));
    svint32_t code = svadd_x(in, svcvt_s32_x(in, v), e->y_zero);
    svst1b(in, (int8_t *)t->y[row] + c, svmin_x(in, svmax_x(in, code, -128), 127));
}

/* What the two kinds of numbers do not share. A unit is 4 bytes of input: a float, or four int8. */
#define BEGIN_F32 svld1(lanes, (const float *)t->bias + c)
#define BEGIN_I8 svld1(lanes, (const int32_t *)t->bias + c)
#define WEIGHTS_F32(at) svld1(lanes, (const float *)(at) + c)
#define WEIGHTS_I8(at) svreinterpret_s8(svld1(lanes, (const int32_t *)(at) + c))
#define QUAD_F32(at) svld1rq(svptrue_b32(), (const float *)(at))
#define QUAD_I8(at) svld1rq(svptrue_b8(), (const int8_t *)(at))
#define UNIT_F32(at) svdup_f32(*(const float *)(at))
/* The input of an int8 layer has no alignment. */
#define UNIT_I8(at) svreinterpret_s8(svdup_s32(word(at)))
#define ADD_F32(sum, w, x) svmla_x(svptrue_b32(), sum, w, x)
#define ADD_I8(sum, w, x) svdot(sum, w, x)
#define ADD_LANE_F32(sum, w, x, lane) svmla_lane(sum, w, x, lane)
#define ADD_LANE_I8(sum, w, x, lane) svdot_lane(sum, w, x, lane)

static inline int32_t word(const uint8_t *at)
{
    int32_t value;
    __builtin_memcpy(&value, at, 4);
    return value;
}

#define INPUT_F32 svfloat32_t
#define INPUT_I8 svint8_t

#define POINTER(N, r) const uint8_t *x##r = runs[r];
#define STEP(N, r) x##r += 16;
/* Four units of a row: a quadword of input, lanes 0 to 3. */
#define QUAD(N, r)                                                                                                     \
    {                                                                                                                  \
        INPUT_##N q = QUAD_##N(x##r);                                                                                  \
        sum##r = ADD_LANE_##N(sum##r, w0, q, 0);                                                                       \
        sum##r = ADD_LANE_##N(sum##r, w1, q, 1);                                                                       \
        sum##r = ADD_LANE_##N(sum##r, w2, q, 2);                                                                       \
        sum##r = ADD_LANE_##N(sum##r, w3, q, 3);                                                                       \
    }
/* One unit of a row, `at` bytes on. */
#define UNIT(N, r) sum##r = ADD_##N(sum##r, w, UNIT_##N(x##r + at));
#define FINISH(N, r) if (r < t->rows) FINISH_##N(t, r, in, c, sum##r);

/* One kernel: `N` names the kind of number, `vector` its sums; `units` is what a tap of a dense layer has. */
#define KERNEL(name, N, vector, sparse, units)                                                                         \
    void name(const struct tile *t)                                                                                    \
    {                                                                                                                  \
        for (size_t c = 0; c < CHANNELS && c < t->channels; c += svcntw()) {                                           \
            svbool_t lanes = svwhilelt_b32_u64(c, CHANNELS), in = svwhilelt_b32_u64(c, t->channels);                   \
            vector begin = BEGIN_##N;                                                                                  \
            vector sum0 = begin, sum1 = begin, sum2 = begin, sum3 = begin;                                             \
            vector sum4 = begin, sum5 = begin, sum6 = begin, sum7 = begin;                                             \
            const uint8_t *weights = t->weights;                                                                       \
            const uint16_t *position = t->positions;                                                                   \
            const uint8_t *const *runs = t->runs;                                                                      \
            for (size_t tap = 0; tap < t->taps; tap++, runs += ROWS) {                                                 \
                EACH_ROW(POINTER, N)                                                                                   \
                size_t n = sparse ? t->counts[tap] : (units);                                                          \
                for (; !sparse && n >= 4; n -= 4, weights += 16 * CHANNELS) {                                          \
                    INPUT_##N w0 = WEIGHTS_##N(weights), w1 = WEIGHTS_##N(weights + 4 * CHANNELS);                     \
                    INPUT_##N w2 = WEIGHTS_##N(weights + 8 * CHANNELS), w3 = WEIGHTS_##N(weights + 12 * CHANNELS);     \
                    EACH_ROW(QUAD, N)                                                                                  \
                    EACH_ROW(STEP, N)                                                                                  \
                }                                                                                                      \
                for (size_t i = 0; i < n; i++, weights += 4 * CHANNELS) {                                              \
                    size_t at = 4 * (sparse ? (size_t)*position++ : i);                                                \
                    INPUT_##N w = WEIGHTS_##N(weights);                                                                \
                    EACH_ROW(UNIT, N)                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            EACH_ROW(FINISH, N)                                                                                        \
        }                                                                                                              \
    }

KERNEL(sparrow_conv_f32_b16_sve, F32, svfloat32_t, 0, t->kc)
KERNEL(sparrow_spconv_f32_b16_sve, F32, svfloat32_t, 1, 0)
KERNEL(sparrow_conv_i8_b16_sve, I8, svint32_t, 0, (t->kc + 3) / 4)
KERNEL(sparrow_spconv_i8_b16_sve, I8, svint32_t, 1, 0)
