// Attention over paged keys and values. The cache is [places, G, K]; token t of a sequence lies at place
// table[t / page] · page + t % page. Queries are [rows, H, K]; the H / G heads that share a key stand side by side.
#include "tile.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr int TILE = 64;   // keys that are looked at together
constexpr int ROWS = 192;  // queries times heads that share a tile of keys once it is packed

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

// softmax of a tile's scores in place, given what came before it.
INLINE void softmax_tile(float* scores, float& most, float& total, float& shrink) {
    f32x16 top = load(scores);
    for (int t = LANES; t < TILE; t += LANES) top = larger(top, load(scores + t));
    const float peak = std::fmax(most, largest(top));
    shrink = most == peak ? 1.f : std::exp(most - peak);
    f32x16 sums = all(0.f);
    for (int t = 0; t < TILE; t += LANES) {
        const f32x16 s = load(scores + t);
        const f32x16 e = s == -INFINITY ? all(0.f) : exponential(s - peak);
        store(scores + t, e);
        sums += e;
    }
    total = total * shrink + sum(sums);
    most = peak;
}

// A tile of keys as a panel of 64 columns, and of values as panels of their K columns: see tile.h.
INLINE void pack_keys(void* panel, const void* const* rows, int64_t deep) {
    uint32_t* to = static_cast<uint32_t*>(panel);
    for (int64_t i = 0; i < deep; i += LANES)
        for (int64_t t = 0; t < TILE; t += LANES) {
            u32x16 square[LANES];
            for (int64_t r = 0; r < LANES; r++)
                square[r] = rows[t + r] ? load_raw<u32x16>((const uint32_t*)rows[t + r] + i) : u32x16{};
            transpose(square);
            for (int64_t r = 0; r < LANES; r++)
                if (i + r < deep) store_raw(to + (i + r) * TILE + t, square[r]);
        }
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

// Memory that a thread works in.
template <class X>
struct Room {
    std::vector<X> x, chances, key_panel, value_panel;
    std::vector<float> scores, mixed, most, total;
    Room(int64_t rows, int64_t width)
        : x(rows * width), chances(rows * TILE), key_panel(TILE * (width + 2 * LANES)), value_panel(TILE * width),
          scores(rows * TILE), mixed(rows * width), most(rows), total(rows) {}
};

// Queries that stand in a row in one sequence, the first at place `oldest`, attend to it: the heads of group `g`.
template <class X>
void attend(X* out, const X* q, const X* keys, const X* values, const int32_t* table, int64_t oldest, int64_t queries,
            int64_t g, const Shape& s, Room<X>& room) {
    constexpr int64_t per = sizeof(float) / sizeof(X);
    const int64_t shared = s.heads / s.groups, K = s.width, rows = queries * shared, end = oldest + queries;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t h = g * shared + r % shared;
        std::memcpy(&room.x[r * K], q + r / shared * s.q_stride + h * K, K * sizeof(X));
        room.most[r] = s.sinks ? s.sinks[h] : -INFINITY;
        room.total[r] = s.sinks ? 1.f : 0.f;
    }
    std::fill(room.mixed.begin(), room.mixed.begin() + rows * K, 0.f);
    // Tiles begin at multiples of their size, so that a token's sums are grouped alike whoever is read with it.
    const int64_t first = s.window && oldest + 1 > s.window ? (oldest + 1 - s.window) / TILE * TILE : 0;
    for (int64_t t0 = first; t0 < end; t0 += TILE) {
        const void* key_rows[TILE];
        const X* value_rows[TILE];
        int64_t number = t0 / s.page, inside = t0 % s.page;  // counted on: a division a token would cost more
        for (int64_t t = 0; t < TILE; t++, inside++) {
            key_rows[t] = value_rows[t] = nullptr;
            if (t0 + t >= end) continue;
            if (inside == s.page) number++, inside = 0;
            const int64_t place = int64_t(table[number]) * s.page + inside;
            key_rows[t] = keys + (place * s.groups + g) * K;
            value_rows[t] = values + (place * s.groups + g) * K;
        }
        pack_keys(room.key_panel.data(), key_rows, K / per);
        tiles<4>(room.x.data(), K, room.key_panel.data(), K / per, room.scores.data(), rows, true, nullptr);
        for (int64_t r = 0; r < rows; r++) {
            const int64_t at = oldest + r / shared;  // this query's place; it sees (at - window, at]
            int64_t seen = at + 1 - t0, hidden = s.window ? at + 1 - s.window - t0 : 0;
            seen = seen < 0 ? 0 : seen > TILE ? TILE : seen;
            hidden = hidden < 0 ? 0 : hidden > seen ? seen : hidden;
            float *row = &room.scores[r * TILE], shrink = 1.f;
            X* chance = &room.chances[r * TILE];
            if (hidden == seen) {
                for (int64_t t = 0; t < TILE; t += LANES) store(chance + t, all(0.f));
                continue;
            }
            for (int64_t t = 0; t < TILE; t += LANES) store(row + t, capped(load(row + t) * s.scale, s.cap));
            for (int64_t t = 0; t < hidden; t++) row[t] = -INFINITY;
            for (int64_t t = seen; t < TILE; t++) row[t] = -INFINITY;
            softmax_tile(row, room.most[r], room.total[r], shrink);
            for (int64_t t = 0; t < TILE; t += LANES) store(chance + t, load(row + t));
            if (shrink != 1.f)
                for (int64_t i = 0; i < K; i += LANES)
                    store(&room.mixed[r * K + i], load(&room.mixed[r * K + i]) * shrink);
        }
        for (int64_t from = 0; from < K; from += PANEL) {
            const int64_t columns = K - from < PANEL ? K - from : PANEL;
            pack_values(room.value_panel.data(), value_rows, from, columns);
            values_product(room.chances.data(), room.value_panel.data(), &room.mixed[from], rows, columns, K);
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        X* to = out + (r / shared * s.heads + g * shared + r % shared) * K;
        const float inverse = room.total[r] > 0 ? 1.f / room.total[r] : 0.f;  // a row without tokens gets zeros
        for (int64_t i = 0; i < K; i += LANES) store(to + i, load(&room.mixed[r * K + i]) * inverse);
    }
}

// One new token a sequence.
template <class X>
void decode(X* out, const X* q, const X* keys, const X* values, const int32_t* tables, const int32_t* lengths,
            int64_t rows, const Shape& s, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Room<X> room(s.heads / s.groups, s.width);
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < rows * s.groups; job++) {
            const int64_t b = job / s.groups;
            attend(out + b * s.heads * s.width, q + b * s.q_stride, keys, values, tables + b * s.table_width,
                   lengths[b] - int64_t(1), lengths[b] ? 1 : 0, job % s.groups, s, room);
            if (!lengths[b]) std::memset((void*)(out + b * s.heads * s.width), 0, s.heads * s.width * sizeof(X));
        }
    }
}

// Several tokens of one sequence in a row, the last `count` of its `start + count`.
template <class X>
void prefill(X* out, const X* q, const X* keys, const X* values, const int32_t* table, int64_t start, int64_t count,
             const Shape& s, int threads) {
    const int64_t shared = s.heads / s.groups;
    const int64_t block = shared >= ROWS ? 1 : ROWS / shared, blocks = (count + block - 1) / block;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Room<X> room((count < block ? count : block) * shared, s.width);
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < blocks * s.groups; job++) {
            const int64_t q0 = job / s.groups * block, queries = count - q0 < block ? count - q0 : block;
            attend(out + q0 * s.heads * s.width, q + q0 * s.q_stride, keys, values, table, start + q0, queries,
                   job % s.groups, s, room);
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
