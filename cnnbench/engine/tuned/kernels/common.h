// What all kernels share: vectors, random numbers, dropout.
//
// Vectors are those of the compiler, so the same source serves AVX-512, AVX2 and others. One kind of arithmetic more where the
// processor has it: products of bfloat16 pairs, summed in float32.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <omp.h>
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
#include <immintrin.h>
#define CNNBENCH_BF16 1
#endif

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

// ---- arithmetics: what activations and weights are stored as, and the words that a product takes of them ----

struct Float32 {
    typedef float Stored;
    typedef float Word;               // one value
    typedef vf Words;
    static constexpr int STEP = 1;    // values that one product sums over
    static inline Words spread(Word x) { return all(x); }
    static inline Words words(const Word *from) { return load(from); }
    static inline vf add(vf sum, Words x, Words w) { return sum + x * w; }
    static inline Stored rounded(float x) { return x; }
    static inline float exact(Stored x) { return x; }
    static inline vf get(const Stored *from) { return load(from); }
    static inline void put(Stored *to, vf x) { store(to, x); }
    static inline long place(long channel) { return channel; }

    // sum[t][v] += gradient[i] x the values at offset[i] of tap t, over a list of `length`.
    static inline __attribute__((always_inline)) void taps(const int32_t *offset, const Stored *gradient, int length,
                                                           const Stored *from, long row, long C, vf (*sum)[2]) {
        for (int i = 0; i < length; i++) {
            const Stored *at = from + offset[i];
            const vf x = all(gradient[i]);
#pragma GCC unroll 9
            for (int t = 0; t < 9; t++)
#pragma GCC unroll 2
                for (int v = 0; v < 2; v++) sum[t][v] += x * load(at + (t / 3) * row + (t % 3) * C + v * V);
        }
    }
    static inline void natural(vf *) {}
};

#ifdef CNNBENCH_BF16
struct Bfloat16 {
    typedef uint16_t Stored;
    typedef uint32_t Word;            // two neighbouring values
    typedef vu Words;
    static constexpr int STEP = 2;
    static inline Words spread(Word x) { return x + vu{}; }
    static inline Words words(const Word *from) { vu r; std::memcpy(&r, from, sizeof r); return r; }
    static inline vf add(vf sum, Words x, Words w) { return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w); }
    static inline Stored rounded(float x) {  // to nearest, ties to even; NaN stays NaN
        uint32_t bits; std::memcpy(&bits, &x, 4);
        return x != x ? 0x7fc0 : (Stored)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
    static inline float exact(Stored x) { const uint32_t bits = (uint32_t)x << 16; float r; std::memcpy(&r, &bits, 4); return r; }
    static inline vf get(const Stored *from) {
        typedef uint16_t vh __attribute__((vector_size(2 * V)));
        vh half; std::memcpy(&half, from, sizeof half);
        return (vf)(__builtin_convertvector(half, vu) << 16);
    }
    static inline void put(Stored *to, vf x) { __m256bh r = _mm512_cvtneps_pbh((__m512)x); std::memcpy(to, &r, sizeof r); }

    // Two places of the list at a time: their values interleaved are the pairs of one product. Interleaving works within
    // 128 bits, so lane l of sum[t][0] is channel l / 4 * 8 + l % 4, and of sum[t][1] the channel four further.
    static inline __attribute__((always_inline)) void taps(const int32_t *offset, const Stored *gradient, int length,
                                                           const Stored *from, long row, long C, vf (*sum)[2]) {
        for (int i = 0; i < length; i += 2) {
            const Stored *one = from + offset[i], *two = from + offset[i + 1];
            Word both; std::memcpy(&both, gradient + i, 4);
            const Words x = spread(both);
#pragma GCC unroll 9
            for (int t = 0; t < 9; t++) {
                const long tap = (t / 3) * row + (t % 3) * C;
                const __m512i a = _mm512_loadu_si512(one + tap), b = _mm512_loadu_si512(two + tap);
                sum[t][0] = add(sum[t][0], x, (Words)_mm512_unpacklo_epi16(a, b));
                sum[t][1] = add(sum[t][1], x, (Words)_mm512_unpackhi_epi16(a, b));
            }
        }
    }
    static inline long place(long channel) { return channel % 8 / 4 * V + channel / 8 * 4 + channel % 4; }
    static inline void natural(vf *sum) {
        const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        const __m512 a = (__m512)sum[0], b = (__m512)sum[1];
        sum[0] = (vf)_mm512_permutex2var_ps(a, low, b);
        sum[1] = (vf)_mm512_permutex2var_ps(a, high, b);
    }
};
#endif
