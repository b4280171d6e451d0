// Products with a matrix that lies packed: y = x Wᵀ + bias.
//
// W [O, I] is cut into panels of 64 outputs, each one stretch of memory in the order in which it is read:
//   float32   [O / 64][I][64]
//   bfloat16  [O / 64][I / 2][64][2]
//   int8      [O / 64][I / 4][64][4]   numbers 0 … 255 that stand for -128 … 127, a scale a group of 128 inputs
//   int4      [O / 64][I / 8][64][4]   two numbers 0 … 15 a byte, of quad 2j and quad 2j + 1; a scale a group of 64
// O is filled up to whole panels and I to whole groups, with zeros. Sums are kept in float32.
#include "tile.h"

#include <cmath>
#include <vector>

namespace {

template <class X>
void finish(X* y, const float* c, const float* bias, int64_t columns) {
    for (int64_t o = 0; o < columns; o++) assign(y + o, c[o] + (bias ? bias[o] : 0.f));
}

template <class X>
void finish_whole(X* y, const float* c, const float* bias) {
    for (int v = 0; v < PANEL; v += LANES) store(y + v, load(c + v) + (bias ? load(bias + v) : all(0.f)));
}

template <class X>
void give(X* y, const float* c, const float* bias, int64_t columns) {
    columns >= PANEL ? finish_whole(y, c, bias) : finish(y, c, bias, columns);
}

// Plain numbers: bfloat16 with bfloat16, float32 with float32.
template <class X>
void product(X* y, int64_t y_stride, const X* x, int64_t x_stride, const X* w, const float* bias, int64_t rows,
             int64_t inputs, int64_t outputs, int threads) {
    constexpr int step = sizeof(float) / sizeof(X);  // inputs that one lane takes at once
    constexpr int64_t block = 1024;                  // inputs of a panel that stay near while all rows pass
    const int64_t panels = (outputs + PANEL - 1) / PANEL, panel_size = inputs * PANEL;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<float> sums(rows * PANEL);
#pragma omp for schedule(static)
        for (int64_t p = 0; p < panels; p++) {
            const X* panel = w + p * panel_size;
            const int64_t columns = outputs - p * PANEL;
            for (int64_t k = 0; k < inputs; k += block) {
                const int64_t deep = (inputs - k < block ? inputs - k : block) / step;
                const X* part = panel + k * PANEL;
                const char* next = reinterpret_cast<const char*>(part + deep * step * PANEL);
                tiles<4>(x + k, x_stride, part, deep, sums.data(), rows, k == 0, next);
            }
            for (int64_t m = 0; m < rows; m++)
                give(y + m * y_stride + p * PANEL, &sums[m * PANEL], bias ? bias + p * PANEL : nullptr, columns);
        }
    }
}

// What a row of inputs becomes for products of bytes: numbers of -127 … 127, a scale and their sum for each group.
struct Bytes {
    std::vector<int8_t> numbers;
    std::vector<float> scales;
    std::vector<int32_t> sums;
    int64_t width, groups;
};

template <class X>
Bytes as_bytes(const X* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t group) {
    Bytes b;
    b.groups = (inputs + group - 1) / group;
    b.width = b.groups * group;
    b.numbers.assign(rows * b.width, 0);
    b.scales.resize(rows * b.groups);
    b.sums.resize(rows * b.groups);
    for (int64_t m = 0; m < rows; m++)
        for (int64_t g = 0; g < b.groups; g++) {
            const X* from = x + m * x_stride + g * group;
            const int64_t count = inputs - g * group < group ? inputs - g * group : group;
            f32x16 wide = all(0.f), odd = all(0.f);
            int64_t i = 0;
            for (; i + LANES <= count; i += LANES) {
                const f32x16 v = load(from + i);
                wide = larger(wide, magnitude(v));
                odd += v - v;  // 0, but NaN where v is NaN or infinite: neither may become a plausible number
            }
            float most = largest(wide), stray = sum(odd);
            for (; i < count; i++) {
                most = std::fmax(most, std::fabs(value(from[i])));
                stray += value(from[i]) - value(from[i]);
            }
            most += stray;
            const float inverse = most > 0 ? 127.f / most : 0.f;
            int8_t* to = &b.numbers[m * b.width + g * group];
            int32_t total = 0;
            for (i = 0; i < count; i++) {
                to[i] = int8_t(std::lrintf(value(from[i]) * inverse));
                total += to[i];
            }
            b.scales[m * b.groups + g] = most / 127.f;
            b.sums[m * b.groups + g] = total;
        }
    return b;
}

template <int BITS, int MR>
void quantised_tile(const Bytes& x, int64_t m, const uint8_t* panel, const bf16* scales, float* c) {
    constexpr int group = BITS == 8 ? 128 : 64, zero = BITS == 8 ? 128 : 8;
    f32x16 total[MR][4];
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < 4; v++) total[r][v] = all(0.f);
    for (int64_t g = 0; g < x.groups; g++) {
        i32x16 acc[MR][4];
        for (int r = 0; r < MR; r++)
            for (int v = 0; v < 4; v++) acc[r][v] = i32x16{} - zero * x.sums[(m + r) * x.groups + g];
        const int8_t* from = &x.numbers[m * x.width + g * group];
        for (int k = 0; k < group / 4; k += BITS == 8 ? 1 : 2) {
            u8x64 w[4], high[4];
            for (int v = 0; v < 4; v++) w[v] = load_raw<u8x64>(panel + v * 64);
            if (BITS == 4)  // with more work a byte the processor's own fetching falls behind; with less it is best alone
                for (int v = 0; v < 4; v++) __builtin_prefetch(panel + 4096 + v * 64);
            panel += PANEL * 4;
            if (BITS == 4)
                for (int v = 0; v < 4; v++) {
                    high[v] = (u8x64)(((u32x16)w[v] >> 4) & 0x0f0f0f0fu);
                    w[v] = (u8x64)((u32x16)w[v] & 0x0f0f0f0fu);
                }
            for (int r = 0; r < MR; r++) {
                const u32x16 quad = all(load_raw<uint32_t>(from + r * x.width + k * 4));
                for (int v = 0; v < 4; v++) acc[r][v] = dot_quads(acc[r][v], w[v], quad);
                if (BITS == 4) {
                    const u32x16 second = all(load_raw<uint32_t>(from + r * x.width + k * 4 + 4));
                    for (int v = 0; v < 4; v++) acc[r][v] = dot_quads(acc[r][v], high[v], second);
                }
            }
        }
        for (int v = 0; v < 4; v++) {
            const f32x16 scale = load(scales + g * PANEL + v * LANES);
            for (int r = 0; r < MR; r++)
                total[r][v] += __builtin_convertvector(acc[r][v], f32x16) * (scale * x.scales[(m + r) * x.groups + g]);
        }
    }
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < 4; v++) store(c + r * PANEL + v * LANES, total[r][v]);
}

template <int BITS, class X>
void quantised(X* y, int64_t y_stride, const X* x, int64_t x_stride, const uint8_t* w, const bf16* scales,
               const float* bias, int64_t rows, int64_t inputs, int64_t outputs, int threads) {
    constexpr int64_t group = BITS == 8 ? 128 : 64;
    const Bytes bytes = as_bytes(x, x_stride, rows, inputs, group);
    const int64_t panels = (outputs + PANEL - 1) / PANEL, panel_size = bytes.width * PANEL * BITS / 8;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < panels; p++) {
        const uint8_t* panel = w + p * panel_size;
        const bf16* scale = scales + p * bytes.groups * PANEL;
        const float* add = bias ? bias + p * PANEL : nullptr;
        float c[4 * PANEL];
        for (int64_t m = 0; m < rows;) {
            const int64_t left = rows - m, take = left >= 4 ? 4 : left;
            if (take == 4) quantised_tile<BITS, 4>(bytes, m, panel, scale, c);
            else if (take == 3) quantised_tile<BITS, 3>(bytes, m, panel, scale, c);
            else if (take == 2) quantised_tile<BITS, 2>(bytes, m, panel, scale, c);
            else quantised_tile<BITS, 1>(bytes, m, panel, scale, c);
            for (int64_t r = 0; r < take; r++)
                give(y + (m + r) * y_stride + p * PANEL, c + r * PANEL, add, outputs - p * PANEL);
            m += take;
        }
    }
}

}  // namespace

#define LINEAR(name, type)                                                                                       \
    extern "C" void linear_##name(void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w,     \
                                  const float* bias, int64_t rows, int64_t inputs, int64_t outputs, int threads) { \
        product((type*)y, y_stride, (const type*)x, x_stride, (const type*)w, bias, rows, inputs, outputs, threads); \
    }
LINEAR(bf16, bf16)
LINEAR(f32, float)

#define QUANTISED(name, bits, type)                                                                              \
    extern "C" void linear_##name(void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w,     \
                                  const void* scales, const float* bias, int64_t rows, int64_t inputs,           \
                                  int64_t outputs, int threads) {                                                \
        quantised<bits>((type*)y, y_stride, (const type*)x, x_stride, (const uint8_t*)w, (const bf16*)scales,     \
                        bias, rows, inputs, outputs, threads);                                                   \
    }
QUANTISED(int8_bf16, 8, bf16)
QUANTISED(int8_f32, 8, float)
QUANTISED(int4_bf16, 4, bf16)
QUANTISED(int4_f32, 4, float)
