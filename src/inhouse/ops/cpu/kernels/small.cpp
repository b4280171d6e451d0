// The small operations of a step: norms, rotation and the gate of an MLP. One row is one token.
#include "simd.h"

#include <cmath>

namespace {

// total = x + update, y = rms(total) · weight, a head at a time; without an update there is no total.
template <class X>
void rms(X* y, X* total, const X* x, int64_t x_stride, const X* update, const X* weight, int64_t rows, int64_t heads,
         int64_t width, float eps) {
    for (int64_t m = 0; m < rows; m++)
        for (int64_t h = 0; h < heads; h++) {
            const X* from = x + m * x_stride + h * width;
            const int64_t at = (m * heads + h) * width;
            f32x16 squares = all(0.f);
            for (int64_t i = 0; i < width; i += LANES) {
                f32x16 v = load(from + i);
                if (update) {
                    store(total + at + i, v + load(update + at + i));
                    v = load(total + at + i);  // as it was rounded
                }
                squares += v * v;
            }
            if (update) from = total + at;
            const float inverse = 1.f / std::sqrt(sum(squares) / width + eps);
            for (int64_t i = 0; i < width; i += LANES) {
                store(y + at + i, load(from + i) * inverse);
                store(y + at + i, load(y + at + i) * load(weight + i));  // twice rounded, as the plain version does
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

// Turns the pairs (x[i], x[i + half]) of a head by the angle of the token's place; without angles, copies it.
template <class X>
INLINE void turn(X* to, const X* from, const float* c, const float* s, int64_t width) {
    const int64_t half = width / 2;
    if (!c) {
        std::memcpy(to, from, width * sizeof(X));
        return;
    }
    for (int64_t i = 0; i < half; i += LANES) {
        const f32x16 low = load(from + i), high = load(from + half + i);
        store(to + i, low * load(c + i) - high * load(s + i));
        store(to + half + i, high * load(c + i) + low * load(s + i));
    }
}

template <class X>
void rotate_and_write(X* turned, const X* q, int64_t q_stride, const X* k, int64_t k_stride, const X* v,
                      int64_t v_stride, const float* cos, const float* sin, X* keys, X* values, const int64_t* write,
                      int64_t rows, int64_t heads, int64_t groups, int64_t width) {
    const int64_t half = width / 2;
    for (int64_t m = 0; m < rows; m++) {
        const float *c = cos ? cos + m * half : nullptr, *s = cos ? sin + m * half : nullptr;
        for (int64_t h = 0; h < heads; h++)
            turn(turned + (m * heads + h) * width, q + m * q_stride + h * width, c, s, width);
        for (int64_t g = 0; g < groups; g++)
            turn(keys + (write[m] * groups + g) * width, k + m * k_stride + g * width, c, s, width);
        std::memcpy(values + write[m] * groups * width, v + m * v_stride, groups * width * sizeof(X));
    }
}

}  // namespace

#define SMALL(name, type)                                                                                        \
    extern "C" void rms_##name(void* y, void* total, const void* x, int64_t x_stride, const void* update,         \
                               const void* weight, int64_t rows, int64_t heads, int64_t width, float eps) {      \
        rms((type*)y, (type*)total, (const type*)x, x_stride, (const type*)update, (const type*)weight, rows,     \
            heads, width, eps);                                                                                  \
    }                                                                                                            \
    extern "C" void gate_##name(void* y, const void* gate_up, int64_t rows, int64_t width, int threads) {         \
        gate((type*)y, (const type*)gate_up, rows, width, threads);                                              \
    }                                                                                                            \
    extern "C" void rotate_and_write_##name(void* turned, const void* q, int64_t q_stride, const void* k,         \
                                            int64_t k_stride, const void* v, int64_t v_stride, const float* cos,  \
                                            const float* sin, void* keys, void* values, const int64_t* write,     \
                                            int64_t rows, int64_t heads, int64_t groups, int64_t width) {        \
        rotate_and_write((type*)turned, (const type*)q, q_stride, (const type*)k, k_stride, (const type*)v,       \
                         v_stride, cos, sin, (type*)keys, (type*)values, write, rows, heads, groups, width);     \
    }
SMALL(bf16, bf16)
SMALL(f32, float)
