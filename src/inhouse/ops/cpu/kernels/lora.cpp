// Low-rank updates of many adapters: for each group of rows, y += (x Aᵀ) B with the group's own rank rows of A and B.
#include "tile.h"

#include <vector>

namespace {

// low[n][R] = x · A for up to four rows at a time and four ranks at a time, along the inputs.
template <int NX, int NR>
INLINE void dots(const bf16* const* x, const bf16* a, int64_t a_stride, int64_t inputs, float* low, int64_t low_stride) {
    f32x16 acc[NX][NR];
    for (int m = 0; m < NX; m++)
        for (int r = 0; r < NR; r++) acc[m][r] = all(0.f);
    int64_t i = 0;
    for (; i + 2 * LANES <= inputs; i += 2 * LANES)
        for (int m = 0; m < NX; m++) {
            const u32x16 mine = load_raw<u32x16>(x[m] + i);
            for (int r = 0; r < NR; r++) acc[m][r] = dot_pairs(acc[m][r], load_raw<u32x16>(a + r * a_stride + i), mine);
        }
    for (int m = 0; m < NX; m++)
        for (int r = 0; r < NR; r++) {
            float total = sum(acc[m][r]);
            for (int64_t j = i; j < inputs; j++) total += value(x[m][j]) * value(a[r * a_stride + j]);
            low[m * low_stride + r] = total;
        }
}
template <int NX, int NR>
INLINE void dots(const float* const* x, const float* a, int64_t a_stride, int64_t inputs, float* low,
                 int64_t low_stride) {
    f32x16 acc[NX][NR];
    for (int m = 0; m < NX; m++)
        for (int r = 0; r < NR; r++) acc[m][r] = all(0.f);
    int64_t i = 0;
    for (; i + LANES <= inputs; i += LANES)
        for (int m = 0; m < NX; m++) {
            const f32x16 mine = load(x[m] + i);
            for (int r = 0; r < NR; r++) acc[m][r] += load(a + r * a_stride + i) * mine;
        }
    for (int m = 0; m < NX; m++)
        for (int r = 0; r < NR; r++) {
            float total = sum(acc[m][r]);
            for (int64_t j = i; j < inputs; j++) total += x[m][j] * a[r * a_stride + j];
            low[m * low_stride + r] = total;
        }
}

template <int NX, class X>
INLINE void shrink(const X* const* x, const X* a, int64_t inputs, int64_t rank, float* low, int64_t low_stride) {
    int64_t r = 0;
    for (; r + 4 <= rank; r += 4) dots<NX, 4>(x, a + r * inputs, inputs, inputs, low + r, low_stride);
    for (; r < rank; r++) dots<NX, 1>(x, a + r * inputs, inputs, inputs, low + r, low_stride);
}

// y[m] += low[m] · B for NX rows that share B, in vectors of outputs.
template <int NX, class X>
INLINE void expand(X* const* y, const float* low, int64_t low_stride, const X* b, int64_t outputs, int64_t rank) {
    int64_t o = 0;
    for (; o + LANES <= outputs; o += LANES) {
        f32x16 acc[NX];
        for (int m = 0; m < NX; m++) acc[m] = all(0.f);
        for (int64_t r = 0; r < rank; r++) {
            const f32x16 w = load(b + r * outputs + o);
            for (int m = 0; m < NX; m++) acc[m] += w * low[m * low_stride + r];
        }
        for (int m = 0; m < NX; m++) store(y[m] + o, load(y[m] + o) + acc[m]);
    }
    for (; o < outputs; o++)
        for (int m = 0; m < NX; m++) {
            float total = value(y[m][o]);
            for (int64_t r = 0; r < rank; r++) total += value(b[r * outputs + o]) * low[m * low_stride + r];
            assign(y[m] + o, total);
        }
}

template <class X>
void rounded(float* low, int64_t count) {  // as a product of its own would leave it
    for (int64_t i = 0; i < count; i++) {
        X x;
        assign(&x, low[i]);
        low[i] = value(x);
    }
}

template <class X>
void grouped(X* y, int64_t y_stride, const X* x, int64_t x_stride, const X* a, const X* b, const int32_t* rows,
             const int32_t* bounds, const int32_t* starts, const int32_t* ranks, int64_t groups, int64_t inputs,
             int64_t outputs, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t g = 0; g < groups; g++) {
        const int64_t rank = ranks[g];
        const X *mine_a = a + starts[g] * inputs, *mine_b = b + starts[g] * outputs;
        std::vector<float> low(8 * rank);
        for (int64_t at = bounds[g]; at < bounds[g + 1];) {
            const int64_t left = bounds[g + 1] - at, take = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            const X* from[8];
            X* to[8];
            for (int64_t m = 0; m < take; m++) {
                from[m] = x + rows[at + m] * x_stride;
                to[m] = y + rows[at + m] * y_stride;
            }
            switch (take) {
                case 8:
                    shrink<4>(from, mine_a, inputs, rank, low.data(), rank);
                    shrink<4>(from + 4, mine_a, inputs, rank, low.data() + 4 * rank, rank);
                    break;
                case 4: shrink<4>(from, mine_a, inputs, rank, low.data(), rank); break;
                case 2: shrink<2>(from, mine_a, inputs, rank, low.data(), rank); break;
                default: shrink<1>(from, mine_a, inputs, rank, low.data(), rank);
            }
            rounded<X>(low.data(), take * rank);
            switch (take) {
                case 8: expand<8>(to, low.data(), rank, mine_b, outputs, rank); break;
                case 4: expand<4>(to, low.data(), rank, mine_b, outputs, rank); break;
                case 2: expand<2>(to, low.data(), rank, mine_b, outputs, rank); break;
                default: expand<1>(to, low.data(), rank, mine_b, outputs, rank);
            }
            at += take;
        }
    }
}

}  // namespace

#define LORA(name, type)                                                                                         \
    extern "C" void grouped_lora_##name(void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* a, \
                                        const void* b, const int32_t* rows, const int32_t* bounds,               \
                                        const int32_t* starts, const int32_t* ranks, int64_t groups,             \
                                        int64_t inputs, int64_t outputs, int threads) {                          \
        grouped((type*)y, y_stride, (const type*)x, x_stride, (const type*)a, (const type*)b, rows, bounds, starts, \
                ranks, groups, inputs, outputs, threads);                                                        \
    }
LORA(bf16, bf16)
LORA(f32, float)
