// A stage by tiles: convolutions as sums of nine matrix products.
//
// Dense, zeros and all: a tile product is so much faster than vectors that leaving zeros out does not pay. A convolution is a
// sum over nine taps of products of 16 neighbouring places, counted through the border at the end of each row (the sums at
// border places are thrown away), with the weights of one tap. Tiles at the end of a range overlap the ones before.
#pragma once

#include "amx.h"
#include "forward.h"

#ifdef CNNBENCH_TILES

// Weights [K][9][C] as the two convolutions take them, in whole tiles [16 pairs][16][2]: for the forward pass
// [9][C / 32][K / 16] of pairs of inputs, for the backward pass [9, the last tap first][K / 32][C / 16] of pairs of outputs.
static void pack_tiles(const uint16_t *w, uint16_t *forward, uint16_t *backward, long C, long K) {
    const long ins = C / DEEP, outs = K / TILE, back_ins = K / DEEP, back_outs = C / TILE;
#pragma omp parallel for schedule(static)
    for (long tap = 0; tap < 9; tap++) {
        for (long c = 0; c < ins; c++)
            for (long k = 0; k < outs; k++) {
                __m512i r[TILE];
                for (long i = 0; i < TILE; i++) r[i] = _mm512_loadu_si512(w + ((k * TILE + i) * 9 + tap) * C + c * DEEP);
                transpose(r);
                uint16_t *to = forward + ((tap * ins + c) * outs + k) * WHOLE;
                for (long i = 0; i < TILE; i++) _mm512_storeu_si512(to + i * DEEP, r[i]);
            }
        for (long k = 0; k < back_ins; k++)
            for (long c = 0; c < back_outs; c++) {
                uint16_t *to = backward + (((8 - tap) * back_ins + k) * back_outs + c) * WHOLE;
                for (long i = 0; i < TILE; i++) {
                    const uint16_t *from = w + ((k * DEEP + 2 * i) * 9 + tap) * C + c * TILE;
                    _mm512_storeu_si512(to + i * DEEP, pairs(from, from + 9 * C));
                }
            }
    }
}

// Two times 16 places and 32 outputs of a convolution of C inputs: in at the first tap of the first place, `row` values from
// one row of places to the next; w at the first of the two tiles of outputs, of `outs`.
static inline void tile_convolution(const uint16_t *in0, const uint16_t *in1, long C, long row, const uint16_t *w, long outs,
                                    float *out0, float *out1, long out_values) {
    TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
    for (long ky = 0; ky < 3; ky++)
        for (long kx = 0; kx < 3; kx++)
            for (long c = 0; c < C; c += DEEP, w += outs * WHOLE) {
                const long tap = ky * row + kx * C + c;
                TILE_PRODUCTS(in0 + tap, in1 + tap, 2 * C, w, w + WHOLE, 2 * DEEP);
            }
    TILE_STORE(0, out0, 4 * out_values); TILE_STORE(1, out0 + TILE, 4 * out_values);
    TILE_STORE(2, out1, 4 * out_values); TILE_STORE(3, out1 + TILE, 4 * out_values);
}

static inline bool tiles_know(long H, long W, long C, long K) {
    return H >= 2 && W >= 7 && C % DEEP == 0 && K % KB == 0;  // a pooled row has 16 places
}

// As stage_forward, with the weights of pack_tiles. The masks are the same.
static int tile_forward(const uint16_t *in, const uint16_t *w, long N, long C, uint64_t seed, const Pooled<Bfloat16> &to) {
    const long H = to.H, W = to.W, K = to.K, Hp = (H + 1) / 2, width = W + 2, row = width * C, outs = K / TILE;
    if (!tiles_know(H, W, C, K)) return 1;
    const long tiles = (2 * width - 2 + TILE - 1) / TILE, group = tiles % 2 ? 2 : 1;  // of a pooled row; rows at a time
#pragma omp parallel
    {
        const Tiles whole;
        const Scratch<float> sums(group * tiles * TILE * KB);
        // Tile t of pooled row py begins at this place; the row's sums begin at that of t = 0.
        const auto begin = [=](long py, long t) {
            const long first = 2 * py * width, end = std::min(first + 2 * width, H * width) - 2;
            return std::min(first + t * TILE, end - TILE);
        };
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            Random random(seed, (uint64_t)n);
            const uint16_t *image = in + n * (H + 2) * row;
            for (long kb = 0; kb < K; kb += KB)
                for (long top = 0; top < Hp; top += group) {
                    const long rows = std::min(group, Hp - top), all_tiles = rows * tiles;
                    for (long i = 0; i < all_tiles; i += 2) {
                        const long j = i + 1 < all_tiles ? i + 1 : i;
                        const long p = begin(top + i / tiles, i % tiles), q = begin(top + j / tiles, j % tiles);
                        float *one = sums.at + ((i / tiles) * tiles * TILE + p - begin(top + i / tiles, 0)) * KB;
                        float *two = sums.at + ((j / tiles) * tiles * TILE + q - begin(top + j / tiles, 0)) * KB;
                        for (long k = 0; k < KB; k += DEEP)
                            tile_convolution(image + p * C, image + q * C, C, row, w + (kb + k) / TILE * WHOLE, outs, one + k, two + k, KB);
                    }
                    for (long r = 0; r < rows; r++) {
                        const long skipped = 2 * (top + r) * width - begin(top + r, 0);
                        to.row(sums.at + (r * tiles * TILE + skipped) * KB, width, n, top + r, kb, random);
                    }
                }
        }
    }
    return 0;
}

// Backward, image by image in groups: the gradient of the convolution's result is laid out twice, as the two products take it.
struct TileBackward {
    long H, W, C, K, width, pitch, sum_places, cells, room;

    TileBackward(long H, long W, long C, long K) : H(H), W(W), C(C), K(K) {
        width = W + 2;
        pitch = rounded_up(W + 1, 2);               // places of a row in the products for the weights: one border serves two rows
        sum_places = rounded_up(H * pitch, DEEP);   // that they sum over
        cells = rounded_up(sum_places + 2 * pitch + 2, DEEP);  // of the input that they read
        room = (H + 2) * width * K;
    }

    // Gradient of the pooled output of one image -> of the convolution's result: dense [H+2][W+2][K], its border zero, and
    // by_pairs [sum_places / 32][K / 16][16 pairs of places][16][2].
    inline void spread(const float *gradient, long step, long pixel, long line, const uint8_t *index, float scale,
                       uint16_t *dense, uint16_t *by_pairs) const {
        const long Hp = (H + 1) / 2, Wp = (W + 1) / 2;
        for (long py = 0; py < Hp; py++)
            for (long px = 0; px < Wp; px++)
                for (long k = 0; k < K; k += TILE) {
                    const float *g = gradient + py * line + px * pixel + k * step;
                    vf value;
                    if (step == 1) value = load(g);
                    else for (int i = 0; i < TILE; i++) value[i] = g[i * step];
                    const __m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)(value * scale)));
                    const __m512i where =
                        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(index + (py * Wp + px) * K + k)));
                    for (int r = 0; r < 2; r++) {
                        const long y = 2 * py + r;
                        if (y >= H) break;
                        const __m512i left = _mm512_maskz_mov_epi32(_mm512_cmpeq_epi32_mask(where, _mm512_set1_epi32(2 * r)), bits);
                        const __m512i right =
                            _mm512_maskz_mov_epi32(_mm512_cmpeq_epi32_mask(where, _mm512_set1_epi32(2 * r + 1)), bits);
                        uint16_t *cell = dense + ((y + 1) * width + 2 * px + 1) * K + k;
                        _mm256_storeu_si256((__m256i *)cell, _mm512_cvtepi32_epi16(left));
                        _mm256_storeu_si256((__m256i *)(cell + K), _mm512_cvtepi32_epi16(right));
                        const long pair = (y * pitch) / 2 + px;
                        _mm512_storeu_si512(by_pairs + ((pair / TILE) * (K / TILE) + k / TILE) * WHOLE + pair % TILE * DEEP,
                                            _mm512_or_si512(left, _mm512_slli_epi32(right, 16)));
                    }
                }
    }

    // Places of the input in rows of `pitch`, -1 behind the last.
    void find(int32_t *places) const {
        for (long cell = 0; cell < cells; cell++) {
            const long y = cell / pitch, x = cell % pitch;
            places[cell] = y < H + 2 ? (int32_t)((y * width + x) * C) : -1;
        }
    }

    // One image of the input -> [C][cells].
    inline void turn(const uint16_t *image, const int32_t *places, const uint16_t *zeros, uint16_t *turned) const {
        for (long cell = 0; cell < cells; cell += DEEP)
            for (long c = 0; c < C; c += TILE) {
                __m512i r[TILE];
                for (long i = 0; i < TILE; i++) {
                    const int32_t one = places[cell + 2 * i], two = places[cell + 2 * i + 1];
                    r[i] = pairs(one < 0 ? zeros : image + one + c, two < 0 ? zeros : image + two + c);
                }
                transpose(r);
                for (long i = 0; i < TILE; i++) _mm512_storeu_si512(turned + (c + i) * cells + cell, r[i]);
            }
    }

    // sums [9][C][K] += what `count` images give. aside: room of 2 x 16 x sum_places values an image, for the inputs of one tap:
    // a tile that begins anywhere in a cache line is loaded several times as slowly as one that begins with it.
    inline void weights(const uint16_t *turned, const uint16_t *by_pairs, long count, float *sums, uint16_t *aside) const {
        const long outs = K / TILE, deep = sum_places / DEEP;
        for (long tap = 0; tap < 9; tap++)
            for (long c = 0; c < C; c += 2 * TILE) {
                uint16_t *a = aside;
                for (long n = 0; n < count; n++)
                    for (long p = 0; p < sum_places; p += DEEP)
                        for (long i = 0; i < 2 * TILE; i++, a += DEEP) {
                            const uint16_t *from = turned + (n * C + c + i) * cells + tap / 3 * pitch + tap % 3 + p;
                            _mm512_store_si512(a, _mm512_loadu_si512(from));
                        }
                for (long k = 0; k < outs; k += 2) {
                    float *to = sums + (tap * C + c) * K + k * TILE;
                    TILE_LOAD(0, to, 4 * K); TILE_LOAD(1, to + TILE, 4 * K);
                    TILE_LOAD(2, to + TILE * K, 4 * K); TILE_LOAD(3, to + TILE * K + TILE, 4 * K);
                    const uint16_t *in = aside, *out = by_pairs + k * WHOLE;
                    for (long i = 0; i < count * deep; i++, in += 2 * WHOLE, out += outs * WHOLE)
                        TILE_PRODUCTS(in, in + WHOLE, 2 * DEEP, out, out + WHOLE, 2 * DEEP);
                    TILE_STORE(0, to, 4 * K); TILE_STORE(1, to + TILE, 4 * K);
                    TILE_STORE(2, to + TILE * K, 4 * K); TILE_STORE(3, to + TILE * K + TILE, 4 * K);
                }
            }
    }

    // The gradient of one image of the input, [H+2][W+2][C] (its border is rubbish).
    inline void inputs(const uint16_t *dense, const uint16_t *w, float *back) const {
        const long last = H * width - 2 - TILE, corner = (width + 1) * C;
        for (long i = 0; i < last + TILE; i += 2 * TILE) {
            const long p = std::min(i, last), q = std::min(i + TILE, last);
            for (long c = 0; c < C; c += 2 * TILE)
                tile_convolution(dense + p * K, dense + q * K, K, width * K, w + c / TILE * WHOLE, C / TILE,
                                 back + corner + p * C + c, back + corner + q * C + c, C);
        }
    }
};

// As stage_backward, with the weights of pack_tiles; sums: [threads][9][C][K].
static int tile_backward(const float *gradient, const uint8_t *index, const uint16_t *in, const uint16_t *w, float *gradient_w,
                         float *gradient_in, float *sums, long N, long H, long W, long C, long K, int padded, float scale,
                         int threads) {
    if (!tiles_know(H, W, C, K)) return 1;
    const long Hp = (H + 1) / 2, Wp = (W + 1) / 2, input = (H + 2) * (W + 2) * C;
    const TileBackward by(H, W, C, K);
    // Images whose products for the weights are summed in registers: so many that what is loaded stays in a cache.
    const long group = std::max(1L, 65536 / (2 * by.sum_places * K));
    int used = 1;
#pragma omp parallel num_threads(threads)
    {
        const int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        const Tiles whole;
        float *mine = sums + (long)me * 9 * C * K;
        std::memset(mine, 0, sizeof(float) * 9 * C * K);
        const Scratch<uint16_t> dense(by.room), zeros(TILE);
        const Scratch<uint16_t> by_pairs(group * by.sum_places * K), turned(group * by.cells * C), aside(group * by.sum_places * 2 * TILE);
        const Scratch<int32_t> places(by.cells);
        by.find(places.at);
#pragma omp for schedule(static)
        for (long first = 0; first < N; first += group) {
            const long count = std::min(group, N - first);
            for (long i = 0; i < count; i++) {
                const long n = first + i;
                const float *g = padded ? gradient + ((n * (Hp + 2) + 1) * (Wp + 2) + 1) * K : gradient + n * K * Hp * Wp;
                const long step = padded ? 1 : Hp * Wp, pixel = padded ? K : 1, line = padded ? (Wp + 2) * K : Wp;
                by.spread(g, step, pixel, line, index + n * Hp * Wp * K, scale, dense.at, by_pairs.at + i * by.sum_places * K);
                by.inputs(dense.at, w, gradient_in + n * input);
                by.turn(in + n * input, places.at, zeros.at, turned.at + i * by.cells * C);
            }
            by.weights(turned.at, by_pairs.at, count, mine, aside.at);
        }
        // implicit barrier of the loop is behind us: every thread's sums are there
#pragma omp for schedule(static) collapse(2)
        for (long k = 0; k < K; k += TILE)
            for (long tap = 0; tap < 9; tap++)
                for (long c = 0; c < C; c += TILE) {
                    __m512 r[TILE];
                    for (long i = 0; i < TILE; i++) {
                        const float *from = sums + (tap * C + c + i) * K + k;
                        r[i] = _mm512_loadu_ps(from);
                        for (int t = 1; t < used; t++) r[i] = _mm512_add_ps(r[i], _mm512_loadu_ps(from + (long)t * 9 * C * K));
                    }
                    transpose((__m512i *)r);
                    for (long i = 0; i < TILE; i++) _mm512_storeu_ps(gradient_w + ((k + i) * 9 + tap) * C + c, r[i]);
                }
    }
    return 0;
}
#endif
