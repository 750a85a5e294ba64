// Backward: both convolutions of a stage over the places that have a gradient, and the first stage's weights.
#pragma once

#include "common.h"

// Gradient of the pooled output [N][Hp(+2)][Wp(+2)][K] (padded) or [N][K][Hp][Wp], the places of the maxima, and the input
// -> gradient of the weights [K][9][C], and of the input [N][H+2][W+2][C] (its border is rubbish).
// sums: [threads][K][9][C], zeroed here, one for each of so many threads.
constexpr int CV = 2;           // vectors of input channels at a time: 9 taps x 2 = 18 registers of sums
constexpr int CB = CV * V;

// Places that have a gradient, in two arrays; `close` makes the last pair whole with a gradient of zero.
template <class A>
struct Places {
    int32_t *offset;
    typename A::Stored *gradient;
    explicit Places(long size) : offset(new int32_t[size]), gradient(new typename A::Stored[size]) {}
    ~Places() { delete[] offset; delete[] gradient; }
    inline void set(long at, int32_t place, typename A::Stored value) { offset[at] = place; gradient[at] = value; }
    inline void close(long begin, int length) {
        if (length % A::STEP) set(begin + length, offset[begin + length - 1], 0);
    }
};

template <class A>
static int stage_backward(const float *gradient, const uint8_t *index, const typename A::Stored *in, const typename A::Stored *w,
                          float *gradient_w, float *gradient_in, float *sums, long N, long H, long W, long C, long K, int padded,
                          float scale, int threads) {
    if (C % CB) return 1;
    const long Hp = (H + 1) / 2, Wp = (W + 1) / 2, row = (W + 2) * C, windows = Hp * Wp;
    const long list = K + 1, run = windows + 1;   // room of a list by place, by channel
    int used = 1;
#pragma omp parallel num_threads(threads)
    {
        const int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *mine = sums + (long)me * K * 9 * C;
        std::memset(mine, 0, sizeof(float) * K * 9 * C);
        Places<A> by_channel(K * run);            // per channel its places in this image
        Places<A> by_place((DEAD + 1) * list);    // per place of a window its channels; the last list is never read
        int32_t *counts = new int32_t[K];
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            std::memset(counts, 0, sizeof(int32_t) * K);
            float *back = gradient_in + n * (H + 2) * row;
            std::memset(back, 0, sizeof(float) * (H + 2) * row);
            for (long py = 0; py < Hp; py++)
                for (long px = 0; px < Wp; px++) {
                    const uint8_t *at = index + ((n * Hp + py) * Wp + px) * K;
                    const float *g = padded ? gradient + ((n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1) * K
                                            : gradient + n * K * windows + py * Wp + px;
                    const long step = padded ? 1 : windows;
                    const long corner = (2 * py) * row + (2 * px) * C;   // of the input, at the first tap
                    const int32_t offsets[DEAD + 1] = {(int32_t)corner, (int32_t)(corner + C), (int32_t)(corner + row),
                                                       (int32_t)(corner + row + C), 0};
                    int lengths[DEAD + 1] = {};
                    for (long k = 0; k < K; k++) {  // no branch: which way it goes is a coin's throw
                        const int q = at[k];
                        const typename A::Stored value = A::rounded(g[k * step] * scale);
                        by_place.set(q * list + lengths[q]++, (int32_t)(k * 9 * C), value);
                        by_channel.set(k * run + counts[k], offsets[q], value);
                        counts[k] += q != DEAD;
                    }
                    for (int q = 0; q < DEAD; q++) {
                        const int length = lengths[q];
                        if (!length) continue;
                        by_place.close(q * list, length);
                        for (long c = 0; c < C; c += CB) {
                            vf sum[9][CV];
#pragma GCC unroll 9
                            for (int t = 0; t < 9; t++) sum[t][0] = sum[t][1] = vf{};
                            A::taps(by_place.offset + q * list, by_place.gradient + q * list, length, w + c, 3 * C, C, sum);
                            float *to = back + offsets[q] + c;
#pragma GCC unroll 9
                            for (int t = 0; t < 9; t++) {
                                A::natural(sum[t]);
#pragma GCC unroll 2
                                for (int v = 0; v < CV; v++) {
                                    float *cell = to + (t / 3) * row + (t % 3) * C + v * V;
                                    store(cell, load(cell) + sum[t][v]);
                                }
                            }
                        }
                    }
                }
            const typename A::Stored *image = in + n * (H + 2) * row;
            for (long k = 0; k < K; k++) {
                const int length = counts[k];
                if (!length) continue;
                by_channel.close(k * run, length);
                for (long c = 0; c < C; c += CB) {
                    float *to = mine + k * 9 * C + c;
                    vf sum[9][CV];
#pragma GCC unroll 9
                    for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                        for (int v = 0; v < CV; v++) sum[t][v] = load(to + t * C + v * V);
                    A::taps(by_channel.offset + k * run, by_channel.gradient + k * run, length, image + c, row, C, sum);
#pragma GCC unroll 9
                    for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                        for (int v = 0; v < CV; v++) store(to + t * C + v * V, sum[t][v]);
                }
            }
        }
        delete[] counts;
        // implicit barrier of the loop is behind us: every thread's sums are there
#pragma omp for schedule(static)
        for (long i = 0; i < K * 9 * C; i += CB)
            for (long c = 0; c < CB; c++) {
                float total = 0;
                for (int t = 0; t < used; t++) total += sums[(long)t * K * 9 * C + i + A::place(c)];
                gradient_w[i + c] = total;
            }
    }
    return 0;
}

template <int KV>
static void first_backward(const float *gradient, const uint8_t *index, const float *images, float *gradient_w, float *sums,
                           long N, long H, long W, float scale, int threads) {
    const long K = KV * V, Hp = (H + 1) / 2, Wp = (W + 1) / 2, row = 2 * Wp + 2;
    int used = 1;
#pragma omp parallel num_threads(threads)
    {
        const int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *mine = sums + (long)me * 9 * K;
        std::memset(mine, 0, sizeof(float) * 9 * K);
        float *image = new float[(2 * Hp + 2) * row]();
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            for (long y = 0; y < H; y++) std::memcpy(image + (y + 1) * row + 1, images + (n * H + y) * W, 4 * W);
            for (int v = 0; v < KV; v++) {
                vf sum[9];
#pragma GCC unroll 9
                for (int t = 0; t < 9; t++) sum[t] = load(mine + t * K + v * V);
                for (long py = 0; py < Hp; py++)
                    for (long px = 0; px < Wp; px++) {
                        const long window = ((n * Hp + py) * Wp + px) * K + v * V;
                        vb bytes; std::memcpy(&bytes, index + window, V);
                        const vi where = __builtin_convertvector(bytes, vi);
                        const vf g = load(gradient + ((n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1) * K + v * V) * scale;
                        const float *a = image + 2 * py * row + 2 * px;
#pragma GCC unroll 4
                        for (int q = 0; q < 4; q++) {
                            const vf part = (vi)(where == (q - vi{})) ? g : vf{};
#pragma GCC unroll 9
                            for (int t = 0; t < 9; t++) sum[t] += a[(q / 2 + t / 3) * row + q % 2 + t % 3] * part;
                        }
                    }
#pragma GCC unroll 9
                for (int t = 0; t < 9; t++) store(mine + t * K + v * V, sum[t]);
            }
        }
        delete[] image;
#pragma omp for schedule(static)
        for (long k = 0; k < K; k++)
            for (int t = 0; t < 9; t++) {
                float total = 0;
                for (int each = 0; each < used; each++) total += sums[(long)each * 9 * K + t * K + k];
                gradient_w[k * 9 + t] = total;
            }
    }
}

// gradient [N][Hp+2][Wp+2][K], images [N][H][W] -> gradient_w [K][9]; sums: [threads][9][K].
static int first_backward_of(const float *gradient, const uint8_t *index, const float *images, float *gradient_w, float *sums,
                             long N, long H, long W, long K, float scale, int threads) {
    switch (K / V) {
        case 2: first_backward<2>(gradient, index, images, gradient_w, sums, N, H, W, scale, threads); return 0;
        case 4: first_backward<4>(gradient, index, images, gradient_w, sums, N, H, W, scale, threads); return 0;
    }
    return 1;
}
