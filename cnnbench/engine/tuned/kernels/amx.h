// What the kernels by tiles share: Intel's AMX, products of 16 x 32 by 32 x 16 bfloat16 values, summed in float32.
#pragma once

#include "common.h"

#if defined(CNNBENCH_BF16) && defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define CNNBENCH_TILES 1

#include <sys/syscall.h>
#include <unistd.h>

constexpr long TILE = 16;              // rows, and float32 columns, of a tile
constexpr long DEEP = 2 * TILE;        // bfloat16 values that one product sums over
constexpr long WHOLE = TILE * DEEP;    // bfloat16 values in a tile

#define TILE_ZERO(t) asm volatile("tilezero %%tmm" #t ::: "memory")
#define TILE_LOAD(t, from, bytes) asm volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((long)(bytes)) : "memory")
#define TILE_STORE(t, to, bytes) asm volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((long)(bytes)) : "memory")
// tile c += tile a [16 rows][32] x tile b [16 pairs][16 columns][2]
#define TILE_PRODUCT(c, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")
// The four products of two tiles a (4, 5) with two tiles b (6, 7).
#define TILE_PRODUCTS(a0, a1, a_bytes, b0, b1, b_bytes) \
    do { \
        TILE_LOAD(4, a0, a_bytes); TILE_LOAD(6, b0, b_bytes); TILE_PRODUCT(0, 4, 6); \
        TILE_LOAD(7, b1, b_bytes); TILE_PRODUCT(1, 4, 7); \
        TILE_LOAD(5, a1, a_bytes); TILE_PRODUCT(2, 5, 6); TILE_PRODUCT(3, 5, 7); \
    } while (0)

// All eight tiles whole, for one thread; then as they were, since torch's own products use them too.
struct Tiles {
    struct alignas(64) Shapes { uint8_t palette, start, unused[14]; uint16_t bytes[16]; uint8_t rows[16]; } before;
    Tiles() {
        Shapes whole = {};
        whole.palette = 1;
        for (int t = 0; t < 8; t++) whole.bytes[t] = 64, whole.rows[t] = TILE;
        asm volatile("sttilecfg %0" : "=m"(before)::"memory");
        asm volatile("ldtilecfg %0" ::"m"(whole) : "memory");
    }
    ~Tiles() { asm volatile("ldtilecfg %0" ::"m"(before) : "memory"); }
};

// Linux lends the tiles' registers to a process that asks for them.
static inline bool tiles_granted() {
    constexpr long ASK = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}

template <class T>
struct Scratch {  // aligned, zeroed
    T *at;
    explicit Scratch(long size) : at(new (std::align_val_t(64)) T[size]()) {}
    ~Scratch() { operator delete[](at, std::align_val_t(64)); }
    Scratch(const Scratch &) = delete;
};

static inline long rounded_up(long x, long to) { return (x + to - 1) / to * to; }

// 16 x 16 words, in place.
static inline __attribute__((always_inline)) void transpose(__m512i *r) {
    __m512i a[TILE];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        a[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            r[4 * i + 2 * h] = _mm512_unpacklo_epi64(a[4 * i + h], a[4 * i + 2 + h]);
            r[4 * i + 2 * h + 1] = _mm512_unpackhi_epi64(a[4 * i + h], a[4 * i + 2 + h]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {  // r[4 g + i] has in its 128-bit part p the column 4 p + i of rows 4 g .. 4 g + 3
        const __m512i low01 = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88), high01 = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        const __m512i low23 = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        const __m512i high23 = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
        a[i] = _mm512_shuffle_i32x4(low01, low23, 0x88);
        a[4 + i] = _mm512_shuffle_i32x4(high01, high23, 0x88);
        a[8 + i] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
        a[12 + i] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) r[i] = a[i];
}

// Words l: the values l of two rows beside each other.
static inline __m512i pairs(const uint16_t *one, const uint16_t *two) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)one));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)two));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}
#endif
