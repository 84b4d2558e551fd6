// Images: sRGB codes or linear light to premultiplied linear light, filtered with a box.
//
// SOURCE: u8, u16, half, float or double; CHANNELS: 1, 3 or 4; FORMAT: bytes of a texel, 8 (rgba16float),
// 4 (rgba8unorm-srgb) or 16 (rgba32float); CARRIED: 1 for the texels of another pass (SOURCE is float then).

template <class Source>
struct Codes {
    enum { BITS = 0 };
};
template <>
struct Codes<u8> {
    enum { BITS = 8 };
};
template <>
struct Codes<u16> {
    enum { BITS = 16 };
};

template <int BYTES>
struct Packed;
template <>
struct Packed<4> {
    typedef u32 type;
};
template <>
struct Packed<8> {
    typedef uint2 type;
};
template <>
struct Packed<16> {
    typedef uint4 type;
};

__device__ inline float clamped(float x, float low, float high) {
    x = x != x ? 0.0f : x + 0.0f;  // -0 becomes +0
    return fminf(fmaxf(x, low), high);
}

__device__ inline float code_value(u8 code) { return (float)code; }
__device__ inline float code_value(u16 code) { return (float)code; }
template <class Source>
__device__ float code_value(Source) {
    return 0.0f;
}
__device__ inline int code_index(u8 code) { return code; }
__device__ inline int code_index(u16 code) { return code; }
template <class Source>
__device__ int code_index(Source) {
    return 0;
}

struct Image {
    typedef SOURCE Source;
    typedef Packed<FORMAT>::type Stored;
    enum {
        CODE_BITS = Codes<Source>::BITS,
        SAMPLES = CHANNELS,  // values of the source per texel
        COLORS = CHANNELS < 3 ? CHANNELS : 3,
        RANGES = 0,
        TEXEL_0 = FORMAT,
        TEXEL_1 = 0,
        BUCKETS = 1665,
    };

    // In shared memory, four channels take one access; with three, no two lanes access the same bank.
    struct alignas(CHANNELS == 4 ? 16 : 4) Texel {
        float c[CHANNELS];
    };

    struct Tables {
        float light[CODE_BITS == 8 ? 256 * COPIES : 1];
        u32 buckets[FORMAT == 4 ? BUCKETS : 1];
    };

    __device__ static void load(const Pass& pass, Tables& tables) {
        if (CODE_BITS == 8) {
            for (int i = threadIdx.x; i < 256 * COPIES; i += THREADS) tables.light[i] = pass.light[i / COPIES];
        }
        if (FORMAT == 4) {
            for (int i = threadIdx.x; i < BUCKETS; i += THREADS) tables.buckets[i] = pass.buckets[i];
        }
    }

    __device__ static float light(const Pass& pass, const Tables& tables, Source value) {
        if (CODE_BITS == 8) return tables.light[code_index(value) * COPIES + (threadIdx.x & COPY_MASK)];
        if (CODE_BITS == 16) return __ldg(pass.light + code_index(value));
        return clamped(narrowed(value), pass.low, pass.high);
    }

    __device__ static Texel texel(const Pass& pass, const Tables& tables, const Source* values) {
        Texel t;
#pragma unroll
        for (int k = 0; k < CHANNELS; k++) t.c[k] = CARRIED ? narrowed(values[k]) : light(pass, tables, values[k]);
        if (CHANNELS == 4 && !CARRIED) {
            const Source last = values[CHANNELS - 1];
            const float alpha = CODE_BITS > 0 ? code_value(last) / (float)((1 << CODE_BITS) - 1)
                                          : clamped(narrowed(last), 0.0f, 1.0f);
#pragma unroll
            for (int k = 0; k < COLORS; k++) t.c[k] = t.c[k] * alpha + 0.0f;
            t.c[CHANNELS - 1] = alpha;
        }
        return t;
    }

    // The number of sRGB thresholds that are at most x, which is in [0, 1].
    __device__ static u32 srgb(const Tables& tables, float x) {
        u32 bits = __float_as_uint(fmaxf(x, 0.0001220703125f));  // 2^-13
        return (tables.buckets[(bits >> 16) - 0x3900] + (bits & 0xFFFF)) >> 16;
    }

    __device__ static u32 packed(u32 r, u32 g, u32 b, u32 a) { return r | g << 8 | b << 16 | a << 24; }

    __device__ static void pack(const Tables& tables, float r, float g, float b, float a, u32& to) {
        to = packed(srgb(tables, r), srgb(tables, g), srgb(tables, b), CHANNELS < 4 ? 255 : (u32)rintf(a * 255.0f));
    }
    __device__ static void pack(const Tables&, float r, float g, float b, float a, uint2& to) {
        to = make_uint2(half_pair(r, g), half_pair(b, a));
    }
    __device__ static void pack(const Tables&, float r, float g, float b, float a, uint4& to) {
        to = make_uint4(__float_as_uint(r), __float_as_uint(g), __float_as_uint(b), __float_as_uint(a));
    }

    __device__ static Stored pack(const Tables& tables, const Texel& t) {
        Stored stored;
        pack(tables, t.c[0], t.c[COLORS / 3], t.c[COLORS - 1], CHANNELS < 4 ? 1.0f : t.c[CHANNELS - 1], stored);
        return stored;
    }

    __device__ static void pack_codes(u32 r, u32 g, u32 b, u32& to) { to = packed(r, g, b, 255); }
    __device__ static void pack_codes(u32 r, u32 g, u32 b, uint2& to) { to = make_uint2(r | g << 16, b | 0x3C00u << 16); }
    __device__ static void pack_codes(u32, u32, u32, uint4&) {}

    // Level 0: an opaque code is stored as its linear light, rounded once, or unchanged.
    __device__ static Stored pack_source(const Pass& pass, const Tables& tables, const Source* values, const Texel& t) {
        if (CHANNELS < 4 && (CODE_BITS == 8 && FORMAT == 4 || CODE_BITS == 16 && FORMAT == 8)) {
            u32 c[3];
#pragma unroll
            for (int k = 0; k < 3; k++) {
                const int code = code_index(values[k < COLORS ? k : 0]);
                c[k] = CODE_BITS == 8 ? code : __ldg(pass.halves + code);
            }
            Stored stored;
            pack_codes(c[0], c[1], c[2], stored);
            return stored;
        }
        return pack(tables, t);
    }

    __device__ static void store_source(
        const Pass& pass, const Tables& tables, const Square& s, int y, int x, bool both, const Source* values, const Texel* t
    ) {
        u8* at = s.planes[0].texel + y * s.planes[0].pitch + x * FORMAT;
        const Stored left = pack_source(pass, tables, values, t[0]);
        if (both) {
            ::store(at, left, pack_source(pass, tables, values + CHANNELS, t[1]));
        } else {
            ::store(at, left);
        }
    }

    __device__ static void store(const Tables& tables, const Square& s, int y, int x, const Texel& t) {
        ::store(s.planes[0].texel + y * s.planes[0].pitch + x * FORMAT, pack(tables, t));
    }

    __device__ static void pad(const Square& s) { ::pad<Stored>(s, s.planes[0]); }

    __device__ static Texel halve(const Texel& a, const Texel& b, const Texel& c, const Texel& d) {
        Texel mean;
#pragma unroll
        for (int k = 0; k < CHANNELS; k++) mean.c[k] = ((a.c[k] + b.c[k]) + (c.c[k] + d.c[k])) * 0.25f;
        return mean;
    }

    __device__ static Range nothing() { return Range(); }
    __device__ static Range kept(Range range) { return range; }
    __device__ static void widen(Range&, const Texel&) {}
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) image_tiles(const Pass pass) { make_pyramid<Image>(pass); }
