// The tuned division's kernels for CPUs: one pass where plain PyTorch makes five, and no work on zeros.
//
// A stage is a 3x3 convolution without bias, ReLU, 2x2 max pooling (ceil mode) and dropout. Forward, it never writes the
// convolution's result: two rows of it live in a scratch that fits the first-level cache, are pooled, rectified and thinned
// there, and only the pooled quarter leaves, with the place of each maximum. Backward, the gradient of the convolution's
// result is therefore zero but for one place in four, and of these only where the maximum was above zero and was not
// dropped. Both backward convolutions walk over those places alone. Same sums, zeros left out.
//
// Layouts: activations NHWC with a border of zeros one wide; conv weights [out][ky][kx][in] (torch's channels_last) as
// parameters, [ky][kx][in][out] as packed for the forward pass. Numbers are float32. Vectors are those of the compiler,
// so the same source serves AVX-512, AVX2 and others.

#include <cstdint>
#include <cstring>
#include <cmath>
#include <new>
#include <omp.h>

#if defined(__AVX512F__)
constexpr int V = 16;
#else
constexpr int V = 8;
#endif
typedef float vf __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef uint32_t vu __attribute__((vector_size(4 * V)));
typedef uint8_t vb __attribute__((vector_size(V)));

static inline vf load(const float *from) { vf r; std::memcpy(&r, from, sizeof r); return r; }
static inline void store(float *to, vf x) { std::memcpy(to, &x, sizeof x); }
static inline vf all(float x) { return x - vf{}; }

constexpr uint8_t DEAD = 4;  // no gradient: at or below zero, or dropped

// ---- random numbers: xoshiro128+ in every lane, seeded by (seed, step, layer, image), so threads change nothing ----

static inline uint64_t mix(uint64_t &s) {
    uint64_t z = (s += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

struct Random {
    vu s0, s1, s2, s3;
    Random(uint64_t seed, uint64_t image) {
        uint64_t state = seed + 0xd1342543de82ef95ULL * (image + 1);
        state = mix(state);
        uint32_t words[4 * V];
        for (int i = 0; i < 2 * V; i++) {
            uint64_t z = mix(state);
            words[2 * i] = (uint32_t)z;
            words[2 * i + 1] = (uint32_t)(z >> 32);
        }
        std::memcpy(&s0, words, 4 * V); std::memcpy(&s1, words + V, 4 * V);
        std::memcpy(&s2, words + 2 * V, 4 * V); std::memcpy(&s3, words + 3 * V, 4 * V);
    }
    inline vu next() {
        vu result = s0 + s3, t = s1 << 9;
        s2 ^= s0; s3 ^= s1; s1 ^= s2; s0 ^= s3; s2 ^= t;
        s3 = (s3 << 11) | (s3 >> 21);
        return result;
    }
};

// Kept where a 32-bit random number is below the threshold, 2^32 x keep: exact to 2^-32. At 0 everything is kept.
struct Dropout { uint32_t threshold; float scale; };
static inline vi keeps(Random &random, const Dropout &drop) {
    if (!drop.threshold) return ~vi{};
    return (vi)(random.next() < (drop.threshold - vu{}));
}

// ---- forward ----

// PX neighbouring pixels of one row, NV vectors of output channels, all inputs of the nine taps.
template <int PX, int NV>
static inline __attribute__((always_inline)) void block(const float *in, long row, long C, const float *w, long K, float *out) {
    vf sum[PX][NV];
    for (int p = 0; p < PX; p++) for (int v = 0; v < NV; v++) sum[p][v] = vf{};
    for (int ky = 0; ky < 3; ky++) {
        for (int kx = 0; kx < 3; kx++) {
            const float *a = in + ky * row + kx * C, *b = w + (ky * 3 + kx) * C * K;
            for (long c = 0; c < C; c++, b += K) {
                vf weights[NV];
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) weights[v] = load(b + v * V);
#pragma GCC unroll 8
                for (int p = 0; p < PX; p++) {
                    vf x = all(a[p * C + c]);
#pragma GCC unroll 8
                    for (int v = 0; v < NV; v++) sum[p][v] += x * weights[v];
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

static void conv_row(const float *in, long row, long W, long C, const float *w, long K, float *out) {
    long x = 0;
    for (; x + PXS <= W; x += PXS) block<PXS, NV>(in + x * C, row, C, w, K, out + x * KB);
    switch (W - x) {
        case 6: block<6, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 5: block<5, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 4: block<4, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 3: block<3, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 2: block<2, NV>(in + x * C, row, C, w, K, out + x * KB); break;
        case 1: block<1, NV>(in + x * C, row, C, w, K, out + x * KB); break;
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

static inline void finish(vf best, vi where, Random &random, const Dropout &drop, float *out, uint8_t *index) {
    vi alive = ~(vi)(best <= vf{}) & keeps(random, drop);  // NaN goes on, so that a loss shows it
    store(out, alive ? best * drop.scale : vf{});
    vb bytes = __builtin_convertvector(alive ? where : ((int)DEAD - vi{}), vb);
    std::memcpy(index, &bytes, V);
}

// in [N][H+2][W+2][C], packed weights [9][C][K] -> out, index [N][Hp][Wp][K]. `out` has a border (padded = 1) of zeros
// that is never written, or is [N][K][Hp][Wp] (padded = 0), as torch flattens it.
extern "C" void cnnbench_stage_forward(const float *in, const float *w, float *out, uint8_t *index, long N, long H, long W,
                                       long C, long K, int padded, uint64_t seed, uint32_t threshold, float scale) {
    const long Hp = (H + 1) / 2, Wp = (W + 1) / 2, row = (W + 2) * C;
    const Dropout drop{threshold, scale};
#pragma omp parallel
    {
        float *scratch = new (std::align_val_t(64)) float[2 * W * KB];
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            Random random(seed, (uint64_t)n);
            const float *image = in + n * (H + 2) * row;
            for (long kb = 0; kb < K; kb += KB)
                for (long py = 0; py < Hp; py++) {
                    const int rows = 2 * py + 1 < H ? 2 : 1;
                    for (int r = 0; r < rows; r++)
                        conv_row(image + (2 * py + r) * row, row, W, C, w + kb, K, scratch + r * W * KB);
                    for (long px = 0; px < Wp; px++) {
                        const int columns = 2 * px + 1 < W ? 2 : 1;
                        for (int v = 0; v < NV; v++) {
                            const float *at[4]; int code[4], count = 0;
                            for (int r = 0; r < rows; r++)
                                for (int c = 0; c < columns; c++) {
                                    at[count] = scratch + (r * W + 2 * px + c) * KB + v * V;
                                    code[count++] = 2 * r + c;
                                }
                            vi where;
                            vf best = pooled(at, count, code, where);
                            const long k = kb + v * V;
                            uint8_t *places = index + ((n * Hp + py) * Wp + px) * K + k;
                            if (padded) {
                                finish(best, where, random, drop, out + ((n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1) * K + k, places);
                            } else {
                                float lane[V];
                                finish(best, where, random, drop, lane, places);
                                for (int i = 0; i < V; i++) out[((n * K + k + i) * Hp + py) * Wp + px] = lane[i];
                            }
                        }
                    }
                }
        }
        operator delete[](scratch, std::align_val_t(64));
    }
}

// The first stage: one input channel, weights [9][K] in registers. images [N][H][W] without a border.
template <int KV>
static void first_forward(const float *images, const float *w, float *out, uint8_t *index, long N, long H, long W,
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
                        finish(best, where, random, drop, out + ((n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1) * K + v * V,
                               index + ((n * Hp + py) * Wp + px) * K + v * V);
                    }
            }
        }
        delete[] image;
    }
}

extern "C" int cnnbench_first_forward(const float *images, const float *w, float *out, uint8_t *index, long N, long H, long W,
                                      long K, uint64_t seed, uint32_t threshold, float scale) {
    const Dropout drop{threshold, scale};
    switch (K / V) {
        case 2: first_forward<2>(images, w, out, index, N, H, W, seed, drop); return 0;
        case 4: first_forward<4>(images, w, out, index, N, H, W, seed, drop); return 0;
    }
    return 1;
}

// ---- backward ----

// Gradient of the pooled output [N][Hp(+2)][Wp(+2)][K] (padded) or [N][K][Hp][Wp], the places of the maxima, and the input
// -> gradient of the weights [K][9][C], and of the input [N][H+2][W+2][C] (its border is rubbish; null: not wanted).
// sums: [threads][K][9][C], zeroed here, one for each of so many threads.
constexpr int CV = 2;           // vectors of input channels at a time: 9 taps x 2 = 18 registers of sums
constexpr int CB = CV * V;

struct Place { int32_t offset; float gradient; };

extern "C" int cnnbench_stage_backward(const float *gradient, const uint8_t *index, const float *in, const float *w,
                                       float *gradient_w, float *gradient_in, float *sums, long N, long H, long W, long C,
                                       long K, int padded, float scale, int threads) {
    if (C % CB) return 1;
    const long Hp = (H + 1) / 2, Wp = (W + 1) / 2, row = (W + 2) * C, windows = Hp * Wp;
    int used = 1;
#pragma omp parallel num_threads(threads)
    {
        const int me = omp_get_thread_num();
#pragma omp single
        used = omp_get_num_threads();
        float *mine = sums + (long)me * K * 9 * C;
        std::memset(mine, 0, sizeof(float) * K * 9 * C);
        Place *by_channel = new Place[K * windows];   // per channel its places in this image
        int32_t *counts = new int32_t[K];
        Place *by_place = new Place[4 * K];           // per place of a window its channels
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            std::memset(counts, 0, sizeof(int32_t) * K);
            float *back = gradient_in ? gradient_in + n * (H + 2) * row : nullptr;
            if (back) std::memset(back, 0, sizeof(float) * (H + 2) * row);
            for (long py = 0; py < Hp; py++)
                for (long px = 0; px < Wp; px++) {
                    const uint8_t *at = index + ((n * Hp + py) * Wp + px) * K;
                    const float *g = padded ? gradient + ((n * (Hp + 2) + py + 1) * (Wp + 2) + px + 1) * K
                                            : gradient + n * K * windows + py * Wp + px;
                    const long step = padded ? 1 : windows;
                    const long corner = (2 * py) * row + (2 * px) * C;   // of the input, at the first tap
                    const int32_t offsets[4] = {(int32_t)corner, (int32_t)(corner + C), (int32_t)(corner + row),
                                                (int32_t)(corner + row + C)};
                    int lengths[5] = {0, 0, 0, 0, 0};
                    for (long k = 0; k < K; k++) {
                        const int q = at[k];
                        if (q == DEAD) continue;
                        const float value = g[k * step] * scale;
                        by_place[q * K + lengths[q]++] = Place{(int32_t)(k * 9 * C), value};
                        by_channel[k * windows + counts[k]++] = Place{offsets[q], value};
                    }
                    if (!back) continue;
                    for (int q = 0; q < 4; q++) {
                        const int length = lengths[q];
                        if (!length) continue;
                        const Place *list = by_place + q * K;
                        for (long c = 0; c < C; c += CB) {
                            vf sum[9][CV];
#pragma GCC unroll 9
                            for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                                for (int v = 0; v < CV; v++) sum[t][v] = vf{};
                            for (int i = 0; i < length; i++) {
                                const float *weights = w + list[i].offset + c;
                                const vf x = all(list[i].gradient);
#pragma GCC unroll 9
                                for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                                    for (int v = 0; v < CV; v++) sum[t][v] += x * load(weights + t * C + v * V);
                            }
                            float *to = back + offsets[q] + c;
#pragma GCC unroll 9
                            for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                                for (int v = 0; v < CV; v++) {
                                    float *cell = to + (t / 3) * row + (t % 3) * C + v * V;
                                    store(cell, load(cell) + sum[t][v]);
                                }
                        }
                    }
                }
            const float *image = in + n * (H + 2) * row;
            for (long k = 0; k < K; k++) {
                const Place *list = by_channel + k * windows;
                const int length = counts[k];
                if (!length) continue;
                for (long c = 0; c < C; c += CB) {
                    float *to = mine + k * 9 * C + c;
                    vf sum[9][CV];
#pragma GCC unroll 9
                    for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                        for (int v = 0; v < CV; v++) sum[t][v] = load(to + t * C + v * V);
                    for (int i = 0; i < length; i++) {
                        const float *x = image + list[i].offset + c;
                        const vf g = all(list[i].gradient);
#pragma GCC unroll 9
                        for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                            for (int v = 0; v < CV; v++) sum[t][v] += g * load(x + (t / 3) * row + (t % 3) * C + v * V);
                    }
#pragma GCC unroll 9
                    for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                        for (int v = 0; v < CV; v++) store(to + t * C + v * V, sum[t][v]);
                }
            }
        }
        delete[] by_channel; delete[] counts; delete[] by_place;
        // implicit barrier of the loop is behind us: every thread's sums are there
#pragma omp for schedule(static)
        for (long i = 0; i < K * 9 * C; i++) {
            float total = 0;
            for (int t = 0; t < used; t++) total += sums[(long)t * K * 9 * C + i];
            gradient_w[i] = total;
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
extern "C" int cnnbench_first_backward(const float *gradient, const uint8_t *index, const float *images, float *gradient_w,
                                       float *sums, long N, long H, long W, long K, float scale, int threads) {
    switch (K / V) {
        case 2: first_backward<2>(gradient, index, images, gradient_w, sums, N, H, W, scale, threads); return 0;
        case 4: first_backward<4>(gradient, index, images, gradient_w, sums, N, H, W, scale, threads); return 0;
    }
    return 1;
}

// [K][9][C] -> [9][C][K]
extern "C" void cnnbench_pack(const float *w, float *packed, long K, long C) {
    const long M = 9 * C;
#pragma omp parallel for schedule(static)
    for (long m0 = 0; m0 < M; m0 += 16)
        for (long k0 = 0; k0 < K; k0 += 16)
            for (long m = m0; m < (m0 + 16 < M ? m0 + 16 : M); m++)
                for (long k = k0; k < (k0 + 16 < K ? k0 + 16 : K); k++) packed[m * K + k] = w[k * M + m];
}

// ---- dense layers: bias, ReLU and dropout in place; their gradient; softmax with cross-entropy ----

// x [N][M] += bias (or null), ReLU, dropout.
extern "C" void cnnbench_dense_finish(float *x, const float *bias, long N, long M, uint64_t seed, uint32_t threshold, float scale) {
    const Dropout drop{threshold, scale};
#pragma omp parallel for schedule(static)
    for (long n = 0; n < N; n++) {
        Random random(seed, (uint64_t)n);
        float *row = x + n * M;
        long m = 0;
        for (; m + V <= M; m += V) {
            vf value = load(row + m);
            if (bias) value += load(bias + m);
            vi alive = ~(vi)(value <= vf{}) & keeps(random, drop);
            store(row + m, alive ? value * scale : vf{});
        }
        if (m < M) {
            vi kept = keeps(random, drop);
            for (int i = 0; m < M; m++, i++) {
                float value = row[m] + (bias ? bias[m] : 0.f);
                row[m] = !(value <= 0) && kept[i] ? value * scale : 0.f;
            }
        }
    }
}

// ---- a first dense layer, on images of which most values are zero: products with zeros are left out ----

#if defined(__AVX512F__)
constexpr int SV = 16;
#else
constexpr int SV = 8;
#endif

// out [n][first + 0 .. SW) of one sum over the places listed.
template <int SW>
static inline void sum_rows(const int32_t *list, const float *values, int count, const float *rows, long stride, float *out) {
    vf sum[SW];
#pragma GCC unroll 16
    for (int v = 0; v < SW; v++) sum[v] = vf{};
    for (int i = 0; i < count; i++) {
        const float *row = rows + (long)list[i] * stride;
        const vf x = all(values[i]);
#pragma GCC unroll 16
        for (int v = 0; v < SW; v++) sum[v] += x * load(row + v * V);
    }
#pragma GCC unroll 16
    for (int v = 0; v < SW; v++) store(out + v * V, sum[v]);
}

static inline void sum_all(const int32_t *list, const float *values, int count, const float *rows, long M, float *out) {
    long m = 0;
    for (; m + SV * V <= M; m += SV * V) sum_rows<SV>(list, values, count, rows + m, M, out + m);
    for (; m + 4 * V <= M; m += 4 * V) sum_rows<4>(list, values, count, rows + m, M, out + m);
    for (; m + V <= M; m += V) sum_rows<1>(list, values, count, rows + m, M, out + m);
}

// x [N][F], w [F][M] with M a multiple of the lanes -> out [N][M] = x w
extern "C" int cnnbench_sparse_forward(const float *x, const float *w, float *out, long N, long F, long M) {
    if (M % V) return 1;
#pragma omp parallel
    {
        int32_t *list = new int32_t[F + 1];
        float *values = new float[F + 1];
#pragma omp for schedule(static)
        for (long n = 0; n < N; n++) {
            int count = 0;
            for (long f = 0; f < F; f++) {
                const float value = x[n * F + f];
                list[count] = (int32_t)f, values[count] = value;
                count += value != 0;
            }
            sum_all(list, values, count, w, M, out + n * M);
        }
        delete[] list; delete[] values;
    }
    return 0;
}

// gradient [N][M], x [N][F] -> gradient_w [F][M] = transposed x, times gradient
extern "C" int cnnbench_sparse_backward(const float *gradient, const float *x, float *gradient_w, long N, long F, long M) {
    if (M % V) return 1;
#pragma omp parallel
    {
        int32_t *list = new int32_t[N + 1];
        float *values = new float[N + 1];
#pragma omp for schedule(dynamic, 16)
        for (long f = 0; f < F; f++) {
            int count = 0;
            for (long n = 0; n < N; n++) {
                const float value = x[n * F + f];
                list[count] = (int32_t)n, values[count] = value;
                count += value != 0;
            }
            sum_all(list, values, count, gradient, M, gradient_w + f * M);
        }
        delete[] list; delete[] values;
    }
    return 0;
}

// gradient [N][M] of what `dense_finish` left in y -> of what it was given, in place: y > 0 is all one has to know.
extern "C" void cnnbench_dense_backward(float *gradient, const float *y, long N, long M, float scale) {
    const long total = N * M;
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < total; i++) gradient[i] = y[i] != 0 ? gradient[i] * scale : 0.f;
}

// logits [N][M] -> gradient of the mean cross-entropy [N][M]; returns the mean.
extern "C" float cnnbench_cross_entropy(const float *logits, const int64_t *labels, float *gradient, long N, long M) {
    double total = 0;
    for (long n = 0; n < N; n++) {
        const float *x = logits + n * M;
        float top = x[0], sum = 0;
        for (long m = 1; m < M; m++) top = x[m] > top ? x[m] : top;
        float *g = gradient + n * M;
        for (long m = 0; m < M; m++) sum += g[m] = std::exp(x[m] - top);
        const float share = 1.f / (sum * N);
        for (long m = 0; m < M; m++) g[m] *= share;
        g[labels[n]] -= 1.f / N;
        total += std::log(sum) + top - x[labels[n]];
    }
    return (float)(total / N);
}

// ---- update rules, torch's own formulas, one pass over all parameters ----

extern "C" void cnnbench_rmsprop(float *w, const float *g, float *square, long n, float rate, float alpha, float epsilon) {
    const float rest = 1.f - alpha;
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < n; i++) {
        const float s = square[i] = alpha * square[i] + rest * g[i] * g[i];
        w[i] -= rate * g[i] / (std::sqrt(s) + epsilon);
    }
}

extern "C" void cnnbench_adam(float *w, const float *g, float *mean, float *square, long n, float rate, float beta1,
                              float beta2, float epsilon, float correction1, float correction2) {
    const float size = rate / correction1, root = 1.f / std::sqrt(correction2);
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < n; i++) {
        const float m = mean[i] = beta1 * mean[i] + (1.f - beta1) * g[i];
        const float s = square[i] = beta2 * square[i] + (1.f - beta2) * g[i] * g[i];
        w[i] -= size * m / (std::sqrt(s) * root + epsilon);
    }
}

extern "C" int cnnbench_vector_lanes() { return V; }
