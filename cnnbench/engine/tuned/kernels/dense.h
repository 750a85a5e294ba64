// Dense layers: a first one on sparse images, bias with ReLU and dropout, their gradient, softmax with cross-entropy.
#pragma once

#include "common.h"

// x [N][M] += bias (or null), ReLU, dropout.
template <class A>
static void dense_finish(typename A::Stored *x, const float *bias, long N, long M, uint64_t seed, const Dropout &drop) {
#pragma omp parallel for schedule(static)
    for (long n = 0; n < N; n++) {
        Random random(seed, (uint64_t)n);
        typename A::Stored *row = x + n * M;
        long m = 0;
        for (; m + V <= M; m += V) {
            vf value = A::get(row + m);
            if (bias) value += load(bias + m);
            vi alive = ~(vi)(value <= vf{}) & keeps(random, drop);
            A::put(row + m, alive ? value * drop.scale : vf{});
        }
        if (m < M) {
            vi kept = keeps(random, drop);
            for (int i = 0; m < M; m++, i++) {
                float value = A::exact(row[m]) + (bias ? bias[m] : 0.f);
                row[m] = A::rounded(!(value <= 0) && kept[i] ? value * drop.scale : 0.f);
            }
        }
    }
}

// gradient [N][M] of what `dense_finish` left in y -> of what it was given, in place: y > 0 is all one has to know.
template <class A>
static void dense_backward(typename A::Stored *gradient, const typename A::Stored *y, long N, long M, float scale) {
    const long total = N * M;
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < total; i++) gradient[i] = y[i] != 0 ? A::rounded(A::exact(gradient[i]) * scale) : (typename A::Stored)0;
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
