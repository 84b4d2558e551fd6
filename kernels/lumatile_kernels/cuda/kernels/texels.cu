// Texels as kernels read and write them: their types, conversions to and from float16, and wide reads and writes.
//
// pyramid.cu is compiled after this text. There are no includes: NVRTC compiles the texts as they are, and so does a
// C++ compiler after a header that replaces CUDA's.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

struct half {
    u16 bits;
};

// The bits of the float16 that is nearest to a float32 in +-65504, half to even.
__device__ inline u32 half_bits(float x) {
#ifdef __CUDA_ARCH__
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    u32 bits = __float_as_uint(x) & 0x7FFFFFFFu, sign = __float_as_uint(x) >> 16 & 0x8000u;
    if (bits >= 0x38800000u) return sign | (bits - (112u << 23) + 0xFFFu + (bits >> 13 & 1u)) >> 13;
    // adding 0.5 rounds to a multiple of 2^-24, the unit of a subnormal number
    return sign | (__float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3F000000u);
#endif
}

// The bits of two float16, `low` in the lower half.
__device__ inline u32 half_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    u32 bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    return half_bits(low) | half_bits(high) << 16;
#endif
}

// The exact float32 of a float16: its shifted bits times 2^112, which is exact for subnormal numbers too.
__device__ inline float narrowed(half x) {
    u32 magnitude = x.bits & 0x7FFFu, sign = (x.bits & 0x8000u) << 16;
    u32 bits = magnitude >= 0x7C00u ? 0x7F800000u | (magnitude & 0x3FFu) << 13
                                    : __float_as_uint(__uint_as_float(magnitude << 13) * 5192296858534827628530496329220096.0f);
    return __uint_as_float(sign | bits);
}
__device__ inline float narrowed(float x) { return x; }
__device__ inline float narrowed(double x) { return (float)x; }
__device__ inline float narrowed(u8 x) { return (float)x; }
__device__ inline float narrowed(u16 x) { return (float)x; }

// Two neighbours in a row of the source, read in the widest words that divide their size.
template <int BYTES>
struct Word;
template <>
struct Word<2> {
    typedef u16 type;
};
template <>
struct Word<4> {
    typedef u32 type;
};
template <>
struct Word<8> {
    typedef uint2 type;
};
template <>
struct Word<16> {
    typedef uint4 type;
};

template <class Source, int SAMPLES>
struct Pair {
    enum {
        BYTES = 2 * SAMPLES * sizeof(Source),
        WIDEST = BYTES & -BYTES,  // the greatest power of two that divides it
        WORD = WIDEST < 16 ? WIDEST : 16,
        AHEAD = BYTES <= 8 ? 4 : BYTES <= 16 ? 2 : 1,  // row pairs that are read before the first of them is used
    };
    typedef typename Word<WORD>::type Wide;

    union {
        Source values[2 * SAMPLES];
        Wide words[BYTES / WORD];
    };

    // Reads two texels in wide words.
    __device__ void read(const u8* at) {
#pragma unroll
        for (int i = 0; i < BYTES / WORD; i++) words[i] = __ldg((const Wide*)at + i);
    }

    // Reads one or two texels; a single texel is repeated.
    __device__ void read_edge(const u8* at, bool both) {
        const Source* first = (const Source*)at;
        const Source* second = both ? first + SAMPLES : first;
#pragma unroll
        for (int i = 0; i < SAMPLES; i++) {
            values[i] = first[i];
            values[SAMPLES + i] = second[i];
        }
    }
};

// Stores one or two texels of 1, 2, 4, 8 or 16 bytes.
__device__ inline void store(u8* at, u8 a) { *at = a; }
__device__ inline void store(u8* at, u16 a) { *(u16*)at = a; }
__device__ inline void store(u8* at, u32 a) { *(u32*)at = a; }
__device__ inline void store(u8* at, uint2 a) { *(uint2*)at = a; }
__device__ inline void store(u8* at, uint4 a) { *(uint4*)at = a; }
__device__ inline void store(u8* at, u8 a, u8 b) { *(u16*)at = (u16)(a | b << 8); }
__device__ inline void store(u8* at, u16 a, u16 b) { *(u32*)at = a | (u32)b << 16; }
__device__ inline void store(u8* at, u32 a, u32 b) { *(uint2*)at = make_uint2(a, b); }
__device__ inline void store(u8* at, uint2 a, uint2 b) { *(uint4*)at = make_uint4(a.x, a.y, b.x, b.y); }
__device__ inline void store(u8* at, uint4 a, uint4 b) {
    *(uint4*)at = a;
    *(uint4*)(at + 16) = b;
}

