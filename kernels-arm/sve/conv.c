/* Convolution tiles with SVE.
 *
 * A tile is ROWS pixels by one panel of 16 output channels, or one block of 16, 8 or 4 that keeps some positions, taken in
 * slices of as many channels as a vector holds. At 128 bits a panel has four slices (f16: two), at 256 two, from 512 on
 * one, and what the block leaves of a vector idles. (Two pixels of a block of 4 in one vector would take a selection for
 * every product it saves, on the same pipes.) Sums of a slice stay in ROWS registers over all taps. Inputs are broadcast
 * from a quadword load (four units at once, or eight halves, multiplied by lane) or, for the rest and for kept positions,
 * from one element.
 */
#include "sve.h"

#define ROWS 10
/* X(N, r) for each row. */
#define EACH_ROW(X, N) X(N, 0) X(N, 1) X(N, 2) X(N, 3) X(N, 4) X(N, 5) X(N, 6) X(N, 7) X(N, 8) X(N, 9)

/* A unit of input is 4 bytes, a float or four int8, or one half. Weights of a unit are as many for each channel. */
#define UNIT_F32 4
#define UNIT_F16 2
#define UNIT_I8 4
#define INPUT_F32 svfloat32_t
#define INPUT_F16 svfloat16_t
#define INPUT_I8 svint8_t
#define WEIGHTS_F32(at) svld1(lanes, (const float *)(at) + c)
#define WEIGHTS_F16(at) svld1(lanes, (const float16_t *)(at) + c)
#define WEIGHTS_I8(at) svreinterpret_s8(svld1(lanes, (const int32_t *)(at) + c))
#define LOAD_F32(at) svdup_f32(*(const float *)(at))
#define LOAD_F16(at) svdup_f16(*(const float16_t *)(at))
/* The input of an int8 layer has no alignment. */
#define LOAD_I8(at) svreinterpret_s8(svdup_s32(*(const word *)(at)))
#define ADD_F32(sum, w, x) svmla_x(svptrue_b32(), sum, w, x)
#define ADD_F16(sum, w, x) svmla_x(svptrue_b16(), sum, w, x)
#define ADD_I8(sum, w, x) svdot(sum, w, x)
#define QUAD_F32(at) svld1rq(svptrue_b32(), (const float *)(at))
#define QUAD_F16(at) svld1rq(svptrue_b16(), (const float16_t *)(at))
#define QUAD_I8(at) svld1rq(svptrue_b8(), (const int8_t *)(at))
#define LANE_F32(sum, w, x, lane) svmla_lane(sum, w, x, lane)
#define LANE_F16(sum, w, x, lane) svmla_lane(sum, w, x, lane)
#define LANE_I8(sum, w, x, lane) svdot_lane(sum, w, x, lane)

typedef int32_t __attribute__((aligned(1))) word;

#define SUM_IS(N, r) SUM_##N sum##r = begin;
#define POINTER(N, r) const uint8_t *x##r = runs[r];
#define STEP(N, r) x##r += 16;
/* What is multiplied by lane lies in one of the first eight registers. Said as soon as it is there, for GCC copies it
 * otherwise, sometimes for each lane. */
#define LOW_REGISTER(q) __asm__("" : "+y"(q))
/* A quadword of a row's input: lanes 0 to 3, and the other four of halves. */
#define QUAD(N, r)                                                                                                     \
    {                                                                                                                  \
        INPUT_##N q = QUAD_##N(x##r);                                                                                  \
        LOW_REGISTER(q);                                                                                               \
        sum##r = LANE_##N(sum##r, w0, q, 0);                                                                           \
        sum##r = LANE_##N(sum##r, w1, q, 1);                                                                           \
        sum##r = LANE_##N(sum##r, w2, q, 2);                                                                           \
        sum##r = LANE_##N(sum##r, w3, q, 3);                                                                           \
        HIGH_##N(r)                                                                                                    \
    }
#define HIGH_F32(r)
#define HIGH_I8(r)
#define HIGH_F16(r)                                                                                                    \
    sum##r = svmla_lane(sum##r, w4, q, 4);                                                                             \
    sum##r = svmla_lane(sum##r, w5, q, 5);                                                                             \
    sum##r = svmla_lane(sum##r, w6, q, 6);                                                                             \
    sum##r = svmla_lane(sum##r, w7, q, 7);
/* One unit of a row, `at` bytes on. */
#define UNIT(N, r) sum##r = ADD_##N(sum##r, w, LOAD_##N(x##r + at));
#define KEEP(N, r) svst1(lanes, &sums[r][c], sum##r);
#define WEIGHTS(N, lane) INPUT_##N w##lane = WEIGHTS_##N(weights + (lane) * UNIT_##N * CHANNELS)
#define MORE_F32
#define MORE_I8
#define MORE_F16 WEIGHTS(F16, 4), w5 = WEIGHTS_F16(weights + 160), w6 = WEIGHTS_F16(weights + 192), w7 = WEIGHTS_F16(weights + 224);

/* Every unit of a tap; `n` is how many there are. */
#define DENSE(N)                                                                                                       \
    for (; n >= 16 / UNIT_##N; n -= 16 / UNIT_##N, weights += 16 * CHANNELS) {                                         \
        WEIGHTS(N, 0);                                                                                                 \
        WEIGHTS(N, 1);                                                                                                 \
        WEIGHTS(N, 2);                                                                                                 \
        WEIGHTS(N, 3);                                                                                                 \
        MORE_##N                                                                                                       \
        EACH_ROW(QUAD, N)                                                                                              \
        EACH_ROW(STEP, N)                                                                                              \
    }

/* One tile of blocks of `block` channels. */
#define TILE(N, block, each_tap, units, unit)                                                                          \
    {                                                                                                                  \
        ITEM_##N sums[ROWS][CHANNELS];                                                                                 \
        for (size_t c = 0; c < t->channels; c += LANES_##N) {                                                          \
            svbool_t lanes = WITHIN_##N(c, block);                                                                     \
            SUM_##N begin = BEGIN_##N(lanes, t->bias, c, block);                                                       \
            EACH_ROW(SUM_IS, N)                                                                                        \
            const uint8_t *weights = t->weights;                                                                       \
            const uint16_t *position = t->positions;                                                                   \
            const uint8_t *const *runs = t->runs;                                                                      \
            for (size_t tap = 0; tap < t->taps; tap++, runs += ROWS) {                                                 \
                EACH_ROW(POINTER, N)                                                                                   \
                size_t n = (units);                                                                                    \
                each_tap(N)                                                                                            \
                for (size_t i = 0; i < n; i++, weights += UNIT_##N * (block)) {                                        \
                    size_t at = UNIT_##N * (size_t)(unit);                                                             \
                    INPUT_##N w = WEIGHTS_##N(weights);                                                                \
                    EACH_ROW(UNIT, N)                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            (void)position;                                                                                            \
            EACH_ROW(KEEP, N)                                                                                          \
        }                                                                                                              \
        struct pixels to = { &t->epilogue, t->scale, t->slopes, t->y, t->residual, t->rows };                          \
        FINISH_##N(&to, 0, t->channels, &sums[0][0]);                                                                  \
    }
#define NOTHING(N)

#define TILES(N, units)                                                                                                \
    __attribute__((noinline)) static void dense_##N(const struct tile *t) TILE(N, CHANNELS, DENSE, units, i)                                     \
    __attribute__((noinline)) static void sparse_##N(const struct tile *t, size_t block) TILE(N, block, NOTHING, t->counts[tap], *position++)

TILES(F32, t->kc)
TILES(F16, t->kc)
TILES(I8, (t->kc + 3) / 4)

/* As sparrow_kernels::Layout. */
enum layout {
    DENSE_F32 = 1, DENSE_F16 = 2, DENSE_I8 = 3,
    SPARSE_F32_B16 = 8, SPARSE_F32_B8, SPARSE_F32_B4, SPARSE_F16_B16, SPARSE_F16_B8, SPARSE_F16_B4,
    SPARSE_I8_B16, SPARSE_I8_B8, SPARSE_I8_B4,
};

/* One tile of the layout that its hint names. */
void sparrow_conv_sve(const struct tile *t)
{
    switch (t->hint) {
    case DENSE_F32: dense_F32(t); return;
    case DENSE_F16: dense_F16(t); return;
    case DENSE_I8: dense_I8(t); return;
    case SPARSE_F32_B16: sparse_F32(t, 16); return;
    case SPARSE_F32_B8: sparse_F32(t, 8); return;
    case SPARSE_F32_B4: sparse_F32(t, 4); return;
    case SPARSE_F16_B16: sparse_F16(t, 16); return;
    case SPARSE_F16_B8: sparse_F16(t, 8); return;
    case SPARSE_F16_B4: sparse_F16(t, 4); return;
    case SPARSE_I8_B16: sparse_I8(t, 16); return;
    case SPARSE_I8_B8: sparse_I8(t, 8); return;
    case SPARSE_I8_B4: sparse_I8(t, 4); return;
    }
}
