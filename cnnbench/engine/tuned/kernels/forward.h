// Forward: convolution, pooling, ReLU and dropout in one pass.
#pragma once

#include "common.h"

// PX neighbouring pixels of one row, NV vectors of output channels, all inputs of the nine taps. Rows and channels in words.
template <class A, int PX, int NV>
static inline __attribute__((always_inline)) void block(const typename A::Word *in, long row, long C, const typename A::Word *w,
                                                        long K, float *out) {
    vf sum[PX][NV];
    for (int p = 0; p < PX; p++) for (int v = 0; v < NV; v++) sum[p][v] = vf{};
    for (int ky = 0; ky < 3; ky++) {
        for (int kx = 0; kx < 3; kx++) {
            const typename A::Word *a = in + ky * row + kx * C, *b = w + (ky * 3 + kx) * C * K;
            for (long c = 0; c < C; c++, b += K) {
                typename A::Words weights[NV];
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) weights[v] = A::words(b + v * V);
#pragma GCC unroll 8
                for (int p = 0; p < PX; p++) {
                    const typename A::Words x = A::spread(a[p * C + c]);
#pragma GCC unroll 8
                    for (int v = 0; v < NV; v++) sum[p][v] = A::add(sum[p][v], x, weights[v]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < PX; p++)
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) store(out + p * NV * V + v * V, sum[p][v]);
}

#if defined(__AVX512F__)
constexpr int NV = 4, PXS = 7;
#else
constexpr int NV = 2, PXS = 6;
#endif
constexpr int KB = NV * V;  // output channels of a block

template <class A>
static void conv_row(const typename A::Word *in, long row, long W, long C, const typename A::Word *w, long K, float *out) {
    long x = 0;
    for (; x + PXS <= W; x += PXS) block<A, PXS, NV>(in + x * C, row, C, w, K, out + x * KB);
    switch (W - x) {
        case 6: block<A, 6, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 5: block<A, 5, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 4: block<A, 4, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 3: block<A, 3, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 2: block<A, 2, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 1: block<A, 1, NV>(in + x * C, row, C, w, K, out + x * KB); break;
    }
}

// The first of equal maxima wins and NaN wins over all, as in torch.
static inline vf pooled(const float *const *at, int n, const int *code, vi &where) {
    vf best = load(at[0]);
    where = code[0] - vi{};
    for (int i = 1; i < n; i++) {
        vf x = load(at[i]);
        vi more = ~(vi)(x <= best);
        best = more ? x : best;
        where = more ? (code[i] - vi{}) : where;
    }
    return best;
}

template <class A>
static inline void finish(vf best, vi where, Random &random, const Dropout &drop, typename A::Stored *out, uint8_t *index) {
    vi alive = ~(vi)(best <= vf{}) & keeps(random, drop);  // NaN goes on, so that a loss shows it
    A::put(out, alive ? best * drop.scale : vf{});
    vb bytes = __builtin_convertvector(alive ? where : ((int)DEAD - vi{}), vb);
    std::memcpy(index, &bytes, V);
}

// Where a stage's output goes: out, index [N][Hp][Wp][K]. `out` has a border (padded = 1) of zeros that is never written, or is
// [N][K][Hp][Wp] (padded = 0), as torch flattens it.
template <class A>
struct Pooled {
    typename A::Stored *out;
    uint8_t *index;
    long H, W, K;
    int padded;
    Dropout drop;

    // Pool one row of windows of KB channels. sums: KB floats a place, `pitch` places from one row to the next.
    inline void row(const float *sums, long pitch, long n, long py, long kb, Random &random) const {
        const long Hp = (H + 1) / 2, Wp = (W + 1) / 2;
        const int rows = 2 * py + 1 < H ? 2 : 1;
        for (long px = 0; px < Wp; px++) {
            const int columns = 2 * px + 1 < W ? 2 : 1;
            for (int v = 0; v < NV; v++) {
                const float *at[4]; int code[4], count = 0;
                for (int r = 0; r < rows; r++)
                    for (int c = 0; c < columns; c++) {
                        at[count] = sums + (r * pitch + 2 * px + c) * KB + v * V;
                        code[count++] = 2 * r + c;
                    }
                vi where;
                vf best = pooled(at, count, code, where);
                const long k = kb + v * V;
                uint8_t *places = index + ((n * Hp + py) * Wp + px) * K + k;
                if (padded) {
                    const long pixel = (n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1;
                    finish<A>(best, where, random, drop, out + pixel * K + k, places);
                } else {
                    typename A::Stored lane[V];
                    finish<A>(best, where, random, drop, lane, places);
                    for (int i = 0; i < V; i++) out[((n * K + k + i) * Hp + py) * Wp + px] = lane[i];
                }
            }
        }
    }
};

// in [N][H+2][W+2][C], packed weights [9][C][K], of bfloat16 [9][C/2][K][2].
template <class A>
static void stage_forward(const typename A::Stored *given, const typename A::Stored *packed, long N, long channels,
                          uint64_t seed, const Pooled<A> &to) {
    const long H = to.H, W = to.W, K = to.K, C = channels / A::STEP, row = (W + 2) * C;
    const typename A::Word *in = (const typename A::Word *)given, *w = (const typename A::Word *)packed;
#pragma omp parallel
    {
        float *sums = new (std::align_val_t(64)) float[2 * W * KB];
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            Random random(seed, (uint64_t)n);
            const typename A::Word *image = in + n * (H + 2) * row;
            for (long kb = 0; kb < K; kb += KB)
                for (long py = 0; py < (H + 1) / 2; py++) {
                    const int rows = 2 * py + 1 < H ? 2 : 1;
                    for (int r = 0; r < rows; r++)
                        conv_row<A>(image + (2 * py + r) * row, row, W, C, w + kb, K, sums + r * W * KB);
                    to.row(sums, W, n, py, kb, random);
                }
        }
        operator delete[](sums, std::align_val_t(64));
    }
}

// The first stage: one input channel, weights [9][K] in registers. images [N][H][W] without a border.
template <class A, int KV>
static void first_forward(const float *images, const float *w, typename A::Stored *out, uint8_t *index, long N, long H, long W,
                          uint64_t seed, const Dropout &drop) {
    const long K = KV * V, Hp = (H + 1) / 2, Wp = (W + 1) / 2, row = 2 * Wp + 2;
#pragma omp parallel
    {
        float *image = new float[(2 * Hp + 2) * row]();
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            Random random(seed, (uint64_t)n);
            for (long y = 0; y < H; y++) std::memcpy(image + (y + 1) * row + 1, images + (n * H + y) * W, 4 * W);
            for (int v = 0; v < KV; v++) {
                vf weights[9];
                for (int t = 0; t < 9; t++) weights[t] = load(w + t * K + v * V);
                for (long py = 0; py < Hp; py++)
                    for (long px = 0; px < Wp; px++) {
                        const float *a = image + 2 * py * row + 2 * px;
                        const int rows = 2 * py + 1 < H ? 2 : 1, columns = 2 * px + 1 < W ? 2 : 1;
                        vf best = vf{}; vi where = vi{};
                        for (int r = 0; r < rows; r++)
                            for (int c = 0; c < columns; c++) {
                                vf sum = vf{};
#pragma GCC unroll 9
                                for (int t = 0; t < 9; t++) sum += a[(r + t / 3) * row + c + t % 3] * weights[t];
                                if (r + c == 0) { best = sum; continue; }
                                vi more = ~(vi)(sum <= best);
                                best = more ? sum : best;
                                where = more ? ((2 * r + c) - vi{}) : where;
                            }
                        finish<A>(best, where, random, drop, out + ((n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1) * K + v * V,
                               index + ((n * Hp + py) * Wp + px) * K + v * V);
                    }
            }
        }
        delete[] image;
    }
}

template <class A>
static int first_forward_of(const float *images, const float *w, typename A::Stored *out, uint8_t *index, long N, long H, long W,
                            long K, uint64_t seed, const Dropout &drop) {
    switch (K / V) {
        case 2: first_forward<A, 2>(images, w, out, index, N, H, W, seed, drop); return 0;
        case 4: first_forward<A, 4>(images, w, out, index, N, H, W, seed, drop); return 0;
    }
    return 1;
}
