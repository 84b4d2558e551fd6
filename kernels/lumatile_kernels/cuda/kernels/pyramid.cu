// The processing of a frame on the GPU: one pass over the input makes all tiles of up to six levels.
//
// A block of 256 threads takes 64 x 64 texels of level 0, which are 32 x 32 of level 1 and so on down to 2 x 2; each of
// these squares lies in one tile of its level. If the pyramid is taller, a seventh level, one texel per block, is
// carried to another pass. Blocks stay resident and take one square after another, of one frame after another (a
// persistent grid), so that their tables are loaded once.
//
// This text is compiled after texels.cu. The parts that differ between kinds of arrays are in image.cu, depth.cu and
// segmentation.cu, which are compiled after it.

enum {
    TILE = 256,   // edge of a tile, in texels
    PITCH = 256,  // rows of tiles are padded to multiples of this many bytes
    BLOCK_BITS = 6,
    BLOCK = 1 << BLOCK_BITS,  // edge of a block's square in level 0, in texels
    THREADS = 256,
    BLOCKS_PER_SM = 3,  // blocks that a multiprocessor must be able to hold: limits the registers
    LEVELS = 6,       // levels that a pass stores
    MAX_FRAMES = 32,  // frames of one launch
    COPIES = 16,      // of a table in shared memory, so that lanes rarely access the same bank
    COPY_MASK = COPIES - 1,
};

// The arguments of a launch; passes.py has the same fields in the same order.
struct Pass {
    int height[LEVELS + 1];  // texels of this pass's levels, finest first
    int width[LEVELS + 1];
    int first_row[LEVELS];  // of each level, an index in `rows`; the tile row is added
    int levels;             // how many are stored
    int frames;
    int blocks_y;
    int blocks_x;
    float meter;                  // depth: units per metre
    float low, high;              // images: limits of linear light
    int carries;                  // whether level LEVELS goes to `carry`
    const i64* rows;              // (tile rows, 3): index of the first tile, its byte offset in plane 0 and in plane 1
    u8* out;                      // frames of `out_stride` bytes
    i64 out_stride;
    u32* ranges;                  // frames of `ranges_stride` pairs: see Range
    i64 ranges_stride;
    u8* carry;                    // frames of `carry_stride` bytes, (height, width) carried texels
    i64 carry_stride;
    const float* light;           // images of codes: the linear light of each code
    const u16* halves;            // images of 16-bit codes: the same as float16, rounded once
    const u32* buckets;           // images: encodes sRGB, see tables.srgb_buckets
    const u32* palette;           // segmentations: the color of each id
    const void* sources[MAX_FRAMES];
};

// Least and greatest value. In `ranges` both are encoded so that the greater of two is kept and zero means no value.
struct Range {
    u32 low;
    u32 high;
};

// The place of a block's square of one level in one plane.
struct Place {
    u8* texel;    // the first of the square
    int pitch;    // bytes
    int padding;  // bytes after each row of the square, to be zeroed, if the square has the last column of the level
};

// A block's square of one level: its first texel and its size, which is smaller at the edges.
struct Square {
    int y, x;
    int rows, columns;
    Place planes[2];
    u32* range;  // of its tile
};

// The work of a block: a square of level 0 of one frame, and the squares that it becomes.
struct Item {
    const u8* source;  // the first texel of the square
    u8* carry;         // the place of its texel of level LEVELS
    int whole;         // whether it has its full size, and wide reads are aligned
    Square levels[LEVELS + 1];
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

template <int TEXEL>
__device__ Place place(const Pass& pass, int n, int frame, int plane, const Square& s) {
    const i64* row = pass.rows + 3 * (pass.first_row[n] + s.y / TILE);
    const int rows = min((int)TILE, pass.height[n] - s.y / TILE * TILE);
    const int columns = min((int)TILE, pass.width[n] - s.x / TILE * TILE);
    Place p;
    p.pitch = (columns * TEXEL + PITCH - 1) / PITCH * PITCH;
    p.padding = s.x + s.columns < pass.width[n] ? 0 : p.pitch - columns * TEXEL;
    p.texel = pass.out + frame * pass.out_stride + row[1 + plane] + (i64)(s.x / TILE) * rows * TILE * TEXEL +
              s.y % TILE * p.pitch + s.x % TILE * TEXEL;
    return p;
}

// Lanes 0 ... LEVELS of a warp describe an item, each a level.
template <class Kind>
__device__ void describe(const Pass& pass, int number, Item& item) {
    enum { TEXEL = Kind::SAMPLES * sizeof(typename Kind::Source), WORD = Pair<typename Kind::Source, Kind::SAMPLES>::WORD };
    const int n = threadIdx.x % 32, squares = pass.blocks_y * pass.blocks_x;
    if (n > LEVELS || number >= squares * pass.frames) return;
    const int frame = number / squares, block = number % squares;
    const int by = block / pass.blocks_x, bx = block % pass.blocks_x;
    Square s;
    s.y = by * (BLOCK >> n);
    s.x = bx * (BLOCK >> n);
    s.rows = min(BLOCK >> n, pass.height[n] - s.y);
    s.columns = min(BLOCK >> n, pass.width[n] - s.x);
    if (n < pass.levels) {
        s.planes[0] = place<Kind::TEXEL_0>(pass, n, frame, 0, s);
        if (Kind::TEXEL_1) s.planes[1] = place<Kind::TEXEL_1>(pass, n, frame, 1, s);
        const i64 tile = pass.rows[3 * (pass.first_row[n] + s.y / TILE)] + s.x / TILE;
        s.range = pass.ranges + 2 * (frame * pass.ranges_stride + tile);
    }
    item.levels[n] = s;
    if (n == 0) {
        const i64 pitch = (i64)pass.width[0] * TEXEL;
        item.source = (const u8*)pass.sources[frame] + s.y * pitch + (i64)s.x * TEXEL;
        item.whole = s.rows == BLOCK && s.columns == BLOCK && ((u64)item.source | (u64)pitch) % WORD == 0;
    }
    if (n == LEVELS) {
        item.carry = pass.carry + frame * pass.carry_stride + ((i64)s.y * pass.width[n] + s.x) * sizeof(typename Kind::Texel);
    }
}

// Zeroes the bytes after the last texels of rows.
template <class Texel>
__device__ void pad(const Square& s, const Place& p) {
    if (!p.padding) return;
    const int count = p.padding / (int)sizeof(Texel);
    for (int i = threadIdx.x; i < s.rows * count; i += THREADS) {
        store(p.texel + i / count * p.pitch + (s.columns + i % count) * (int)sizeof(Texel), Texel());
    }
}

template <class Kind>
__device__ void merge_range(const Square& s, Range found) {
    const Range range = Kind::kept(found);
    const u32 low = warp_max(range.low), high = warp_max(range.high);
    if (threadIdx.x % 32 == 0 && high) {
        atomicMax(s.range, low);
        atomicMax(s.range + 1, high);
    }
}

// Levels 0 and 1: a thread takes 2 x 2 texels at a time, a warp 64 x 2. Level 1 is left in `halves`.
template <class Kind, bool WHOLE>
__device__ void make_first_levels(
    const Pass& pass, const typename Kind::Tables& tables, const Item& item, typename Kind::Texel* halves
) {
    typedef typename Kind::Source Source;
    typedef typename Kind::Texel Texel;
    typedef Pair<Source, Kind::SAMPLES> Pixels;
    enum { WARPS = THREADS / 32, QUADS = BLOCK * BLOCK / 4 / THREADS, AHEAD = Pixels::AHEAD };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, x = 2 * lane;
    const Square& fine = item.levels[0];
    const Square& coarse = item.levels[1];
    const bool halved_too = pass.levels > 1;
    const bool both = WHOLE || x + 1 < fine.columns;
    const i64 pitch = (i64)pass.width[0] * Kind::SAMPLES * sizeof(Source);
    const u8* source = item.source + 2 * warp * pitch + x * (int)(Kind::SAMPLES * sizeof(Source));
    Range range = Kind::nothing(), coarse_range = Kind::nothing();
#pragma unroll
    for (int first = 0; first < QUADS; first += AHEAD) {
        Pixels pixels[AHEAD][2];
#pragma unroll
        for (int q = 0; q < AHEAD; q++) {
            const int y = 2 * (warp + WARPS * (first + q));
            const u8* upper = source + 2 * WARPS * (first + q) * pitch;
            if (WHOLE) {
                pixels[q][0].read(upper);
                pixels[q][1].read(upper + pitch);
            } else if (x < fine.columns && y < fine.rows) {
                pixels[q][0].read_edge(upper, both);
                pixels[q][1].read_edge(y + 1 < fine.rows ? upper + pitch : upper, both);
            }
        }
#pragma unroll
        for (int q = 0; q < AHEAD; q++) {
            const int y = 2 * (warp + WARPS * (first + q));
            if (WHOLE || (x < fine.columns && y < fine.rows)) {
                Texel quad[2][2];
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    quad[r][0] = Kind::texel(pass, tables, pixels[q][r].values);
                    quad[r][1] = Kind::texel(pass, tables, pixels[q][r].values + Kind::SAMPLES);
                    Kind::widen(range, quad[r][0]);
                    Kind::widen(range, quad[r][1]);
                    if (WHOLE || r == 0 || y + 1 < fine.rows) {
                        Kind::store_source(pass, tables, fine, y + r, x, both, pixels[q][r].values, quad[r]);
                    }
                }
                const Texel halved = Kind::halve(quad[0][0], quad[0][1], quad[1][0], quad[1][1]);
                halves[y / 2 * (BLOCK / 2) + lane] = halved;
                if (halved_too) {
                    Kind::widen(coarse_range, halved);
                    Kind::store(tables, coarse, y / 2, lane, halved);
                }
            }
        }
    }
    if (Kind::RANGES) {
        merge_range<Kind>(fine, range);
        if (halved_too) merge_range<Kind>(coarse, coarse_range);
    }
}

template <class Kind>
__device__ void make_pyramid(const Pass& pass) {
    typedef typename Kind::Texel Texel;
    __shared__ typename Kind::Tables tables;
    __shared__ Texel odd[BLOCK / 2 * BLOCK / 2];   // levels 1, 3, 5
    __shared__ Texel even[BLOCK / 4 * BLOCK / 4];  // levels 2, 4
    __shared__ Item items[2];                      // this one and the next

    const int thread = threadIdx.x, items_of_all = pass.blocks_y * pass.blocks_x * pass.frames;
    if (thread < 32) describe<Kind>(pass, blockIdx.x, items[0]);
    Kind::load(pass, tables);
    __syncthreads();
    int turn = 0;
    for (int number = blockIdx.x; number < items_of_all; number += gridDim.x, turn ^= 1) {
        const Item& item = items[turn];
        if (item.whole) {
            make_first_levels<Kind, true>(pass, tables, item, odd);
        } else {
            make_first_levels<Kind, false>(pass, tables, item, odd);
        }
        if (thread >= THREADS - 32) describe<Kind>(pass, number + gridDim.x, items[turn ^ 1]);
        Kind::pad(item.levels[0]);
        if (pass.levels > 1) Kind::pad(item.levels[1]);

        // the other levels, each from the finer level in shared memory
#pragma unroll 1
        for (int n = 2; n <= LEVELS; n++) {
            if (n >= pass.levels && !(n == LEVELS && pass.carries)) break;
            __syncthreads();
            const int side = BLOCK >> n, y = thread >> (BLOCK_BITS - n), x = thread & (side - 1);
            const Square& s = item.levels[n];
            const Square& finer = item.levels[n - 1];
            const Texel* from = n % 2 ? even : odd;
            Texel* to = n % 2 ? odd : even;
            Range range = Kind::nothing();
            if (y < s.rows && x < s.columns) {
                const Texel* upper = from + 2 * y * (2 * side);
                const Texel* lower = 2 * y + 1 < finer.rows ? upper + 2 * side : upper;
                const int left = 2 * x, right = left + 1 < finer.columns ? left + 1 : left;
                const Texel halved = Kind::halve(upper[left], upper[right], lower[left], lower[right]);
                if (n < LEVELS) {
                    to[y * side + x] = halved;
                    Kind::widen(range, halved);
                    Kind::store(tables, s, y, x, halved);
                } else {
                    *(Texel*)item.carry = halved;
                }
            }
            if (n < LEVELS) {
                Kind::pad(s);
                if (Kind::RANGES && thread < max(32, side * side)) merge_range<Kind>(s, range);
            }
        }
        __syncthreads();
    }
}
