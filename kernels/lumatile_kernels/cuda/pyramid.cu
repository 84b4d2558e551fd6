// The way of a frame through the GPU: one pass over the input makes all tiles of up to six levels.
//
// A block of 256 threads takes 64 x 64 texels of level 0, which are 32 x 32 of level 1 and so on down to 2 x 2; each of
// these squares lies in one tile of its level. A seventh level, one texel a block, is carried to another pass where the
// pyramid is taller. Blocks stay and take one square after another, of one frame after another (a persistent grid), so
// that their tables are loaded once.
//
// What kinds of arrays differ in stands in image.cu, depth.cu and segmentation.cu, which are compiled behind this text.
// No includes: NVRTC compiles it as it is, and so does a C++ compiler behind a header that stands in for CUDA.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

struct half {
    u16 bits;
};

enum {
    TILE = 256,   // edge of a tile, in texels
    PITCH = 256,  // rows of tiles are padded to multiples of this many bytes
    BLOCK_BITS = 6,
    BLOCK = 1 << BLOCK_BITS,  // edge of a block's square in level 0, in texels
    THREADS = 256,
    BLOCKS_PER_SM = 3,  // blocks that a multiprocessor must be able to hold: bounds the registers
    LEVELS = 6,       // levels that a pass stores
    MAX_FRAMES = 32,  // frames of one launch
    COPIES = 16,      // of a table in shared memory, so that lanes seldom meet in a bank
    COPY_MASK = COPIES - 1,
};

// What a launch is told; passes.py has the same fields in the same order.
struct Pass {
    int height[LEVELS + 1];  // texels of this pass's levels, finest first
    int width[LEVELS + 1];
    int first_row[LEVELS];  // of each level in `rows`, to which its tile row is added
    int levels;             // how many are stored
    int frames;
    int blocks_y;
    int blocks_x;
    float meter;                  // depth: units per metre
    float low, high;              // images: limits of linear light
    int carries;                  // whether level LEVELS goes to `carry`
    const i64* rows;              // (tile rows, 3): number of the first tile, its byte offset in plane 0 and in plane 1
    u8* out;                      // frames of `out_stride` bytes
    i64 out_stride;
    u32* ranges;                  // frames of `ranges_stride` pairs: see Range
    i64 ranges_stride;
    u8* carry;                    // frames of `carry_stride` bytes, (height, width) texels as they are carried
    i64 carry_stride;
    const float* light;           // images of codes: linear light of each
    const u16* halves;            // images of 16-bit codes: the same as float16, rounded once
    const u32* buckets;           // images: encodes sRGB, see tables.srgb_buckets
    const u32* palette;           // segmentations: color of each id
    const void* sources[MAX_FRAMES];
};

// Least and greatest value of a tile, so that the greater of two is right for both and zero is nothing.
struct Range {
    u32 low;
    u32 high;
};

// Where a block's square of one level lies in one plane.
struct Place {
    u8* texel;
    int pitch;  // bytes
};

__device__ inline u32 warp_max(u32 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_max_sync(0xFFFFFFFFu, value);
#else
    for (int distance = 16; distance; distance /= 2) {
        u32 other = __shfl_xor_sync(0xFFFFFFFFu, value, distance);
        value = other > value ? other : value;
    }
    return value;
#endif
}

// Bits of the float16 nearest to a float32 in +-65504, half to even.
__device__ inline u32 half_bits(float x) {
#ifdef __CUDA_ARCH__
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    u32 bits = __float_as_uint(x) & 0x7FFFFFFFu, sign = __float_as_uint(x) >> 16 & 0x8000u;
    if (bits >= 0x38800000u) return sign | (bits - (112u << 23) + 0xFFFu + (bits >> 13 & 1u)) >> 13;
    // adding 0.5 rounds to a multiple of 2^-24, which is what a subnormal counts
    return sign | (__float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3F000000u);
#endif
}

// The exact float32 of a float16: its bits, moved, times 2^112, which is exact for subnormal ones too.
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

// Two neighbours in a row of the source, read in the widest words that divide them.
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
        AHEAD = BYTES <= 8 ? 4 : BYTES <= 16 ? 2 : 1,  // row pairs that are read before the first is used
    };
    typedef typename Word<WORD>::type Wide;

    union {
        Source values[2 * SAMPLES];
        Wide words[BYTES / WORD];
    };

    // Texels x and x + 1 of a row; where the row ends at x it is repeated.
    __device__ void read(const Source* row, int x, int width, bool aligned) {
        const Source* at = row + (i64)x * SAMPLES;
        if (aligned && x + 1 < width) {
#pragma unroll
            for (int i = 0; i < BYTES / WORD; i++) words[i] = __ldg((const Wide*)at + i);
        } else {
            const int next = x + 1 < width ? SAMPLES : 0;
#pragma unroll
            for (int i = 0; i < SAMPLES; i++) {
                values[i] = at[i];
                values[SAMPLES + i] = at[next + i];
            }
        }
    }
};

// Texels of 1, 2, 4, 8 or 16 bytes, one or two at once.
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

// A block's square of level `n`: where it begins, and how much of it there is.
struct Square {
    int y, x;
    int rows, columns;
};

__device__ inline Square square(const Pass& pass, int n, int by, int bx) {
    Square s;
    s.y = by * (BLOCK >> n);
    s.x = bx * (BLOCK >> n);
    s.rows = min(BLOCK >> n, pass.height[n] - s.y);
    s.columns = min(BLOCK >> n, pass.width[n] - s.x);
    return s;
}

template <int TEXEL>
__device__ Place place(const Pass& pass, int n, int frame, int plane, const Square& s) {
    const i64* row = pass.rows + 3 * (pass.first_row[n] + s.y / TILE);
    int rows = min((int)TILE, pass.height[n] - s.y / TILE * TILE);
    int columns = min((int)TILE, pass.width[n] - s.x / TILE * TILE);
    Place p;
    p.pitch = (columns * TEXEL + PITCH - 1) / PITCH * PITCH;
    p.texel = pass.out + frame * pass.out_stride + row[1 + plane] + (i64)(s.x / TILE) * rows * TILE * TEXEL +
              (i64)(s.y % TILE) * p.pitch + s.x % TILE * TEXEL;
    return p;
}

// The block that holds the last texels of a level's rows zeroes what follows them.
template <class Texel>
__device__ void pad(const Pass& pass, int n, const Square& s, const Place& p, Texel zero) {
    if (s.x + s.columns < pass.width[n]) return;
    int start = s.x % TILE, used = start + s.columns, padding = p.pitch / (int)sizeof(Texel) - used;
    for (int i = threadIdx.x; i < s.rows * padding; i += THREADS) {
        store(p.texel + (i64)(i / padding) * p.pitch + (used - start + i % padding) * (int)sizeof(Texel), zero);
    }
}

__device__ inline void merge_range(const Pass& pass, int n, int frame, const Square& s, Range range) {
    u32 low = warp_max(range.low), high = warp_max(range.high);
    if (threadIdx.x % 32 == 0 && high) {
        i64 tile = pass.rows[3 * (pass.first_row[n] + s.y / TILE)] + s.x / TILE;
        u32* to = pass.ranges + 2 * (frame * pass.ranges_stride + tile);
        atomicMax(to, low);
        atomicMax(to + 1, high);
    }
}

template <class Kind>
__device__ void make_pyramid(const Pass& pass) {
    typedef typename Kind::Source Source;
    typedef typename Kind::Texel Texel;
    typedef Pair<Source, Kind::SAMPLES> Pixels;
    enum { QUADS = BLOCK * BLOCK / 4 / THREADS, AHEAD = Pixels::AHEAD };
    __shared__ typename Kind::Tables tables;
    __shared__ Texel odd[BLOCK / 2 * BLOCK / 2];  // levels 1, 3, 5
    __shared__ Texel even[BLOCK / 4 * BLOCK / 4];  // levels 2, 4

    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int squares = pass.blocks_y * pass.blocks_x;
    Kind::load(pass, tables);
    __syncthreads();
    for (int item = blockIdx.x; item < squares * pass.frames; item += gridDim.x) {
        const int frame = item / squares, by = item % squares / pass.blocks_x, bx = item % squares % pass.blocks_x;
        const Source* source = (const Source*)pass.sources[frame];
        const int width = pass.width[0];
        const bool aligned = ((u64)source | (u64)width * Kind::SAMPLES * sizeof(Source)) % Pixels::WORD == 0;

        // levels 0 and 1: a thread takes 2 x 2 texels at a time, a warp 64 x 2
        const Square fine = square(pass, 0, by, bx);
        typename Kind::Places places(pass, 0, frame, fine);
        places.pad(pass, 0, fine);
        Square half_size = {};
        typename Kind::Places half_places;
        if (pass.levels > 1) {
            half_size = square(pass, 1, by, bx);
            half_places = typename Kind::Places(pass, 1, frame, half_size);
            half_places.pad(pass, 1, half_size);
        }
        Range range = {0, 0}, half_range = {0, 0};
        const int x = 2 * lane;
#pragma unroll
        for (int first = 0; first < QUADS; first += AHEAD) {
            Pixels pixels[AHEAD][2];
#pragma unroll
            for (int q = 0; q < AHEAD; q++) {
                const int y = 2 * (warp + THREADS / 32 * (first + q));
                if (x < fine.columns && y < fine.rows) {
                    const int below = y + 1 < fine.rows;
                    const Source* row = source + (i64)(fine.y + y) * width * Kind::SAMPLES;
                    pixels[q][0].read(row, fine.x + x, width, aligned);
                    pixels[q][1].read(row + (i64)below * width * Kind::SAMPLES, fine.x + x, width, aligned);
                }
            }
#pragma unroll
            for (int q = 0; q < AHEAD; q++) {
                const int y = 2 * (warp + THREADS / 32 * (first + q));
                if (x < fine.columns && y < fine.rows) {
                    Texel quad[2][2];
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        quad[r][0] = Kind::texel(pass, tables, pixels[q][r].values);
                        quad[r][1] = Kind::texel(pass, tables, pixels[q][r].values + Kind::SAMPLES);
                        Kind::widen(range, quad[r][0]);
                        Kind::widen(range, quad[r][1]);
                        if (r == 0 || y + 1 < fine.rows) {
                            Kind::store_source(pass, tables, places, y + r, x, x + 1 < fine.columns, pixels[q][r].values, quad[r]);
                        }
                    }
                    Texel halved = Kind::halve(quad[0][0], quad[0][1], quad[1][0], quad[1][1]);
                    odd[y / 2 * (BLOCK / 2) + lane] = halved;
                    if (pass.levels > 1) {
                        Kind::widen(half_range, halved);
                        Kind::store(tables, half_places, y / 2, lane, halved);
                    }
                }
            }
        }
        if (Kind::RANGES) {
            merge_range(pass, 0, frame, fine, range);
            if (pass.levels > 1) merge_range(pass, 1, frame, half_size, half_range);
        }

        // the others, from what the one before has left in shared memory
#pragma unroll 1
        for (int n = 2; n <= LEVELS; n++) {
            if (n >= pass.levels && !(n == LEVELS && pass.carries)) break;
            __syncthreads();
            const int side = BLOCK >> n, y = thread >> (BLOCK_BITS - n), x = thread & (side - 1);
            const Square s = square(pass, n, by, bx), finer = square(pass, n - 1, by, bx);
            const Texel* from = n % 2 ? even : odd;
            Texel* to = n % 2 ? odd : even;
            Range range = {0, 0};
            typename Kind::Places places;
            if (n < LEVELS) {
                places = typename Kind::Places(pass, n, frame, s);
                places.pad(pass, n, s);
            }
            if (y < s.rows && x < s.columns) {
                const Texel* upper = from + 2 * y * (2 * side);
                const Texel* lower = 2 * y + 1 < finer.rows ? upper + 2 * side : upper;
                const int left = 2 * x, right = left + 1 < finer.columns ? left + 1 : left;
                Texel halved = Kind::halve(upper[left], upper[right], lower[left], lower[right]);
                if (n < LEVELS) {
                    to[y * side + x] = halved;
                    Kind::widen(range, halved);
                    Kind::store(tables, places, y, x, halved);
                } else {
                    Kind::carry((Texel*)(pass.carry + frame * pass.carry_stride) + (i64)s.y * pass.width[n] + s.x, halved);
                }
            }
            if (Kind::RANGES && n < LEVELS && thread < max(32, side * side)) merge_range(pass, n, frame, s, range);
        }
        __syncthreads();
    }
}
