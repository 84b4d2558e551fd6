// Segmentations: class ids as they are, and their colors, looked up in every level.
//
// SOURCE: u8 or u16. What a pass has carried is of the same type.

struct Segmentation {
    typedef SOURCE Source;
    typedef SOURCE Texel;
    enum { SAMPLES = 1, RANGES = 1, IDS = sizeof(SOURCE) == 1 ? 256 : 65536 };

    struct Tables {
        u32 palette[IDS == 256 ? 256 * COPIES : 1];
        const u32* large;
    };

    struct Places {
        Place ids, colors;
        __device__ Places() {}
        __device__ Places(const Pass& pass, int n, int frame, const Square& s)
            : ids(place<sizeof(SOURCE)>(pass, n, frame, 0, s)), colors(place<4>(pass, n, frame, 1, s)) {}
        __device__ void pad(const Pass& pass, int n, const Square& s) const {
            ::pad(pass, n, s, ids, (SOURCE)0);
            ::pad(pass, n, s, colors, (u32)0);
        }
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
        const Pass&, const Tables& tables, const Places& to, int y, int x, bool both, const Source*, const Texel* t
    ) {
        u8* id = to.ids.texel + (i64)y * to.ids.pitch + x * (int)sizeof(SOURCE);
        u8* shown = to.colors.texel + (i64)y * to.colors.pitch + x * 4;
        if (both) {
            ::store(id, t[0], t[1]);
            ::store(shown, color(tables, t[0]), color(tables, t[1]));
        } else {
            ::store(id, t[0]);
            ::store(shown, color(tables, t[0]));
        }
    }

    __device__ static void store(const Tables& tables, const Places& to, int y, int x, Texel t) {
        ::store(to.ids.texel + (i64)y * to.ids.pitch + x * (int)sizeof(SOURCE), t);
        ::store(to.colors.texel + (i64)y * to.colors.pitch + x * 4, color(tables, t));
    }

    // The most frequent of four; of equally frequent ones the first.
    __device__ static Texel halve(Texel a, Texel b, Texel c, Texel d) {
        if (a == b || a == c || a == d) return a;
        if (b == c || b == d) return b;
        return c == d ? c : a;
    }

    __device__ static void carry(Texel* to, Texel t) { *to = t; }

    __device__ static void widen(Range& range, Texel t) {
        range.low = max(range.low, 65536u - t);
        range.high = max(range.high, t + 1u);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) segmentation_tiles(const Pass pass) {
    make_pyramid<Segmentation>(pass);
}
