#ifndef SP_SIMD_H
#define SP_SIMD_H
/* The vectors the cpu kernels are written in: SP_LANES floats, 8 with AVX2 and FMA, 16 with AVX-512. Each source is
 * built once an instruction set; SP_CPU(gemm) is the name of this build's function, sp_avx2_gemm or sp_avx512_gemm.
 *
 * Partial vectors take the number of live lanes n, 1 .. SP_LANES; dead lanes are never read from memory or written. */
#include <immintrin.h>
#include <stdint.h>

#include "kernels/kernels.h"

#define SP_CPU_PASTE(isa, name) sp_##isa##_##name
#define SP_CPU_NAME(isa, name) SP_CPU_PASTE(isa, name)
#define SP_CPU(name) SP_CPU_NAME(SP_ISA, name)

#if SP_LANES == 16

typedef __m512 sp_vec;
static inline sp_vec sp_vec_set(float x) { return _mm512_set1_ps(x); }
static inline sp_vec sp_vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void sp_vec_store(float *p, sp_vec v) { _mm512_storeu_ps(p, v); }
static inline __mmask16 sp_vec_mask(size_t n) { return (__mmask16)(0xFFFFu >> (16 - n)); }
static inline sp_vec sp_vec_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(sp_vec_mask(n), p); }
static inline void sp_vec_store_n(float *p, sp_vec v, size_t n) { _mm512_mask_storeu_ps(p, sp_vec_mask(n), v); }
/* v in the first n lanes, other in the rest. */
static inline sp_vec sp_vec_keep_n(sp_vec v, sp_vec other, size_t n) { return _mm512_mask_blend_ps(sp_vec_mask(n),
                                                                                                   other, v); }
static inline sp_vec sp_vec_add(sp_vec a, sp_vec b) { return _mm512_add_ps(a, b); }
static inline sp_vec sp_vec_sub(sp_vec a, sp_vec b) { return _mm512_sub_ps(a, b); }
static inline sp_vec sp_vec_mul(sp_vec a, sp_vec b) { return _mm512_mul_ps(a, b); }
static inline sp_vec sp_vec_div(sp_vec a, sp_vec b) { return _mm512_div_ps(a, b); }
static inline sp_vec sp_vec_max(sp_vec a, sp_vec b) { return _mm512_max_ps(a, b); }
static inline sp_vec sp_vec_min(sp_vec a, sp_vec b) { return _mm512_min_ps(a, b); }
static inline sp_vec sp_vec_fma(sp_vec a, sp_vec b, sp_vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline sp_vec sp_vec_round(sp_vec a) { return _mm512_roundscale_ps(a,
                                                                       _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline float sp_vec_sum(sp_vec a) { return _mm512_reduce_add_ps(a); }
static inline float sp_vec_top(sp_vec a) { return _mm512_reduce_max_ps(a); }
/* Bit i: of lane i, the lowest first. */
static inline unsigned sp_vec_equal(sp_vec a, sp_vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline unsigned sp_vec_is_nan(sp_vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
/* a 2^n for whole n within the exponent range */
static inline sp_vec sp_vec_scale2(sp_vec a, sp_vec n)
{
    __m512i e = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
    return _mm512_mul_ps(a, _mm512_castsi512_ps(e));
}
static inline sp_vec sp_vec_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

#else

typedef __m256 sp_vec;
static inline sp_vec sp_vec_set(float x) { return _mm256_set1_ps(x); }
static inline sp_vec sp_vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void sp_vec_store(float *p, sp_vec v) { _mm256_storeu_ps(p, v); }
static inline __m256i sp_vec_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline sp_vec sp_vec_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, sp_vec_mask(n)); }
static inline void sp_vec_store_n(float *p, sp_vec v, size_t n) { _mm256_maskstore_ps(p, sp_vec_mask(n), v); }
static inline sp_vec sp_vec_keep_n(sp_vec v, sp_vec other, size_t n)
{
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(sp_vec_mask(n)));
}
static inline sp_vec sp_vec_add(sp_vec a, sp_vec b) { return _mm256_add_ps(a, b); }
static inline sp_vec sp_vec_sub(sp_vec a, sp_vec b) { return _mm256_sub_ps(a, b); }
static inline sp_vec sp_vec_mul(sp_vec a, sp_vec b) { return _mm256_mul_ps(a, b); }
static inline sp_vec sp_vec_div(sp_vec a, sp_vec b) { return _mm256_div_ps(a, b); }
static inline sp_vec sp_vec_max(sp_vec a, sp_vec b) { return _mm256_max_ps(a, b); }
static inline sp_vec sp_vec_min(sp_vec a, sp_vec b) { return _mm256_min_ps(a, b); }
static inline sp_vec sp_vec_fma(sp_vec a, sp_vec b, sp_vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline sp_vec sp_vec_round(sp_vec a) { return _mm256_round_ps(a,
                                                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline float sp_vec_sum(sp_vec a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
static inline float sp_vec_top(sp_vec a)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
static inline unsigned sp_vec_equal(sp_vec a, sp_vec b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
static inline unsigned sp_vec_is_nan(sp_vec a)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
static inline sp_vec sp_vec_scale2(sp_vec a, sp_vec n)
{
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(a, _mm256_castsi256_ps(e));
}
static inline sp_vec sp_vec_load_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}

#endif

/* The n floats at p in two vectors; n may be more than fill both. */
static inline void sp_vec_load_two(const float *p, size_t n, sp_vec *low, sp_vec *high)
{
    *high = sp_vec_set(0);
    if (n >= 2 * SP_LANES) {
        *low = sp_vec_load(p);
        *high = sp_vec_load(p + SP_LANES);
    } else {
        *low = sp_vec_load_n(p, n < SP_LANES ? n : SP_LANES);
        if (n > SP_LANES) *high = sp_vec_load_n(p + SP_LANES, n - SP_LANES);
    }
}

/* The first n floats of two vectors to p. */
static inline void sp_vec_store_two(float *p, sp_vec low, sp_vec high, size_t n)
{
    sp_vec_store_n(p, low, n < SP_LANES ? n : SP_LANES);
    if (n > SP_LANES) sp_vec_store_n(p + SP_LANES, high, n - SP_LANES < SP_LANES ? n - SP_LANES : SP_LANES);
}

/* e^x for x <= 88: x = n ln 2 + r, e^r by its Taylor polynomial of degree 7 (relative error < 2 ulp); below -87, 0. */
static inline sp_vec sp_vec_exp(sp_vec x)
{
    sp_vec low = sp_vec_set(-87.0f);
    sp_vec clamped = sp_vec_max(x, low);
    sp_vec n = sp_vec_round(sp_vec_mul(clamped, sp_vec_set(1.44269504f)));
    sp_vec r = sp_vec_fma(n, sp_vec_set(-0.693145752f), clamped);
    r = sp_vec_fma(n, sp_vec_set(-1.42860677e-6f), r);
    sp_vec p = sp_vec_set(1.0f / 5040.0f);
    p = sp_vec_fma(p, r, sp_vec_set(1.0f / 720.0f));
    p = sp_vec_fma(p, r, sp_vec_set(1.0f / 120.0f));
    p = sp_vec_fma(p, r, sp_vec_set(1.0f / 24.0f));
    p = sp_vec_fma(p, r, sp_vec_set(1.0f / 6.0f));
    p = sp_vec_fma(p, r, sp_vec_set(0.5f));
    p = sp_vec_fma(p, r, sp_vec_set(1.0f));
    p = sp_vec_fma(p, r, sp_vec_set(1.0f));
    p = sp_vec_scale2(p, n);
#if SP_LANES == 16
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), p);
#else
    return _mm256_and_ps(p, _mm256_cmp_ps(x, low, _CMP_NLT_UQ));
#endif
}

#endif
