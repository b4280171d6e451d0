// The small operations of a step: norms, rotation and the gate of an MLP. One row is one token.
#include "simd.h"

#include <cmath>

namespace {

// y = rms(x + delta) · weight; x + delta stays in x. Without delta, x is only read.
template <class X>
void rms(X* y, int64_t y_stride, X* x, int64_t x_stride, const X* delta, const X* weight, int64_t rows, int64_t width,
         float eps) {
    for (int64_t m = 0; m < rows; m++) {
        X *from = x + m * x_stride, *to = y + m * y_stride;
        f32x16 squares = all(0.f);
        for (int64_t i = 0; i < width; i += LANES) {
            f32x16 v = load(from + i);
            if (delta) {
                store(from + i, v + load(delta + m * width + i));
                v = load(from + i);  // as it was rounded
            }
            squares += v * v;
        }
        const float inverse = 1.f / std::sqrt(sum(squares) / width + eps);
        for (int64_t i = 0; i < width; i += LANES) {
            store(to + i, load(from + i) * inverse);
            store(to + i, load(to + i) * load(weight + i));  // twice rounded, as the plain version does
        }
    }
}

template <class X>
void gate(X* y, const X* gate_up, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t m = 0; m < rows; m++) {
        const X *g = gate_up + m * 2 * width, *up = g + width;
        X* to = y + m * width;
        for (int64_t i = 0; i < width; i += LANES) {
            const f32x16 v = load(g + i);
            store(to + i, v / (1.f + exponential(-v)));
            store(to + i, load(to + i) * load(up + i));
        }
    }
}

// Turns the pairs (x[i], x[i + half]) of each head by the angle of the token's place.
template <class X>
void rotate(X* y, const X* x, int64_t x_stride, const float* cos, const float* sin, int64_t rows, int64_t heads,
            int64_t width) {
    const int64_t half = width / 2;
    for (int64_t m = 0; m < rows; m++) {
        const float *c = cos + m * half, *s = sin + m * half;
        for (int64_t h = 0; h < heads; h++) {
            const X* from = x + m * x_stride + h * width;
            X* to = y + (m * heads + h) * width;
            for (int64_t i = 0; i < half; i += LANES) {
                const f32x16 low = load(from + i), high = load(from + half + i);
                store(to + i, low * load(c + i) - high * load(s + i));
                store(to + half + i, high * load(c + i) + low * load(s + i));
            }
        }
    }
}

}  // namespace

#define SMALL(name, type)                                                                                        \
    extern "C" void rms_##name(void* y, int64_t y_stride, void* x, int64_t x_stride, const void* delta,           \
                               const void* weight, int64_t rows, int64_t width, float eps) {                     \
        rms((type*)y, y_stride, (type*)x, x_stride, (const type*)delta, (const type*)weight, rows, width, eps);   \
    }                                                                                                            \
    extern "C" void gate_##name(void* y, const void* gate_up, int64_t rows, int64_t width, int threads) {         \
        gate((type*)y, (const type*)gate_up, rows, width, threads);                                              \
    }                                                                                                            \
    extern "C" void rotate_##name(void* y, const void* x, int64_t x_stride, const float* cos, const float* sin,   \
                                  int64_t rows, int64_t heads, int64_t width) {                                  \
        rotate((type*)y, (const type*)x, x_stride, cos, sin, rows, heads, width);                                \
    }
SMALL(bf16, bf16)
SMALL(f32, float)
