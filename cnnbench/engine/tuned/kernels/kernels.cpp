// The tuned division's kernels for CPUs: one pass where plain PyTorch makes five, and no work on zeros.
//
// A stage is a 3x3 convolution without bias, ReLU, 2x2 max pooling (ceil mode) and dropout. Forward, it never writes the
// convolution's result: two rows of it live in a scratch that fits the first-level cache, are pooled, rectified and thinned
// there, and only the pooled quarter leaves, with the place of each maximum. Backward, the gradient of the convolution's
// result is therefore zero but for one place in four, and of these only where the maximum was above zero and was not
// dropped. Both backward convolutions walk over those places alone. Same sums, zeros left out.
//
// Layouts: activations NHWC with a border of zeros one wide; conv weights [out][ky][kx][in] (torch's channels_last) as
// parameters, [ky][kx][in][out] as packed for the forward pass, of bfloat16 in pairs of inputs, [ky][kx][in / 2][out][2].
//
// Functions without a suffix compute in float32. Those in _bf16 hold activations and weights in bfloat16 and sum in float32; the
// gradients of activations between convolutions, of weights, the optimiser and the first layer's products are float32 in both.
// Those in _tiles do as those in _bf16, by tile products, with the zeros.
// Those that return int return 0, or 1 for a shape they do not know.

#include "common.h"

#include "backward.h"
#include "dense.h"
#include "forward.h"
#include "tiled_dense.h"
#include "tiled_stage.h"
#include "update.h"

#define CNNBENCH_EXPORT(suffix, A) \
    extern "C" int cnnbench_stage_forward##suffix(const A::Stored *in, const A::Stored *w, A::Stored *out, uint8_t *index, long N, \
                                                  long H, long W, long C, long K, int padded, uint64_t seed, uint32_t threshold, \
                                                  float scale) { \
        stage_forward<A>(in, w, N, C, seed, Pooled<A>{out, index, H, W, K, padded, Dropout{threshold, scale}}); \
        return 0; \
    } \
    extern "C" int cnnbench_first_forward##suffix(const float *images, const float *w, A::Stored *out, uint8_t *index, long N, \
                                                  long H, long W, long K, uint64_t seed, uint32_t threshold, float scale) { \
        return first_forward_of<A>(images, w, out, index, N, H, W, K, seed, Dropout{threshold, scale}); \
    } \
    extern "C" int cnnbench_stage_backward##suffix(const float *gradient, const uint8_t *index, const A::Stored *in, \
                                                   const A::Stored *w, float *gradient_w, float *gradient_in, float *sums, long N, \
                                                   long H, long W, long C, long K, int padded, float scale, int threads) { \
        return stage_backward<A>(gradient, index, in, w, gradient_w, gradient_in, sums, N, H, W, C, K, padded, scale, threads); \
    } \
    extern "C" void cnnbench_dense_finish##suffix(A::Stored *x, const float *bias, long N, long M, uint64_t seed, \
                                                  uint32_t threshold, float scale) { \
        dense_finish<A>(x, bias, N, M, seed, Dropout{threshold, scale}); \
    } \
    extern "C" void cnnbench_dense_backward##suffix(A::Stored *gradient, const A::Stored *y, long N, long M, float scale) { \
        dense_backward<A>(gradient, y, N, M, scale); \
    }

CNNBENCH_EXPORT(, Float32)
#ifdef CNNBENCH_BF16
CNNBENCH_EXPORT(_bf16, Bfloat16)
#endif

#ifdef CNNBENCH_TILES
extern "C" int cnnbench_stage_forward_tiles(const uint16_t *in, const uint16_t *w, uint16_t *out, uint8_t *index, long N, long H,
                                            long W, long C, long K, int padded, uint64_t seed, uint32_t threshold, float scale) {
    return tile_forward(in, w, N, C, seed, Pooled<Bfloat16>{out, index, H, W, K, padded, Dropout{threshold, scale}});
}
extern "C" int cnnbench_stage_backward_tiles(const float *gradient, const uint8_t *index, const uint16_t *in, const uint16_t *w,
                                             float *gradient_w, float *gradient_in, float *sums, long N, long H, long W, long C,
                                             long K, int padded, float scale, int threads) {
    return tile_backward(gradient, index, in, w, gradient_w, gradient_in, sums, N, H, W, C, K, padded, scale, threads);
}
extern "C" void cnnbench_pack_tiles(const uint16_t *w, uint16_t *forward, uint16_t *backward, long C, long K) {
    pack_tiles(w, forward, backward, C, K);
}
extern "C" int cnnbench_dense_forward_tiles(const uint16_t *x, const float *w, uint16_t *out, uint16_t *weights, uint16_t *laid,
                                            long N, long F, long M) {
    return tiled_dense_forward(x, w, out, weights, laid, N, F, M);
}
extern "C" int cnnbench_dense_backward_tiles(const uint16_t *gradient, const uint16_t *weights, const uint16_t *laid,
                                             uint16_t *room, float *gradient_w, float *back, long N, long F, long M) {
    return tiled_dense_backward(gradient, weights, laid, room, gradient_w, back, N, F, M);
}
#endif

extern "C" int cnnbench_first_backward(const float *gradient, const uint8_t *index, const float *images, float *gradient_w,
                                       float *sums, long N, long H, long W, long K, float scale, int threads) {
    return first_backward_of(gradient, index, images, gradient_w, sums, N, H, W, K, scale, threads);
}

// Words [K][M] -> [M][K]: float32 weights, or pairs of bfloat16.
extern "C" void cnnbench_pack(const uint32_t *w, uint32_t *packed, long K, long M) {
#pragma omp parallel for schedule(static)
    for (long m0 = 0; m0 < M; m0 += 16)
        for (long k0 = 0; k0 < K; k0 += 16)
            for (long m = m0; m < (m0 + 16 < M ? m0 + 16 : M); m++)
                for (long k = k0; k < (k0 + 16 < K ? k0 + 16 : K); k++) packed[m * K + k] = w[k * M + m];
}

extern "C" int cnnbench_vector_lanes() { return V; }

// 1 where the processor has tiles, and lends them to this process.
extern "C" int cnnbench_knows_tiles() {
#ifdef CNNBENCH_TILES
    return tiles_granted();
#else
    return 0;
#endif
}

extern "C" int cnnbench_knows_bf16() {
#ifdef CNNBENCH_BF16
    return 1;
#else
    return 0;
#endif
}
