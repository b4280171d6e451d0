// The heart of every product: a few rows of x times one panel, kept in registers.
#pragma once
#include "simd.h"

constexpr int PANEL = 64;
constexpr int ALONE = 1;  // lines a step that a lone tile fetches ahead: the processor follows its own stream
constexpr int MOST_ROWS = 6;  // rows · 4 vectors of sums, four of weights and one of x fill 32 registers

// What one lane takes of x at once: a float, or a pair of bfloat16.
INLINE u32x16 spread(const void* x) { return all(load_raw<uint32_t>(x)); }
INLINE f32x16 gather_in(f32x16 acc, u32x16 w, u32x16 x, const float*) { return acc + (f32x16)w * (f32x16)x; }
INLINE f32x16 gather_in(f32x16 acc, u32x16 w, u32x16 x, const bf16*) { return dot_pairs(acc, w, x); }

// c[r][0 … 16·NV) (+)= x[r] · panel, over `deep` steps of four bytes of x. c rows lie `c_stride` apart.
template <int MR, int NV, class X>
INLINE void tile(const X* x, int64_t x_stride, const X* panel, int64_t deep, float* c, int64_t c_stride, bool is_first,
                 const char* next, int lines) {
    constexpr int per = sizeof(float) / sizeof(X);
    f32x16 acc[MR][NV];
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) acc[r][v] = is_first ? all(0.f) : load(c + r * c_stride + v * LANES);
    const char* at = reinterpret_cast<const char*>(panel);
    for (int64_t k = 0; k < deep; k++) {
        u32x16 w[NV];
        for (int v = 0; v < NV; v++) w[v] = load_raw<u32x16>(at + v * 64);
        if (lines) {  // the next panel's part comes near while this one is multiplied
            __builtin_prefetch(next, 0, 2);
            if (lines > 1) __builtin_prefetch(next + 64, 0, 2);
            if (lines > 2) __builtin_prefetch(next + 128, 0, 2);
            if (lines > 3) __builtin_prefetch(next + 192, 0, 2);
            next += 64 * lines;
        }
        at += NV * 64;
        for (int r = 0; r < MR; r++) {
            const u32x16 mine = spread(x + r * x_stride + k * per);
            for (int v = 0; v < NV; v++) acc[r][v] = gather_in(acc[r][v], w[v], mine, x);
        }
    }
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) store(c + r * c_stride + v * LANES, acc[r][v]);
}

// All rows against one panel of 16·NV columns, as evenly as tiles of at most MOST_ROWS allow. `next`, if any, is
// memory of NV lines a step that will be read soon; the tiles share in fetching it.
template <int NV, class X>
void tiles(const X* x, int64_t x_stride, const X* panel, int64_t deep, float* c, int64_t rows, bool is_first,
           const char* next, int64_t c_stride = 16 * NV) {
    if (!rows) return;
    const int64_t count = (rows + MOST_ROWS - 1) / MOST_ROWS;
    const int most = count == 1 ? ALONE : int((NV + count - 1) / count);
    int64_t m = 0, fetched = 0;
    for (int64_t t = 0; t < count; t++) {
        const int64_t until = rows * (t + 1) / count, take = until - m;
        const int lines = !next ? 0 : fetched + most <= NV ? most : int(NV - fetched);
        const char* fetch = next + fetched * deep * 64;
        fetched += lines;
        const X* from = x + m * x_stride;
        float* to = c + m * c_stride;
        switch (take) {
            case 1: tile<1, NV>(from, x_stride, panel, deep, to, c_stride, is_first, fetch, lines); break;
            case 2: tile<2, NV>(from, x_stride, panel, deep, to, c_stride, is_first, fetch, lines); break;
            case 3: tile<3, NV>(from, x_stride, panel, deep, to, c_stride, is_first, fetch, lines); break;
            case 4: tile<4, NV>(from, x_stride, panel, deep, to, c_stride, is_first, fetch, lines); break;
            case 5: tile<5, NV>(from, x_stride, panel, deep, to, c_stride, is_first, fetch, lines); break;
            default: tile<6, NV>(from, x_stride, panel, deep, to, c_stride, is_first, fetch, lines);
        }
        m = until;
    }
}
