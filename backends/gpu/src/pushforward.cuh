// What emitted kernels share: conversions, comparisons that keep NaN, wrapping integers, Philox4x32-10, normal numbers, tensor cores, launches.
// Compiled by nvcc, or by a C++ compiler with CUDA_EMU defined, whose header then supplies what only a device has.
#ifndef PUSHFORWARD_CUH
#define PUSHFORWARD_CUH

#ifndef CUDA_EMU
#define PF_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif

// A double by its bits.
__device__ inline double pf_double(unsigned long long bits)
{
#ifdef CUDA_EMU
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
#else
    return __longlong_as_double((long long)bits);
#endif
}

// Integers wrap around.
__device__ inline int pf_add(int x, int y) { return int(unsigned(x) + unsigned(y)); }
__device__ inline int pf_sub(int x, int y) { return int(unsigned(x) - unsigned(y)); }
__device__ inline int pf_mul(int x, int y) { return int(unsigned(x) * unsigned(y)); }
__device__ inline int pf_neg(int x) { return int(0u - unsigned(x)); }
__device__ inline int pf_fma(int x, int y, int z) { return pf_add(pf_mul(x, y), z); }

__device__ inline unsigned pf_min(unsigned x, unsigned y) { return x < y ? x : y; }
__device__ inline unsigned long long pf_min(unsigned long long x, unsigned long long y) { return x < y ? x : y; }

// NaN if either is.
__device__ inline float pf_max(float x, float y) { return x > y || x != x ? x : y; }
__device__ inline double pf_max(double x, double y) { return x > y || x != x ? x : y; }
__device__ inline int pf_max(int x, int y) { return x > y ? x : y; }

// Cut towards zero, held inside int; NaN gives 0.
__device__ inline int pf_int(double x)
{
    if (!(x >= -2147483648.0)) {
        return x != x ? 0 : -2147483647 - 1;
    }
    return x >= 2147483647.0 ? 2147483647 : int(x);
}
__device__ inline int pf_int(float x)
{
    if (!(x >= -2147483648.0f)) {
        return x != x ? 0 : -2147483647 - 1;
    }
    return x >= 2147483648.0f ? 2147483647 : int(x);
}

// One rounding each: the compiler does not fuse them.
#ifdef CUDA_EMU
__device__ inline float pf_times(float x, float y) { return x * y; }
__device__ inline float pf_plus(float x, float y) { return x + y; }
#else
__device__ inline float pf_times(float x, float y) { return __fmul_rn(x, y); }
__device__ inline float pf_plus(float x, float y) { return __fadd_rn(x, y); }
#endif
__device__ inline float pf_times_plus(float x, float y, float z) { return pf_plus(pf_times(x, y), z); }

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011); key words are seed and domain.
struct PfBits {
    unsigned word[4];
};

__device__ inline PfBits pf_philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1)
{
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xd2511f53u, c0);
        const unsigned low0 = 0xd2511f53u * c0;
        const unsigned high1 = __umulhi(0xcd9e8d57u, c2);
        const unsigned low1 = 0xcd9e8d57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return {{c0, c1, c2, c3}};
}

// The two words that make the pair of normal numbers in which an element stands.
__device__ inline void pf_words(unsigned seed, unsigned domain, unsigned stream, unsigned direction, unsigned step,
                                unsigned long long element, unsigned* radius, unsigned* angle)
{
    const unsigned long long quad = element >> 2;
    const unsigned high = direction << 8 | (unsigned(quad >> 32) & 0xffu);
    const PfBits bits = pf_philox(unsigned(quad), stream, high, step, seed, domain);
    const bool second = (element & 2u) != 0u;
    *radius = second ? bits.word[2] : bits.word[0];
    *angle = second ? bits.word[3] : bits.word[1];
}

// ln(((bits >> 8) + 1) / 2^24)
__device__ inline float pf_ln_unit(unsigned bits)
{
    const unsigned m = __float_as_uint(float(int((bits >> 8) + 1u)));
    const unsigned shift = (m - 0x3f3504f3u) >> 23;
    const float f = __uint_as_float(m - (shift << 23)) - 1.0f;
    const float e = float(int(shift) - 24);
    const float z = pf_times(f, f);
    float p = 7.0376836e-2f;
    p = pf_times_plus(p, f, -1.151461e-1f);
    p = pf_times_plus(p, f, 1.16769984e-1f);
    p = pf_times_plus(p, f, -1.2420141e-1f);
    p = pf_times_plus(p, f, 1.4249323e-1f);
    p = pf_times_plus(p, f, -1.6668058e-1f);
    p = pf_times_plus(p, f, 2.0000714e-1f);
    p = pf_times_plus(p, f, -2.4999994e-1f);
    p = pf_times_plus(p, f, 3.333333e-1f);
    float y = pf_times(pf_times(p, f), z);
    y = pf_plus(y, pf_times(e, -2.1219444e-4f));
    y = pf_plus(y, -pf_times(0.5f, z));
    return pf_plus(pf_plus(f, y), pf_times(e, 6.933594e-1f));
}

// The sine of 2 pi u, u = (bits >> 8) / 2^24, `turns` quarter turns on.
__device__ inline float pf_sin_turn(unsigned bits, unsigned turns)
{
    const unsigned k = bits >> 8;
    const unsigned nearest = (k + 0x200000u) >> 22;
    const float x = pf_times(float(int(k) - int(nearest << 22)), 3.7450703e-7f);
    const float z = pf_times(x, x);
    float s = pf_times_plus(-1.9515296e-4f, z, 8.332161e-3f);
    s = pf_times_plus(s, z, -1.6666655e-1f);
    s = pf_plus(pf_times(pf_times(s, z), x), x);
    float c = pf_times_plus(2.4433157e-5f, z, -1.3887316e-3f);
    c = pf_times_plus(c, z, 4.1666646e-2f);
    c = pf_plus(pf_plus(pf_times(pf_times(c, z), z), -pf_times(0.5f, z)), 1.0f);
    const unsigned quarter = nearest + turns;
    return __uint_as_float(__float_as_uint((quarter & 1u) != 0u ? c : s) ^ (quarter & 2u) << 30);
}

// A standard normal number: a function of where it stands. Even elements of a pair are cosines.
__device__ inline float pf_normal_f32(unsigned seed, unsigned domain, unsigned stream, unsigned direction, unsigned step,
                                      unsigned long long element)
{
    unsigned radius, angle;
    pf_words(seed, domain, stream, direction, step, element, &radius, &angle);
    const float r = sqrtf(pf_times(-2.0f, pf_ln_unit(radius)));
    return pf_times(r, pf_sin_turn(angle, (unsigned(element) & 1u) ^ 1u));
}

__device__ inline double pf_normal_f64(unsigned seed, unsigned domain, unsigned stream, unsigned direction, unsigned step,
                                       unsigned long long element)
{
    unsigned radius, angle;
    pf_words(seed, domain, stream, direction, step, element, &radius, &angle);
    const double u1 = double((radius >> 8) + 1u) * (1.0 / 16777216.0);
    const double turn = 6.283185307179586 * (double(angle >> 8) * (1.0 / 16777216.0));
    const double r = sqrt(-2.0 * log(u1));
    return r * ((element & 1u) == 0u ? cos(turn) : sin(turn));
}

#ifndef CUDA_EMU
// Rounded to TF32, ties away from zero.
__device__ inline float pf_tf32(float x)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}

// acc[4] += a[4] * b[2], the fragments of a warp.
__device__ inline void pf_mma_m16n8k8_tf32(float* acc, const float* a, const float* b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
                 : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
                   "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
#endif

#endif
