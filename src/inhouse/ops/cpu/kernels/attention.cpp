// Attention over paged keys and values. The cache is [places, G, K]; token t of a sequence lies at place
// table[t / page] · page + t % page. Queries are [rows, H, K]; the H / G heads that share a key stand side by side.
#include "tile.h"

#include <cmath>
#include <vector>

namespace {

constexpr int TILE = 64;  // keys that are looked at together

struct Shape {
    int64_t heads, groups, width, page, table_width, q_stride;
    float scale, cap;  // cap 0 is none
    int64_t window;    // 0 is none
    const float* sinks;  // a score a head that takes part in the sum and adds nothing; or none
};

INLINE f32x16 capped(f32x16 v, float cap) {
    if (cap == 0) return v;
    const f32x16 twice = exponential(v * (2.f / cap));  // tanh from an exponential
    return (1.f - 2.f / (twice + 1.f)) * cap;
}

// softmax of scores in place, over `count` of them; what stands behind, up to a whole vector, becomes 0.
INLINE void softmax_tile(float* scores, int64_t count, float& most, float& total, float& shrink) {
    const int64_t whole = (count + LANES - 1) / LANES * LANES;
    for (int64_t t = count; t < whole; t++) scores[t] = -INFINITY;
    f32x16 top = load(scores);
    for (int64_t t = LANES; t < whole; t += LANES) top = larger(top, load(scores + t));
    const float peak = std::fmax(most, largest(top));
    shrink = most == peak ? 1.f : std::exp(most - peak);
    f32x16 sums = all(0.f);
    for (int64_t t = 0; t < whole; t += LANES) {
        const f32x16 s = load(scores + t);
        const f32x16 e = s == -INFINITY ? all(0.f) : exponential(s - peak);
        store(scores + t, e);
        sums += e;
    }
    total = total * shrink + sum(sums);
    most = peak;
}

// One new token a sequence.
template <class X>
void decode(X* out, const X* q, const X* keys, const X* values, const int32_t* tables, const int32_t* lengths,
            int64_t rows, const Shape& s, int threads) {
    const int64_t shared = s.heads / s.groups, K = s.width;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<float> wide(shared * K), mixed(shared * K), scores(shared * TILE);
        std::vector<float> most(shared), total(shared);
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < rows * s.groups; job++) {
            const int64_t b = job / s.groups, g = job % s.groups;
            const int32_t* table = tables + b * s.table_width;
            const int64_t length = lengths[b], first = s.window && length > s.window ? length - s.window : 0;
            const X* mine = q + b * s.q_stride + g * shared * K;
            for (int64_t i = 0; i < shared * K; i += LANES) store(&wide[i], load(mine + i) * s.scale);
            std::fill(mixed.begin(), mixed.end(), 0.f);
            for (int64_t h = 0; h < shared; h++) {
                most[h] = s.sinks ? s.sinks[g * shared + h] : -INFINITY;
                total[h] = s.sinks ? 1.f : 0.f;
            }
            for (int64_t t0 = first; t0 < length; t0 += TILE) {
                const int64_t count = length - t0 < TILE ? length - t0 : TILE;
                for (int64_t t = 0; t < count; t++) {
                    const int64_t at = t0 + t, place = int64_t(table[at / s.page]) * s.page + at % s.page;
                    const X* key = keys + (place * s.groups + g) * K;
                    for (int64_t h = 0; h < shared; h++) {
                        f32x16 acc = all(0.f);
                        for (int64_t i = 0; i < K; i += LANES) acc += load(key + i) * load(&wide[h * K + i]);
                        scores[h * TILE + t] = sum(acc);
                    }
                }
                for (int64_t h = 0; h < shared; h++) {
                    float shrink, *mine_scores = &scores[h * TILE];
                    if (s.cap)
                        for (int64_t t = 0; t < count; t += LANES)
                            store(mine_scores + t, capped(load(mine_scores + t), s.cap));
                    softmax_tile(mine_scores, count, most[h], total[h], shrink);
                    if (shrink != 1.f)
                        for (int64_t i = 0; i < K; i += LANES)
                            store(&mixed[h * K + i], load(&mixed[h * K + i]) * shrink);
                }
                for (int64_t t = 0; t < count; t++) {
                    const int64_t at = t0 + t, place = int64_t(table[at / s.page]) * s.page + at % s.page;
                    const X* val = values + (place * s.groups + g) * K;
                    for (int64_t i = 0; i < K; i += LANES) {
                        const f32x16 v = load(val + i);
                        for (int64_t h = 0; h < shared; h++)
                            store(&mixed[h * K + i], load(&mixed[h * K + i]) + v * scores[h * TILE + t]);
                    }
                }
            }
            X* to = out + (b * s.heads + g * shared) * K;
            for (int64_t h = 0; h < shared; h++)
                for (int64_t i = 0; i < K; i += LANES) store(to + h * K + i, load(&mixed[h * K + i]) * (1.f / total[h]));
        }
    }
}

// A tile of keys as a panel of 64 columns, and of values as panels of their K columns: see tile.h.
INLINE void pack_keys(float* panel, const float* const* rows, int64_t K) {
    for (int64_t t = 0; t < TILE; t++)
        for (int64_t i = 0; i < K; i++) panel[i * TILE + t] = rows[t] ? rows[t][i] : 0.f;
}
INLINE void pack_keys(bf16* panel, const bf16* const* rows, int64_t K) {
    uint32_t* to = reinterpret_cast<uint32_t*>(panel);
    for (int64_t t = 0; t < TILE; t++)
        for (int64_t i = 0; i < K / 2; i++) to[i * TILE + t] = rows[t] ? load_raw<uint32_t>(rows[t] + 2 * i) : 0u;
}
INLINE void pack_values(float* panel, const float* const* rows, int64_t from, int64_t columns) {
    for (int64_t t = 0; t < TILE; t++)
        for (int64_t i = 0; i < columns; i += LANES)
            store(panel + t * columns + i, rows[t] ? load(rows[t] + from + i) : all(0.f));
}
INLINE void pack_values(bf16* panel, const bf16* const* rows, int64_t from, int64_t columns) {
    for (int64_t t = 0; t < TILE; t += 2)
        for (int64_t i = 0; i < columns; i += LANES) {
            u32x16 even{}, odd{};
            if (rows[t]) even = __builtin_convertvector(load_raw<u16x16>(rows[t] + from + i), u32x16);
            if (rows[t + 1]) odd = __builtin_convertvector(load_raw<u16x16>(rows[t + 1] + from + i), u32x16);
            store_raw(reinterpret_cast<uint32_t*>(panel) + t / 2 * columns + i, even | (odd << 16));
        }
}

template <class X>
INLINE void values_product(const X* p, const X* panel, float* c, int64_t rows, int64_t columns, int64_t c_stride) {
    constexpr int64_t deep = TILE / (sizeof(float) / sizeof(X));
    switch (columns / LANES) {
        case 1: tiles<1>(p, TILE, panel, deep, c, rows, false, nullptr, c_stride); break;
        case 2: tiles<2>(p, TILE, panel, deep, c, rows, false, nullptr, c_stride); break;
        case 3: tiles<3>(p, TILE, panel, deep, c, rows, false, nullptr, c_stride); break;
        default: tiles<4>(p, TILE, panel, deep, c, rows, false, nullptr, c_stride);
    }
}

// Several tokens of one sequence in a row, the last `count` of its `start + count`, in causal order.
template <class X>
void prefill(X* out, const X* q, const X* keys, const X* values, const int32_t* table, int64_t start, int64_t count,
             const Shape& s, int threads) {
    const int64_t shared = s.heads / s.groups, K = s.width;
    constexpr int per = sizeof(float) / sizeof(X);
    const int64_t block = shared >= 192 ? 1 : 192 / shared, blocks = (count + block - 1) / block;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int64_t most_rows = block * shared;
        std::vector<X> x(most_rows * K), chances(most_rows * TILE), key_panel(TILE * K), value_panel(TILE * K);
        std::vector<float> scores(most_rows * TILE), mixed(most_rows * K), most(most_rows), total(most_rows);
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < blocks * s.groups; job++) {
            const int64_t g = job % s.groups, q0 = job / s.groups * block;
            const int64_t queries = count - q0 < block ? count - q0 : block, rows = queries * shared;
            for (int64_t r = 0; r < rows; r++) {
                const int64_t h = g * shared + r % shared;
                std::memcpy(&x[r * K], q + (q0 + r / shared) * s.q_stride + h * K, K * sizeof(X));
                most[r] = s.sinks ? s.sinks[h] : -INFINITY;
                total[r] = s.sinks ? 1.f : 0.f;
            }
            std::fill(mixed.begin(), mixed.end(), 0.f);
            const int64_t oldest = start + q0, end = oldest + queries;  // places of the block's queries
            const int64_t first = s.window && oldest + 1 > s.window ? oldest + 1 - s.window : 0;
            for (int64_t t0 = first; t0 < end; t0 += TILE) {
                const X *key_rows[TILE], *value_rows[TILE];
                for (int64_t t = 0; t < TILE; t++) {
                    const int64_t at = t0 + t;
                    key_rows[t] = value_rows[t] = nullptr;
                    if (at >= end) continue;
                    const int64_t place = int64_t(table[at / s.page]) * s.page + at % s.page;
                    key_rows[t] = keys + (place * s.groups + g) * K;
                    value_rows[t] = values + (place * s.groups + g) * K;
                }
                pack_keys(key_panel.data(), key_rows, K);
                tiles<4>(x.data(), K, key_panel.data(), K / per, scores.data(), rows, true, nullptr);
                for (int64_t r = 0; r < rows; r++) {
                    const int64_t at = oldest + r / shared;  // this query's place; it sees (at - window, at]
                    int64_t seen = at + 1 - t0, hidden = s.window ? at + 1 - s.window - t0 : 0;
                    seen = seen < 0 ? 0 : seen > TILE ? TILE : seen;
                    hidden = hidden < 0 ? 0 : hidden > seen ? seen : hidden;
                    float *row = &scores[r * TILE], shrink = 1.f;
                    X* chance = &chances[r * TILE];
                    if (hidden == seen) {
                        for (int64_t t = 0; t < TILE; t += LANES) store(chance + t, all(0.f));
                        continue;
                    }
                    for (int64_t t = 0; t < TILE; t += LANES) store(row + t, capped(load(row + t) * s.scale, s.cap));
                    for (int64_t t = 0; t < hidden; t++) row[t] = -INFINITY;
                    for (int64_t t = seen; t < TILE; t++) row[t] = -INFINITY;
                    softmax_tile(row, TILE, most[r], total[r], shrink);
                    for (int64_t t = 0; t < TILE; t += LANES) store(chance + t, load(row + t));
                    if (shrink != 1.f)
                        for (int64_t i = 0; i < K; i += LANES) store(&mixed[r * K + i], load(&mixed[r * K + i]) * shrink);
                }
                for (int64_t from = 0; from < K; from += PANEL) {
                    const int64_t columns = K - from < PANEL ? K - from : PANEL;
                    pack_values(value_panel.data(), value_rows, from, columns);
                    values_product(chances.data(), value_panel.data(), &mixed[from], rows, columns, K);
                }
            }
            for (int64_t r = 0; r < rows; r++) {
                X* to = out + ((q0 + r / shared) * s.heads + g * shared + r % shared) * K;
                for (int64_t i = 0; i < K; i += LANES) store(to + i, load(&mixed[r * K + i]) * (1.f / total[r]));
            }
        }
    }
}

}  // namespace

#define ATTENTION(name, type)                                                                                    \
    extern "C" void decode_attention_##name(void* out, const void* q, const void* keys, const void* values,       \
                                            const int32_t* tables, const int32_t* lengths, int64_t rows,         \
                                            int64_t heads, int64_t groups, int64_t width, int64_t page,          \
                                            int64_t table_width, int64_t q_stride, float scale, float cap,       \
                                            int64_t window, const float* sinks, int threads) {                   \
        decode((type*)out, (const type*)q, (const type*)keys, (const type*)values, tables, lengths, rows,         \
               Shape{heads, groups, width, page, table_width, q_stride, scale, cap, window, sinks}, threads);    \
    }                                                                                                            \
    extern "C" void prefill_attention_##name(void* out, const void* q, const void* keys, const void* values,      \
                                             const int32_t* table, int64_t start, int64_t count, int64_t heads,  \
                                             int64_t groups, int64_t width, int64_t page, int64_t q_stride,      \
                                             float scale, float cap, int64_t window, const float* sinks,         \
                                             int threads) {                                                      \
        prefill((type*)out, (const type*)q, (const type*)keys, (const type*)values, table, start, count,          \
                Shape{heads, groups, width, page, 0, q_stride, scale, cap, window, sinks}, threads);             \
    }
ATTENTION(bf16, bf16)
ATTENTION(f32, float)
