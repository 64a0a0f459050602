// Runs CUDA C++ on the CPU, as it stands: `g++ -x c++ -DCUDA_EMU -DCUDA_EMU_UNIT='"name"' -include cuda_emu.h name.cu`. A file that includes several
// `.cu` files defines CUDA_EMU_UNIT anew before each.
//
// Each thread of a block is a fiber, which runs until it waits: at a barrier, or in a warp's exchange. Blocks are spread over threads of the
// operating system. What would hang or be undefined on a device is an error with a message here: a barrier or an exchange that not all threads
// reach, a launch that no device takes. Shared memory holds NaN at a block's start, so that what is read before it is written shows.
//
// It declares what the emitted text uses and no more: an unknown name does not compile. It never decides what a kernel computes. It includes
// no part of the C++ library, so that a kernel compiles in a few hundredths of a second; what takes room is in cuda_emu.cpp.
// Read `PF_LAUNCH` and `cuda_emu::Launch` first.
#pragma once
#if !defined(__GNUG__) || defined(__clang__) || !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "cuda_emu needs g++ on Linux, x86-64 or aarch64"
#endif
#include <stddef.h>
#include <stdint.h>

// ---- Spelling

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// One block at a time runs in one copy of a kernel, so shared memory is static. The shared memory of a kernel is a section of its object file, named
// for the file's kernel: so its place and size are known at a launch. Left to itself, the compiler would align arrays to more than they need.
#define __shared__ static __attribute__((section("pf_shared_" CUDA_EMU_UNIT), aligned(16)))

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) float2 {
    float x, y;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ---- Where a thread stands, and how threads wait for each other

namespace cuda_emu {

// Of the thread that runs now.
struct Place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};

// `__thread` has no initialiser to run, and the program that loads kernels has it in its own static block: one instruction reads it.
extern __thread const Place *here __attribute__((tls_model("initial-exec")));

// A place in a text where threads wait. Lines, not addresses: the compiler may double a call.
struct Site {
    const char *what;
    const char *file;
    int line;
};

// Returns when all threads of the block stand at this site.
void barrier(Site site);

// What one lane shows to its warp.
struct alignas(16) Slot {
    unsigned char bytes[32];
};

// Shows `bytes` of `value` to the warp and returns when all its lanes have done so at this site: the slots of its 32 lanes, good until the
// next exchange.
const Slot *exchange(const void *value, size_t bytes, Site site);

// Stops the block with a message.
[[noreturn]] void fail(Site site, const char *why);

inline unsigned lane() {
    const dim3 &size = here->block_size;
    return ((here->thread.z * size.y + here->thread.y) * size.x + here->thread.x) & 31;
}

// The lanes that the block has of this thread's warp.
inline unsigned lanes() {
    const dim3 &size = here->block_size;
    unsigned number = (here->thread.z * size.y + here->thread.y) * size.x + here->thread.x;
    unsigned after = size.x * size.y * size.z - (number & ~31u);
    return after < 32 ? after : 32;
}

template <class T> T shuffle(unsigned mask, T value, unsigned from, Site site) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle takes four or eight bytes");
    if (mask != 0xffffffffu) fail(site, "only whole warps exchange numbers: the mask must be 0xffffffff");
    const Slot *slots = exchange(&value, sizeof value, site);
    if (from >= lanes()) fail(site, "it reads from a lane that the block does not have");
    __builtin_memcpy(&value, slots[from].bytes, sizeof value);
    return value;
}

} // namespace cuda_emu

#define threadIdx (cuda_emu::here->thread)
#define blockIdx (cuda_emu::here->block)
#define blockDim (cuda_emu::here->block_size)
#define gridDim (cuda_emu::here->grid_size)
#define warpSize 32

// The defaults are of the caller's line.
#define CUDA_EMU_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_EMU_CALLER) { cuda_emu::barrier({"__syncthreads", file, line}); }

template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned distance, CUDA_EMU_CALLER) {
    return cuda_emu::shuffle(mask, value, (cuda_emu::lane() ^ distance) & 31, {"__shfl_xor_sync", file, line});
}

template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned distance, CUDA_EMU_CALLER) {
    unsigned lane = cuda_emu::lane();
    return cuda_emu::shuffle(mask, value, lane + distance < 32 ? lane + distance : lane, {"__shfl_down_sync", file, line});
}

template <class T> T __shfl_sync(unsigned mask, T value, unsigned from, CUDA_EMU_CALLER) {
    return cuda_emu::shuffle(mask, value, from & 31, {"__shfl_sync", file, line});
}

// ---- Numbers

extern "C" {
float expf(float) noexcept;
float logf(float) noexcept;
float tanhf(float) noexcept;
float erff(float) noexcept;
float sqrtf(float) noexcept;
float sinf(float) noexcept;
float cosf(float) noexcept;
float fabsf(float) noexcept;
float fminf(float, float) noexcept;
float fmaxf(float, float) noexcept;
float fmaf(float, float, float) noexcept;
double exp(double) noexcept;
double log(double) noexcept;
double tanh(double) noexcept;
double erf(double) noexcept;
double sqrt(double) noexcept;
double sin(double) noexcept;
double cos(double) noexcept;
double fabs(double) noexcept;
double fmin(double, double) noexcept;
double fmax(double, double) noexcept;
double fma(double, double, double) noexcept;
}

namespace cuda_emu {
template <class To, class From> To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
} // namespace cuda_emu

inline unsigned __float_as_uint(float x) { return cuda_emu::same_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return cuda_emu::same_bits<float>(x); }
inline int __float_as_int(float x) { return cuda_emu::same_bits<int>(x); }
inline float __int_as_float(int x) { return cuda_emu::same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_emu::same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_emu::same_bits<double>(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
// Rounded as written: the build has -ffp-contract=off.
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }

// `cvt.rna.tf32.f32`: ten bits of fraction, ties away from zero.
inline float pf_tf32(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return x;
    return __uint_as_float((bits + 0x1000u) & ~0x1fffu);
}

// `mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32`: acc += a * b, 16 x 8 from 16 x 8 and 8 x 8. With g = lane / 4 and t = lane % 4, a lane holds
// of a (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); of b (t, g), (t + 4, g); of acc (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
// It reads a float's upper 19 bits, as a tensor core does. The sum is rounded once; how a tensor core rounds is not documented.
inline void pf_mma_m16n8k8_tf32(float *acc, const float *a, const float *b, CUDA_EMU_CALLER) {
    struct Factors {
        float a[4], b[2];
    } mine;
    for (int i = 0; i < 4; i++) mine.a[i] = __uint_as_float(__float_as_uint(a[i]) & ~0x1fffu);
    for (int i = 0; i < 2; i++) mine.b[i] = __uint_as_float(__float_as_uint(b[i]) & ~0x1fffu);
    cuda_emu::Site site = {"pf_mma_m16n8k8_tf32", file, line};
    if (cuda_emu::lanes() < 32) cuda_emu::fail(site, "it needs a whole warp");
    const cuda_emu::Slot *slots = cuda_emu::exchange(&mine, sizeof mine, site);
    // Slots are made of bytes; a lane's factors are copied out of them.
    auto of = [slots](int lane) {
        Factors factors;
        __builtin_memcpy(&factors, slots[lane].bytes, sizeof factors);
        return factors;
    };
    int g = cuda_emu::lane() / 4, t = cuda_emu::lane() % 4;
    for (int i = 0; i < 4; i++) {
        bool lower = i >= 2;
        int column = 2 * t + i % 2;
        double sum = 0;
        for (int k = 0; k < 8; k++) {
            float x = of(g * 4 + k % 4).a[2 * (k / 4) + lower];
            float y = of(column * 4 + k % 4).b[k / 4];
            sum += (double)x * y;
        }
        acc[i] = (float)(acc[i] + sum);
    }
}

// ---- The runtime, as far as code that launches needs it. Everything is done when a call returns; a stream is a name.

typedef struct cuda_emu_stream *cudaStream_t;

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorLaunchFailure = 719,
};

enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4,
};

// Memory of exactly that many bytes, each 0xff.
cudaError_t cudaMalloc(void **memory, size_t bytes);
template <class T> cudaError_t cudaMalloc(T **memory, size_t bytes) { return cudaMalloc((void **)memory, bytes); }
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr);
inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) { return cudaMemcpyAsync(to, from, bytes, kind); }
cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream = nullptr);
inline cudaError_t cudaMemset(void *memory, int byte, size_t bytes) { return cudaMemsetAsync(memory, byte, bytes); }
inline cudaError_t cudaStreamCreate(cudaStream_t *stream) { return *stream = nullptr, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaPeekAtLastError();
// A failed launch stays, as on a device; what was never launched is forgotten.
cudaError_t cudaGetLastError();
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaPeekAtLastError(); }
inline cudaError_t cudaDeviceSynchronize() { return cudaPeekAtLastError(); }
// Of the last error: what happened, and where.
const char *cudaGetErrorString(cudaError_t error);

// ---- Launches

namespace cuda_emu {

struct Launch {
    const char *kernel;
    dim3 grid, block;
    // The kernel's shared memory.
    char *shared, *shared_end;
    // Calls the kernel with its arguments, for the thread at `here`.
    void (*thread)(const void *arguments);
    const void *arguments;
};

// Returns when all blocks are done, or one has failed.
void launch(const Launch &launch);

// The kernel is a constant, so that each copy of a loaded library calls its own.
template <auto kernel, class... Arguments> void launch(const char *name, dim3 grid, dim3 block, char *shared, char *shared_end, Arguments... arguments) {
    auto call = [=] { kernel(arguments...); };
    using Call = decltype(call);
    launch(Launch{name, grid, block, shared, shared_end, [](const void *call) { (*static_cast<const Call *>(call))(); }, &call});
}

} // namespace cuda_emu

// The linker names the ends of a section; a kernel without shared memory has none, and both are null.
#define CUDA_EMU_END(which, kernel)                                                                                                                  \
    extern char cuda_emu_##which##_##kernel[] __asm__("__" #which "_pf_shared_" #kernel) __attribute__((weak, visibility("hidden")))
#define PF_LAUNCH(kernel, grid, block, stream, ...)                                                                                                  \
    do {                                                                                                                                             \
        CUDA_EMU_END(start, kernel);                                                                                                                 \
        CUDA_EMU_END(stop, kernel);                                                                                                                  \
        (void)(stream);                                                                                                                              \
        cuda_emu::launch<kernel>(#kernel, grid, block, cuda_emu_start_##kernel, cuda_emu_stop_##kernel, ##__VA_ARGS__);                              \
    } while (0)
