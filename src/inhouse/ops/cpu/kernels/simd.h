// Vectors of sixteen numbers on whatever the processor has: the compiler splits them where registers are narrower.
// What an instruction of its own does better (pairs of bfloat16, quads of bytes) stands beside its plain form.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef uint8_t u8x64 __attribute__((vector_size(64)));

constexpr int LANES = 16;
#define INLINE static inline __attribute__((always_inline))

template <class V>
INLINE V load_raw(const void* from) {
    V v;
    std::memcpy(&v, from, sizeof(V));
    return v;
}

template <class V>
INLINE void store_raw(void* to, V v) {
    std::memcpy(to, &v, sizeof(V));
}

INLINE f32x16 all(float value) { return f32x16{} + value; }
INLINE u32x16 all(uint32_t value) { return u32x16{} + value; }

// A bfloat16 is the upper half of a float.
struct bf16 {
    uint16_t bits;
};

INLINE f32x16 load(const float* from) { return load_raw<f32x16>(from); }
INLINE f32x16 load(const bf16* from) {
    return (f32x16)(__builtin_convertvector(load_raw<u16x16>(from), u32x16) << 16);
}
INLINE void store(float* to, f32x16 v) { store_raw(to, v); }
INLINE void store(bf16* to, f32x16 v) {
#if defined(__AVX512BF16__)
    __m256bh half = _mm512_cvtneps_pbh((__m512)v);
    std::memcpy(to, &half, 32);
#else
    u32x16 bits = (u32x16)v;
    u32x16 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to the nearest, ties to even
    u32x16 quiet = (bits >> 16) | 0x40u;                            // a NaN must not round to infinity
    u32x16 is_nan = (u32x16)((bits & 0x7fffffffu) > 0x7f800000u);
    store_raw(to, __builtin_convertvector((quiet & is_nan) | (rounded & ~is_nan), u16x16));
#endif
}
INLINE float value(float x) { return x; }
INLINE float value(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
INLINE void assign(float* to, float v) { *to = v; }
INLINE void assign(bf16* to, float v) {
    bf16 sixteen[LANES];
    store(sixteen, all(v));
    *to = sixteen[0];
}

INLINE float sum(f32x16 v) {
    typedef float f32x8 __attribute__((vector_size(32)));
    typedef float f32x4 __attribute__((vector_size(16)));
    f32x8 eight[2];
    std::memcpy(eight, &v, 64);
    eight[0] += eight[1];
    f32x4 four[2];
    std::memcpy(four, eight, 32);
    four[0] += four[1];
    return (four[0][0] + four[0][1]) + (four[0][2] + four[0][3]);
}
INLINE float largest(f32x16 v) {
    float best = v[0];
    for (int i = 1; i < LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
}
INLINE f32x16 larger(f32x16 a, f32x16 b) { return a > b ? a : b; }
INLINE f32x16 magnitude(f32x16 v) { return (f32x16)((u32x16)v & 0x7fffffffu); }

// e to the v, to about two units in the last place of a float between -87 and 88, and held there outside.
INLINE f32x16 exponential(f32x16 v) {
    v = v < -87.f ? all(-87.f) : v;
    v = v > 88.f ? all(88.f) : v;
    const float shift = 12582912.f;  // 1.5 · 2^23: adding it leaves the nearest whole number in the low bits
    f32x16 whole = v * 1.44269504f + shift;
    i32x16 power = (i32x16)whole;
    whole = whole - shift;
    f32x16 rest = v - whole * 0.693359375f - whole * -2.12194440e-4f;  // ln 2 in two pieces
    f32x16 p = all(1.f / 5040);
    p = p * rest + 1.f / 720;
    p = p * rest + 1.f / 120;
    p = p * rest + 1.f / 24;
    p = p * rest + 1.f / 6;
    p = p * rest + 0.5f;
    p = p * rest + 1.f;
    p = p * rest + 1.f;
    return (f32x16)((i32x16)p + (power << 23));
}

// Sixteen sums of two products: acc[i] += w[2i] · x[0] + w[2i + 1] · x[1], x being the pair in every lane.
INLINE f32x16 dot_pairs(f32x16 acc, u32x16 w, u32x16 x) {
#if defined(__AVX512BF16__)
    return (f32x16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x);
#else
    acc += (f32x16)(w << 16) * (f32x16)(x << 16);
    return acc + (f32x16)(w & 0xffff0000u) * (f32x16)(x & 0xffff0000u);
#endif
}

// Sixteen sums of four products of bytes: acc[i] += Σ w[4i + j] · x[j]; w has no sign, x has one.
INLINE i32x16 dot_quads(i32x16 acc, u8x64 w, u32x16 x) {
#if defined(__AVX512VNNI__)
    return (i32x16)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#else
    u32x16 quads = (u32x16)w;
    i32x16 bytes = (i32x16)x;
    acc += (i32x16)(quads & 0xffu) * ((bytes << 24) >> 24);
    acc += (i32x16)((quads >> 8) & 0xffu) * ((bytes << 16) >> 24);
    acc += (i32x16)((quads >> 16) & 0xffu) * ((bytes << 8) >> 24);
    return acc + (i32x16)(quads >> 24) * (bytes >> 24);
#endif
}

// Sixteen rows of sixteen become columns.
INLINE void transpose(u32x16* rows) {
#if defined(__AVX512F__) && (defined(__clang__) || __GNUC__ >= 12)
    u32x16 t[LANES];
#define EXCHANGE(from, to, step, low, high)                                                   \
    for (int i = 0; i < LANES; i++)                                                           \
        if (!(i & step)) {                                                                    \
            to[i] = __builtin_shufflevector(from[i], from[i | step], low);                    \
            to[i | step] = __builtin_shufflevector(from[i], from[i | step], high);            \
        }
#define LIST(...) __VA_ARGS__
    EXCHANGE(rows, t, 1, LIST(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
             LIST(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
    EXCHANGE(t, rows, 2, LIST(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
             LIST(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    EXCHANGE(rows, t, 4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
             LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    EXCHANGE(t, rows, 8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
             LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#undef LIST
#undef EXCHANGE
#else
    uint32_t square[LANES][LANES];
    std::memcpy(square, rows, sizeof square);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            const uint32_t other = square[i][j];
            square[i][j] = square[j][i];
            square[j][i] = other;
        }
    std::memcpy(rows, square, sizeof square);
#endif
}
