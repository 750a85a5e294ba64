// Update rules, torch's own formulas, one pass over all parameters.
#pragma once

#include "common.h"

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
