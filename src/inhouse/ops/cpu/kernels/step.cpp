// A model's blocks, one behind the other, for a step in which each sequence reads one token. The kernels are those
// that are called one by one as well, so sums are the same; here nothing is spent between them, and the interpreter is
// free for others all the while.
#include "simd.h"

#include <vector>

#define KERNELS(type)                                                                                             \
    void linear_##type(void*, int64_t, const void*, int64_t, const void*, const float*, int64_t, int64_t, int64_t, int); \
    void linear_int8_##type(void*, int64_t, const void*, int64_t, const void*, const void*, const float*, int64_t, \
                            int64_t, int64_t, int);                                                               \
    void linear_int4_##type(void*, int64_t, const void*, int64_t, const void*, const void*, const float*, int64_t, \
                            int64_t, int64_t, int);                                                               \
    void rms_##type(void*, void*, const void*, int64_t, const void*, const void*, int64_t, int64_t, int64_t, float); \
    void gate_##type(void*, const void*, int64_t, int64_t, int);                                                  \
    void rotate_and_write_##type(void*, const void*, int64_t, const void*, int64_t, const void*, int64_t,         \
                                 const float*, const float*, void*, void*, const int64_t*, int64_t, int64_t,      \
                                 int64_t, int64_t);                                                               \
    void decode_attention_##type(void*, const void*, const void*, const void*, const int32_t*, const int32_t*,    \
                                 int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, float, float,     \
                                 int64_t, const float*, int);                                                     \
    void grouped_lora_##type(void*, int64_t, const void*, int64_t, const void*, const void*, const int32_t*,      \
                             const int32_t*, const int32_t*, const int32_t*, int64_t, int64_t, int64_t, int);
extern "C" {
KERNELS(bf16)
KERNELS(f32)

// These lie in memory as ops/cpu/step.py says.
struct Part {  // a projection, and every adapter's factors for it
    const void *a, *b;
    int64_t start, outputs;
};
struct Matrix {
    const void *w, *scales;
    const float* bias;
    int64_t inputs, outputs, bits;  // 0 bits: plain numbers
    const Part* parts;
    int64_t part_count, first_part;  // its place among all parts of the model
};
struct Block {
    Matrix qkv, out, up, down;
    const void *attention_norm, *mlp_norm, *q_norm, *k_norm;  // the last two may be missing
    void *keys, *values;
    const float* sinks;
    int64_t heads, groups, width, q_norm_width, k_norm_width, rope, window;
    float scale, cap, attention_eps, mlp_eps, q_eps, k_eps;
};
struct Groups {  // which rows use which adapter, as grouped_lora wants it
    const int32_t *rows, *bounds, *starts, *ranks;
    int64_t count, members, highest;
};
struct Step {
    int64_t rows, stream, uses, part_count, page, table_width, longest, threads, worth_threads;
    const float* const* cos;  // of each rope
    const float* const* sin;
    const int64_t* write;
    const int32_t *tables, *lengths;
    const Groups* const* adapters;  // [uses][part_count]; nothing where a part is left alone
};
}

namespace {

struct Bf16 {
    typedef bf16 number;
#define CALL(name) \
    template <class... A> static void name(A... a) { name##_bf16(a...); }
#define ALL_CALLS                                                                                        \
    CALL(linear) CALL(linear_int8) CALL(linear_int4) CALL(rms) CALL(gate) CALL(rotate_and_write)         \
    CALL(decode_attention) CALL(grouped_lora)
    ALL_CALLS
#undef CALL
};
struct F32 {
    typedef float number;
#define CALL(name) \
    template <class... A> static void name(A... a) { name##_f32(a...); }
    ALL_CALLS
#undef CALL
};

template <class K>
class Stream {
    typedef typename K::number X;
    const Step& step;

    int threads(int64_t work) const { return work >= step.worth_threads ? int(step.threads) : 1; }

   public:
    explicit Stream(const Step& step) : step(step) {}

    // y = x Wᵀ + bias, and what the adapters add to it.
    void product(X* y, const X* x, const Matrix& m) const {
        const int many = threads(step.rows * m.inputs * m.outputs);
        if (m.bits == 8)
            K::linear_int8(y, m.outputs, x, m.inputs, m.w, m.scales, m.bias, step.rows, m.inputs, m.outputs, many);
        else if (m.bits == 4)
            K::linear_int4(y, m.outputs, x, m.inputs, m.w, m.scales, m.bias, step.rows, m.inputs, m.outputs, many);
        else
            K::linear(y, m.outputs, x, m.inputs, m.w, m.bias, step.rows, m.inputs, m.outputs, many);
        for (int64_t p = 0; p < m.part_count; p++)
            for (int64_t u = 0; u < step.uses; u++) {
                const Groups* g = step.adapters[u * step.part_count + m.first_part + p];
                const Part& part = m.parts[p];
                if (g)
                    K::grouped_lora(y + part.start, m.outputs, x, m.inputs, part.a, part.b, g->rows, g->bounds,
                                    g->starts, g->ranks, g->count, m.inputs, part.outputs,
                                    threads(g->members * g->highest * (m.inputs + part.outputs)));
            }
    }

    void run(X* x, const Block* blocks, int64_t count) const {
        const int64_t rows = step.rows, stream = step.stream;
        int64_t wide = 0, mixing = 0, middle = 0;
        for (int64_t i = 0; i < count; i++) {
            const Block& b = blocks[i];
            wide = b.qkv.outputs > wide ? b.qkv.outputs : wide;
            wide = b.up.outputs > wide ? b.up.outputs : wide;
            mixing = b.out.inputs > mixing ? b.out.inputs : mixing;
            middle = b.down.inputs > middle ? b.down.inputs : middle;
        }
        std::vector<X> room(rows * (2 * stream + wide + 4 * mixing + middle));
        X *normed = room.data(), *update = normed + rows * stream, *fused = update + rows * stream,
          *turned = fused + rows * wide, *mixed = turned + rows * mixing, *q_normed = mixed + rows * mixing,
          *k_normed = q_normed + rows * mixing, *gated = k_normed + rows * mixing;
        for (int64_t i = 0; i < count; i++) {
            const Block& b = blocks[i];
            const int64_t q_width = b.heads * b.width, k_width = b.groups * b.width;
            K::rms(normed, x, x, stream, i ? update : nullptr, b.attention_norm, rows, int64_t(1), stream,
                   b.attention_eps);
            product(fused, normed, b.qkv);
            const X *q = fused, *k = q + q_width, *v = k + k_width;
            int64_t q_stride = b.qkv.outputs, k_stride = b.qkv.outputs;
            if (b.q_norm) {
                K::rms(q_normed, (X*)nullptr, q, q_stride, (X*)nullptr, b.q_norm, rows, q_width / b.q_norm_width,
                       b.q_norm_width, b.q_eps);
                K::rms(k_normed, (X*)nullptr, k, k_stride, (X*)nullptr, b.k_norm, rows, k_width / b.k_norm_width,
                       b.k_norm_width, b.k_eps);
                q = q_normed, k = k_normed, q_stride = q_width, k_stride = k_width;
            }
            K::rotate_and_write(turned, q, q_stride, k, k_stride, v, b.qkv.outputs,
                                b.rope < 0 ? nullptr : step.cos[b.rope], b.rope < 0 ? nullptr : step.sin[b.rope],
                                b.keys, b.values, step.write, rows, b.heads, b.groups, b.width);
            K::decode_attention(mixed, turned, b.keys, b.values, step.tables, step.lengths, rows, b.heads, b.groups,
                                b.width, step.page, step.table_width, q_width, b.scale, b.cap, b.window, b.sinks,
                                threads(rows * q_width * step.longest));
            product(update, mixed, b.out);
            K::rms(normed, x, x, stream, update, b.mlp_norm, rows, int64_t(1), stream, b.mlp_eps);
            product(fused, normed, b.up);
            K::gate(gated, fused, rows, b.down.inputs, threads(rows * b.down.inputs));
            product(update, gated, b.down);
        }
        for (int64_t i = 0; i < rows * stream; i += LANES) store(x + i, load(x + i) + load(update + i));
    }
};

}  // namespace

// x [rows, stream] goes through all blocks, in place.
extern "C" void step_bf16(void* x, const Block* blocks, int64_t count, const Step* step) {
    Stream<Bf16>(*step).run((bf16*)x, blocks, count);
}
extern "C" void step_f32(void* x, const Block* blocks, int64_t count, const Step* step) {
    Stream<F32>(*step).run((float*)x, blocks, count);
}
