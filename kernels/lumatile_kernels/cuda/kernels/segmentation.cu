// Segmentations: unchanged class ids, and their colors, which are looked up in every level.
//
// SOURCE: u8 or u16. The texels that a pass carries have the same type.

struct Segmentation {
    typedef SOURCE Source;
    typedef SOURCE Texel;
    enum { SAMPLES = 1, RANGES = 1, TEXEL_0 = sizeof(SOURCE), TEXEL_1 = 4, IDS = sizeof(SOURCE) == 1 ? 256 : 65536 };

    struct Tables {
        u32 palette[IDS == 256 ? 256 * COPIES : 1];
        const u32* large;
    };

    __device__ static void load(const Pass& pass, Tables& tables) {
        if (IDS == 256) {
            for (int i = threadIdx.x; i < 256 * COPIES; i += THREADS) tables.palette[i] = pass.palette[i / COPIES];
        }
        if (threadIdx.x == 0) tables.large = pass.palette;
    }

    __device__ static u32 color(const Tables& tables, Texel id) {
        return IDS == 256 ? tables.palette[id * COPIES + (threadIdx.x & COPY_MASK)] : __ldg(tables.large + id);
    }

    __device__ static Texel texel(const Pass&, const Tables&, const Source* values) { return values[0]; }

    __device__ static void store_source(
        const Pass&, const Tables& tables, const Square& s, int y, int x, bool both, const Source*, const Texel* t
    ) {
        u8* id = s.planes[0].texel + y * s.planes[0].pitch + x * (int)sizeof(SOURCE);
        u8* shown = s.planes[1].texel + y * s.planes[1].pitch + x * 4;
        if (both) {
            ::store(id, t[0], t[1]);
            ::store(shown, color(tables, t[0]), color(tables, t[1]));
        } else {
            ::store(id, t[0]);
            ::store(shown, color(tables, t[0]));
        }
    }

    __device__ static void store(const Tables& tables, const Square& s, int y, int x, Texel t) {
        ::store(s.planes[0].texel + y * s.planes[0].pitch + x * (int)sizeof(SOURCE), t);
        ::store(s.planes[1].texel + y * s.planes[1].pitch + x * 4, color(tables, t));
    }

    // The most frequent of four; of equally frequent values the first.
    __device__ static Texel halve(Texel a, Texel b, Texel c, Texel d) {
        if (a == b || a == c || a == d) return a;
        if (b == c || b == d) return b;
        return c == d ? c : a;
    }

    __device__ static void pad(const Square& s) {
        ::pad<SOURCE>(s, s.planes[0]);
        ::pad<u32>(s, s.planes[1]);
    }

    __device__ static Range nothing() {
        const Range range = {0xFFFFFFFFu, 0};
        return range;
    }

    __device__ static void widen(Range& range, Texel t) {
        range.low = min(range.low, (u32)t);
        range.high = max(range.high, (u32)t);
    }

    __device__ static Range kept(Range range) {
        const bool any = range.low <= range.high;
        range.low = any ? 65536 - range.low : 0;
        range.high = any ? range.high + 1 : 0;
        return range;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) segmentation_tiles(const Pass pass) {
    make_pyramid<Segmentation>(pass);
}
