// Depth: metres as the bits of float32; those of valid depths, all positive, sort as integers. 0 is invalid.
//
// SOURCE: u8, u16, half, float or double; CARRIED: 1 for the texels of another pass (SOURCE is float then).

struct Depth {
    typedef SOURCE Source;
    typedef int Texel;
    enum { SAMPLES = 1, RANGES = 1, TEXEL_0 = 4, TEXEL_1 = 0, NOTHING = 0x7F800000 };  // the bits of infinity

    struct Tables {};

    __device__ static void load(const Pass&, Tables&) {}

    __device__ static Texel texel(const Pass& pass, const Tables&, const Source* values) {
        const int bits = (int)__float_as_uint(CARRIED ? narrowed(values[0]) : narrowed(values[0]) / pass.meter);
        return bits > 0 && bits < NOTHING ? bits : 0;
    }

    __device__ static void store_source(
        const Pass&, const Tables&, const Square& s, int y, int x, bool both, const Source*, const Texel* t
    ) {
        u8* at = s.planes[0].texel + y * s.planes[0].pitch + x * 4;
        if (both) {
            ::store(at, (u32)t[0], (u32)t[1]);
        } else {
            ::store(at, (u32)t[0]);
        }
    }

    __device__ static void store(const Tables&, const Square& s, int y, int x, Texel t) {
        ::store(s.planes[0].texel + y * s.planes[0].pitch + x * 4, (u32)t);
    }

    // The lower median of the valid values among four, 0 if none is valid.
    __device__ static Texel halve(Texel a, Texel b, Texel c, Texel d) {
        a = a > 0 ? a : (int)NOTHING;
        b = b > 0 ? b : (int)NOTHING;
        c = c > 0 ? c : (int)NOTHING;
        d = d > 0 ? d : (int)NOTHING;
        const int one = max(min(a, b), min(c, d)), other = min(max(a, b), max(c, d));
        const int smallest = min(min(a, b), min(c, d)), second = min(one, other), third = max(one, other);
        const int median = third < NOTHING ? second : smallest;
        return median < NOTHING ? median : 0;
    }

    __device__ static void pad(const Square& s) { ::pad<u32>(s, s.planes[0]); }

    __device__ static Range nothing() {
        const Range range = {NOTHING, 0};
        return range;
    }

    __device__ static void widen(Range& range, Texel t) {
        range.low = min(range.low, t > 0 ? (u32)t : (u32)NOTHING);
        range.high = max(range.high, (u32)t);
    }

    __device__ static Range kept(Range range) {
        range.low = NOTHING - range.low;
        return range;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) depth_tiles(const Pass pass) { make_pyramid<Depth>(pass); }
