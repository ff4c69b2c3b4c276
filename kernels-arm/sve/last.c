/* The last step of all SVE kernels: residual, activation or requantization, and the store. A few pixels' sums arrive in
 * memory, so that there is one copy of this code; beside the sums' products that is little. */
#include "sve.h"

/* Activation of the lanes `in`, whose slopes are these. */
static inline svfloat32_t activate(const struct epilogue *e, svbool_t in, svfloat32_t v, svfloat32_t slopes)
{
    switch (e->activation) {
    case LEAKY_RELU: return svmul_m(svcmplt(in, v, 0.0f), v, e->lo);
    case PRELU: return svmul_m(svcmplt(in, v, 0.0f), v, slopes);
    case HARD_SWISH: return svdiv_x(in, svmul_x(in, v, svminnm_x(in, svmaxnm_x(in, svadd_x(in, v, 3.0f), 0.0f), 6.0f)), 6.0f);
    default: return svminnm_x(in, svmaxnm_x(in, v, e->lo), e->hi);
    }
}

static inline svfloat32_t slopes_of(const struct pixels *to, svbool_t in, size_t c)
{
    return to->slopes ? svld1(in, to->slopes + c) : svdup_f32(0.0f);
}

void sparrow_sve_finish_f32(const struct pixels *to, size_t c, size_t end, const float *sums)
{
    for (; c < end; c += svcntw(), sums += svcntw()) {
        svbool_t in = svwhilelt_b32_u64(c, end);
        svfloat32_t slopes = slopes_of(to, in, c);
        for (size_t i = 0; i < to->count; i++) {
            svfloat32_t v = svld1(in, sums + i * CHANNELS);
            if (to->residual) v = svadd_x(in, v, svld1(in, (const float *)to->residual[i] + c));
            svst1(in, (float *)to->y[i] + c, activate(to->epilogue, in, v, slopes));
        }
    }
}

/* Halves, in the low ends of 32-bit lanes. */
static inline svfloat32_t widen(svbool_t in, const void *from)
{
    return svcvt_f32_x(in, svreinterpret_f16(svld1uh_u32(in, from)));
}

void sparrow_sve_finish_f16(const struct pixels *to, size_t c, size_t end, const float16_t *sums)
{
    const struct epilogue *e = to->epilogue;
    if (e->activation == CLAMP && !to->residual) {
        svfloat16_t lo = svdup_f16(e->lo), hi = svdup_f16(e->hi);
        for (; c < end; c += svcnth(), sums += svcnth()) {
            svbool_t in = svwhilelt_b16_u64(c, end);
            for (size_t i = 0; i < to->count; i++) {
                svfloat16_t v = svld1(in, sums + i * CHANNELS);
                svst1(in, (float16_t *)to->y[i] + c, svminnm_x(in, svmaxnm_x(in, v, lo), hi));
            }
        }
        return;
    }
    for (; c < end; c += svcntw(), sums += svcntw()) {
        svbool_t in = svwhilelt_b32_u64(c, end);
        svfloat32_t slopes = slopes_of(to, in, c);
        for (size_t i = 0; i < to->count; i++) {
            svfloat32_t v = widen(in, sums + i * CHANNELS);
            if (to->residual) v = svadd_x(in, v, widen(in, (const float16_t *)to->residual[i] + c));
            v = activate(e, in, v, slopes);
            svst1h(in, (uint16_t *)to->y[i] + c, svreinterpret_u32(svcvt_f16_x(in, v)));
        }
    }
}

/* 1.5 * 2^23, and its bits: added to a float of less than 2^22 it leaves that, rounded (ties to even), in the low bits. */
#define MAGIC 12582912.0f
#define MAGIC_BITS 0x4b400000

void sparrow_sve_finish_i8(const struct pixels *pixels, size_t c, size_t end, int32_t *sums)
{
    /* Copies, which no store of codes can alter. */
    const struct pixels to = *pixels;
    const struct epilogue e = *to.epilogue;
    size_t first = c;
    int32_t *all = sums;
    for (; c < end; c += svcntw(), sums += svcntw()) {
        svbool_t in = svwhilelt_b32_u64(c, end);
        svfloat32_t scale = to.scale ? svld1(in, to.scale + c) : svdup_f32(0.0f), slopes = slopes_of(&to, in, c);
        for (size_t i = 0; i < to.count; i++) {
            svint32_t sum = svld1(in, sums + i * CHANNELS);
            if (e.output == I32) {
                svst1(in, (int32_t *)to.y[i] + c, sum);
                continue;
            }
            svfloat32_t v = svmul_x(in, svcvt_f32_x(in, sum), scale);
            if (e.output == F32) {
                svst1(in, (float *)sums + i * CHANNELS, v);
                continue;
            }
            if (to.residual) {
                svint32_t code = svsub_x(in, svld1sb_s32(in, (const int8_t *)to.residual[i] + c), e.residual_zero);
                v = svadd_x(in, v, svmul_x(in, svcvt_f32_x(in, code), e.residual_scale));
            }
            if (e.activation == PRELU) v = svmul_m(svcmplt(in, v, 0.0f), v, slopes);
            v = svadd_x(in, svminnm_x(in, svmaxnm_x(in, v, e.lo), e.hi), MAGIC);
            svint32_t code = svadd_x(in, svreinterpret_s32(v), e.y_zero - MAGIC_BITS);
            svst1b(in, (int8_t *)to.y[i] + c, svmin_x(in, svmax_x(in, code, -128), 127));
        }
    }
    if (e.output == F32) sparrow_sve_finish_f32(pixels, first, end, (const float *)all);
}
