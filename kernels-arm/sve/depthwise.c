/* Depthwise convolution with SVE, one output row at a time, a vector of channels at a time.
 *
 * int8 is widened as it is loaded, a lane of 32 bits a channel, so one source serves all kinds of numbers; a row whose
 * taps are listed (`counts`) is one with dropped taps. Four outputs are made at once, in two ways:
 *
 *   walk    dense 3x3 and 5x5, inside the picture: along the row, for one vector of channels. Of each row of the kernel the
 *           weights stay in registers, and a column of input is loaded once for all outputs that cover it.
 *   list    the rest: the addresses each tap reads for the four, pad or picture, are written down once for all channels;
 *           then for each vector of channels a tap's weights are loaded once for the four.
 */
#include "sve.h"

/* Outputs made at once. */
#define OUTS 4
/* As sparrow_kernels::conv::MAX_TAPS. */
#define MAX_TAPS 256

#define SIZE_F32 4
#define SIZE_F16 2
#define SIZE_I8 1
/* Elements from number `i` on, after `at`. */
#define LOAD_F32(at, i) svld1(in, (const float *)(at) + (i))
#define LOAD_F16(at, i) svld1(in, (const float16_t *)(at) + (i))
#define LOAD_I8(at, i) svld1sb_s32(in, (const int8_t *)(at) + (i))

/* Where a row's outputs go; the pixels of the four at hand. */
struct outputs {
    const struct row *row;
    const uint8_t *residual[OUTS];
    uint8_t *y[OUTS];
    struct pixels to;
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Turns to the outputs from `ox` on; those past the row's last are that one again. */
static void turn_to(struct outputs *at, size_t ox)
{
    const struct row *r = at->row;
    for (size_t i = 0; i < OUTS; i++) {
        size_t out = least(ox + i, r->out_w - 1);
        at->y[i] = r->y + out * r->y_step;
        if (r->residual) at->residual[i] = r->residual + out * r->residual_step;
    }
}

/* Where each tap of the outputs from `ox` on reads its first channel. */
static void addresses(const struct row *r, size_t ox, const uint8_t *(*x)[OUTS])
{
    for (size_t ky = 0; ky < r->kh; ky++)
        for (size_t kx = 0; kx < r->kw; kx++, x++)
            for (size_t i = 0; i < OUTS; i++) {
                size_t ix = least(ox + i, r->out_w - 1) * r->stride_w + kx * r->dil_w - (size_t)r->pad_left;
                (*x)[i] = ix < r->in_w ? r->inputs[ky].start + ix * r->inputs[ky].step : r->pad;
            }
}

#define FINISH(N)                                                                                                      \
    svst1(in, sums, sum0);                                                                                             \
    svst1(in, sums + CHANNELS, sum1);                                                                                  \
    svst1(in, sums + 2 * CHANNELS, sum2);                                                                              \
    svst1(in, sums + 3 * CHANNELS, sum3);                                                                              \
    FINISH_##N(&at->to, c, least(c + LANES_##N, end), sums);

/* The outputs `at` hand in all channels; `x` is where their taps read. */
#define LIST(N)                                                                                                        \
    static void list_##N(struct outputs *at, const uint8_t *const (*x)[OUTS])                                          \
    {                                                                                                                  \
        const struct row *r = at->row;                                                                                 \
        const uint8_t *weights = r->weights;                                                                           \
        const uint16_t *positions = r->positions;                                                                      \
        ITEM_##N sums[OUTS * CHANNELS];                                                                                \
        for (size_t block = 0; block < r->channels; block += CHANNELS) {                                               \
            size_t taps = r->counts ? r->counts[block / CHANNELS] : r->kh * r->kw;                                     \
            size_t end = least(r->channels, block + CHANNELS);                                                         \
            for (size_t c = block; c < end; c += LANES_##N) {                                                          \
                svbool_t in = WITHIN_##N(c, end);                                                                      \
                SUM_##N sum0 = BEGIN_##N(in, r->bias, c, end), sum1 = sum0, sum2 = sum0, sum3 = sum0;                  \
                for (size_t n = 0; n < taps; n++) {                                                                    \
                    const uint8_t *const *from = x[r->counts ? positions[n] : n];                                      \
                    SUM_##N w = LOAD_##N(weights, n * CHANNELS + c - block);                                           \
                    sum0 = svmla_x(in, sum0, LOAD_##N(from[0], c), w);                                                 \
                    sum1 = svmla_x(in, sum1, LOAD_##N(from[1], c), w);                                                 \
                    sum2 = svmla_x(in, sum2, LOAD_##N(from[2], c), w);                                                 \
                    sum3 = svmla_x(in, sum3, LOAD_##N(from[3], c), w);                                                 \
                }                                                                                                      \
                FINISH(N)                                                                                              \
            }                                                                                                          \
            weights += taps * CHANNELS * SIZE_##N;                                                                     \
            if (r->counts) positions += taps;                                                                          \
        }                                                                                                              \
    }

/* Column `j` of a walk, if it is one of those the four outputs cover, and what it adds to each of them. */
#define COLUMN(N, j)                                                                                                   \
    if (j < (OUTS - 1) * S + K) {                                                                                      \
        SUM_##N x = LOAD_##N(line + j * step, 0);                                                                      \
        USE(N, 0, j)                                                                                                   \
        USE(N, 1, j - S)                                                                                               \
        USE(N, 2, j - 2 * S)                                                                                           \
        USE(N, 3, j - 3 * S)                                                                                           \
    }
#define USE(N, out, kx)                                                                                                \
    if ((kx) >= 0 && (kx) < K)                                                                                         \
        sum##out = svmla_x(in, sum##out, x, (kx) == 0 ? w0 : (kx) == 1 ? w1 : (kx) == 2 ? w2 : (kx) == 3 ? w3 : w4);

/* The outputs `from..to`, at least OUTS of them, of a K x K kernel; the last four may overlap others. */
#define WALK(N)                                                                                                        \
    __attribute__((always_inline)) static inline void walk_##N(struct outputs *at, size_t from, size_t to, const int K, const int S) \
    {                                                                                                                  \
        const struct row *r = at->row;                                                                                 \
        ITEM_##N sums[OUTS * CHANNELS];                                                                                \
        for (size_t c = 0; c < r->channels;) {                                                                         \
            size_t block = c / CHANNELS * CHANNELS, end = least(r->channels, block + CHANNELS);                        \
            svbool_t in = WITHIN_##N(c, end);                                                                          \
            SUM_##N begin = BEGIN_##N(in, r->bias, c, end);                                                            \
            const uint8_t *weights = r->weights + (block * K * K + c - block) * SIZE_##N;                              \
            for (size_t next = from; next < to; next += OUTS) {                                                        \
                size_t ox = least(next, to - OUTS), first = ox * S - (size_t)r->pad_left;                              \
                SUM_##N sum0 = begin, sum1 = begin, sum2 = begin, sum3 = begin;                                        \
                const uint8_t *w = weights;                                                                            \
                _Pragma("GCC unroll 1")                                                                                \
                for (int ky = 0; ky < K; ky++, w += K * CHANNELS * SIZE_##N) {                                         \
                    size_t step = r->inputs[ky].step;                                                                  \
                    const uint8_t *line = r->inputs[ky].start + first * step + c * SIZE_##N;                           \
                    SUM_##N w0 = LOAD_##N(w, 0), w1 = LOAD_##N(w, CHANNELS), w2 = LOAD_##N(w, 2 * CHANNELS);           \
                    SUM_##N w3 = K == 5 ? LOAD_##N(w, 3 * CHANNELS) : w2, w4 = K == 5 ? LOAD_##N(w, 4 * CHANNELS) : w2; \
                    COLUMN(N, 0)                                                                                       \
                    COLUMN(N, 1)                                                                                       \
                    COLUMN(N, 2)                                                                                       \
                    COLUMN(N, 3)                                                                                       \
                    COLUMN(N, 4)                                                                                       \
                    COLUMN(N, 5)                                                                                       \
                    COLUMN(N, 6)                                                                                       \
                    COLUMN(N, 7)                                                                                       \
                    COLUMN(N, 8)                                                                                       \
                    COLUMN(N, 9)                                                                                       \
                    COLUMN(N, 10)                                                                                      \
                }                                                                                                      \
                turn_to(at, ox);                                                                                       \
                FINISH(N)                                                                                              \
            }                                                                                                          \
            c = least(c + LANES_##N, end);                                                                             \
        }                                                                                                              \
    }

/* The outputs `from..to` one vector of channels after the other, where the row's kernel has a walk: whether it has. */
#define WALKS(N)                                                                                                       \
    static int walks_##N(struct outputs *at, size_t from, size_t to)                                                   \
    {                                                                                                                  \
        const struct row *r = at->row;                                                                                 \
        if (r->kh != r->kw || r->stride_w > 2) return 0;                                                               \
        switch (r->kw * 2 + r->stride_w) {                                                                             \
        case 7: walk_##N(at, from, to, 3, 1); return 1;                                                                \
        case 8: walk_##N(at, from, to, 3, 2); return 1;                                                                \
        case 11: walk_##N(at, from, to, 5, 1); return 1;                                                               \
        case 12: walk_##N(at, from, to, 5, 2); return 1;                                                               \
        default: return 0;                                                                                             \
        }                                                                                                              \
    }

typedef int walks(struct outputs *at, size_t from, size_t to);
typedef void list(struct outputs *at, const uint8_t *const (*x)[OUTS]);

/* A row: the outputs whose windows lie inside the picture by a walk if there is one, all others by lists. */
static void whole_row(const struct row *r, walks *inside, list *any)
{
    struct outputs at;
    at.row = r;
    at.to = (struct pixels){ &r->epilogue, r->scale, r->slopes, at.y, r->residual ? at.residual : NULL, OUTS };
    /* As `Row::interior`. */
    size_t from = r->pad_left > 0 ? ((size_t)r->pad_left + r->stride_w - 1) / r->stride_w : 0;
    ptrdiff_t last = (ptrdiff_t)r->in_w - (ptrdiff_t)((r->kw - 1) * r->dil_w + 1) + r->pad_left;
    size_t to = last < 0 ? 0 : least((size_t)last / r->stride_w + 1, r->out_w);
    /* A list makes four outputs at either end, so a walk need not make them again. */
    if (from > 0 && from < OUTS) from = OUTS;
    if (to < r->out_w && to + OUTS > r->out_w) to = r->out_w < OUTS ? 0 : r->out_w - OUTS;
    if (r->counts || r->dil_w != 1 || to < from + OUTS || !inside(&at, from, to)) from = to = r->out_w;
    const uint8_t *x[MAX_TAPS][OUTS];
    for (size_t ox = 0; ox < r->out_w;) {
        if (ox == from) ox = to;
        if (ox >= r->out_w) break;
        turn_to(&at, ox);
        addresses(r, ox, x);
        any(&at, (const uint8_t *const(*)[OUTS])x);
        ox = ox < from ? least(ox + OUTS, from) : ox + OUTS;
    }
}

#define ROW(N, name)                                                                                                   \
    LIST(N)                                                                                                            \
    WALK(N)                                                                                                            \
    WALKS(N)                                                                                                           \
    void name(const struct row *r)                                                                                     \
    {                                                                                                                  \
        whole_row(r, walks_##N, list_##N);                                                                             \
    }

ROW(F32, sparrow_depthwise_f32_sve)
ROW(F16, sparrow_depthwise_f16_sve)
ROW(I8, sparrow_depthwise_i8_sve)
