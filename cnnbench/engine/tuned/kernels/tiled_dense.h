// A dense layer by tiles: operands laid out in whole tiles, padded with zeros, then products.
#pragma once

#include "amx.h"

#ifdef CNNBENCH_TILES

// Sizes in tiles. N images, F inputs (a multiple of 32), M outputs.
struct TiledDense {
    long N, F, M, images, inputs, outputs;  // the last three: N, F, M in blocks of 32, rounded up
    TiledDense(long N, long F, long M) : N(N), F(F), M(M), images((N + DEEP - 1) / DEEP), inputs(F / DEEP), outputs((M + DEEP - 1) / DEEP) {}
    // Room in bfloat16 values for weights, for what is laid out of inputs, of gradients; each twice.
    long of_weights() const { return outputs * DEEP * F; }
    long of_inputs() const { return images * DEEP * F; }
    long of_gradients() const { return images * DEEP * outputs * DEEP; }
};

static inline __m512i rounded_row(const float *from) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + TILE), _mm512_loadu_ps(from));
}
static inline __m512i half_pairs(__m512i one, __m512i two, int half) {
    const __m256i a = half ? _mm512_extracti64x4_epi64(one, 1) : _mm512_castsi512_si256(one);
    const __m256i b = half ? _mm512_extracti64x4_epi64(two, 1) : _mm512_castsi512_si256(two);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

// A block of 32 rows of 32 values, in registers, as tiles. `rows` as they are: two tiles [16][32].
static inline void as_rows(const __m512i *r, uint16_t *one, uint16_t *two) {
    for (long i = 0; i < TILE; i++) {
        _mm512_storeu_si512(one + i * DEEP, r[i]);
        _mm512_storeu_si512(two + i * DEEP, r[TILE + i]);
    }
}
// Pairs of rows: two tiles [16 pairs][16 columns][2].
static inline void as_pairs(const __m512i *r, uint16_t *one, uint16_t *two) {
    for (long i = 0; i < TILE; i++) {
        _mm512_storeu_si512(one + i * DEEP, half_pairs(r[2 * i], r[2 * i + 1], 0));
        _mm512_storeu_si512(two + i * DEEP, half_pairs(r[2 * i], r[2 * i + 1], 1));
    }
}
// Columns, in pairs of them: two tiles [16 pairs of columns][16 rows][2].
static inline void as_column_pairs(const __m512i *r, uint16_t *one, uint16_t *two) {
    __m512i t[TILE];
    for (int h = 0; h < 2; h++) {
        for (long i = 0; i < TILE; i++) t[i] = r[h * TILE + i];
        transpose(t);
        for (long i = 0; i < TILE; i++) _mm512_storeu_si512((h ? two : one) + i * DEEP, t[i]);
    }
}
// Columns: two tiles [16 columns][32 rows].
static inline void as_columns(const __m512i *r, uint16_t *one, uint16_t *two) {
    __m512i t[TILE];
    for (int h = 0; h < 2; h++) {
        for (long i = 0; i < TILE; i++) t[i] = half_pairs(r[2 * i], r[2 * i + 1], h);
        transpose(t);
        for (long i = 0; i < TILE; i++) _mm512_storeu_si512((h ? two : one) + i * DEEP, t[i]);
    }
}

// 32 x 32 sums of `count` products; a two tiles at a time with `a_next` values to the next two, b likewise.
static inline void tile_block(const uint16_t *a0, const uint16_t *a1, long a_next, const uint16_t *b0, const uint16_t *b1,
                              long b_next, long count) {
    TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
    for (long i = 0; i < count; i++, a0 += a_next, a1 += a_next, b0 += b_next, b1 += b_next)
        TILE_PRODUCTS(a0, a1, 2 * DEEP, b0, b1, 2 * DEEP);
}
static inline void tile_block_store(float *to, long values) {
    TILE_STORE(0, to, 4 * values); TILE_STORE(1, to + TILE, 4 * values);
    TILE_STORE(2, to + TILE * values, 4 * values); TILE_STORE(3, to + TILE * values + TILE, 4 * values);
}
static inline void tile_block_store(float *to, long values, long rows, long columns) {
    if (rows >= DEEP && columns >= DEEP) return tile_block_store(to, values);
    alignas(64) float sums[DEEP * DEEP];
    tile_block_store(sums, DEEP);
    for (long i = 0; i < std::min(rows, DEEP); i++)
        std::memcpy(to + i * values, sums + i * DEEP, sizeof(float) * std::min(columns, DEEP));
}

// x [N][F], w [M][F] in float32 -> out [N][M] = x w transposed. Left for `tiled_dense_backward`: w and x laid out once more,
// the former at `weights` + of_weights, the latter at `inputs` + of_inputs.
static int tiled_dense_forward(const uint16_t *x, const float *w, uint16_t *out, uint16_t *weights, uint16_t *laid, long N, long F,
                               long M) {
    if (F % DEEP) return 1;
    const TiledDense by(N, F, M);
    uint16_t *weights_back = weights + by.of_weights(), *laid_back = laid + by.of_inputs();
#pragma omp parallel
    {
        const Tiles whole;
#pragma omp for schedule(static) nowait
        for (long m = 0; m < by.outputs; m++)
            for (long f = 0; f < by.inputs; f++) {
                __m512i r[DEEP];
                for (long i = 0; i < DEEP; i++) {
                    const long at = m * DEEP + i;
                    r[i] = at < M ? rounded_row(w + at * F + f * DEEP) : _mm512_setzero_si512();
                }
                uint16_t *forward = weights + (m * by.inputs + f) * 2 * WHOLE, *back = weights_back + (f * by.outputs + m) * 2 * WHOLE;
                as_column_pairs(r, forward, forward + WHOLE);
                as_pairs(r, back, back + WHOLE);
            }
#pragma omp for schedule(static)
        for (long n = 0; n < by.images; n++)
            for (long f = 0; f < by.inputs; f++) {
                __m512i r[DEEP];
                for (long i = 0; i < DEEP; i++) {
                    const long at = n * DEEP + i;
                    r[i] = at < N ? _mm512_loadu_si512(x + at * F + f * DEEP) : _mm512_setzero_si512();
                }
                uint16_t *forward = laid + (n * by.inputs + f) * 2 * WHOLE, *back = laid_back + (f * by.images + n) * 2 * WHOLE;
                as_rows(r, forward, forward + WHOLE);
                as_pairs(r, back, back + WHOLE);
            }
#pragma omp for schedule(static) collapse(2)
        for (long m = 0; m < by.outputs; m++)
            for (long n = 0; n < by.images; n++) {
                const uint16_t *a = laid + n * by.inputs * 2 * WHOLE, *b = weights + m * by.inputs * 2 * WHOLE;
                tile_block(a, a + WHOLE, 2 * WHOLE, b, b + WHOLE, 2 * WHOLE, by.inputs);
                alignas(64) float sums[DEEP * DEEP];
                tile_block_store(sums, DEEP);
                const uint32_t all = M - m * DEEP >= DEEP ? ~0u : (1u << (M - m * DEEP)) - 1;
                for (long i = 0; i < std::min(DEEP, N - n * DEEP); i++)
                    _mm512_mask_storeu_epi16(out + (n * DEEP + i) * M + m * DEEP, all, rounded_row(sums + i * DEEP));
            }
    }
    return 0;
}

// gradient [N][M] of the last forward pass -> gradient_w [M][F], and of the input [N][F] where `back` is wanted, both float32.
// room: of_gradients values, twice.
static int tiled_dense_backward(const uint16_t *gradient, const uint16_t *weights, const uint16_t *laid, uint16_t *room,
                                float *gradient_w, float *back, long N, long F, long M) {
    if (F % DEEP) return 1;
    const TiledDense by(N, F, M);
    const uint16_t *weights_back = weights + by.of_weights(), *laid_back = laid + by.of_inputs();
    uint16_t *turned = room + by.of_gradients();
#pragma omp parallel
    {
        const Tiles whole;
#pragma omp for schedule(static) collapse(2)
        for (long m = 0; m < by.outputs; m++)
            for (long n = 0; n < by.images; n++) {
                const uint32_t all = M - m * DEEP >= DEEP ? ~0u : (1u << (M - m * DEEP)) - 1;
                __m512i r[DEEP];
                for (long i = 0; i < DEEP; i++) {
                    const long at = n * DEEP + i;
                    r[i] = at < N ? _mm512_maskz_loadu_epi16(all, gradient + at * M + m * DEEP) : _mm512_setzero_si512();
                }
                uint16_t *rows = room + (n * by.outputs + m) * 2 * WHOLE, *columns = turned + (m * by.images + n) * 2 * WHOLE;
                as_rows(r, rows, rows + WHOLE);
                as_columns(r, columns, columns + WHOLE);
            }
#pragma omp for schedule(static) collapse(2) nowait
        for (long f = 0; f < by.inputs; f++)
            for (long n = 0; n < by.images; n++) {
                if (!back) continue;
                const uint16_t *a = room + n * by.outputs * 2 * WHOLE, *b = weights_back + f * by.outputs * 2 * WHOLE;
                tile_block(a, a + WHOLE, 2 * WHOLE, b, b + WHOLE, 2 * WHOLE, by.outputs);
                tile_block_store(back + n * DEEP * F + f * DEEP, F, N - n * DEEP, DEEP);
            }
#pragma omp for schedule(static) collapse(2)
        for (long m = 0; m < by.outputs; m++)
            for (long f = 0; f < by.inputs; f++) {
                const uint16_t *a = turned + m * by.images * 2 * WHOLE, *b = laid_back + f * by.images * 2 * WHOLE;
                tile_block(a, a + WHOLE, 2 * WHOLE, b, b + WHOLE, 2 * WHOLE, by.images);
                tile_block_store(gradient_w + m * DEEP * F + f * DEEP, F, M - m * DEEP, DEEP);
            }
    }
    return 0;
}
#endif
