// What cuda_emu.h leaves out of line: fibers, the rounds in which the threads of a block run, the threads of the operating system that blocks are
// spread over, launches and their errors, and libraries of kernels. It knows no kernel. Read `Worker::run_block`, then `cuda_emu::launch`.
//
// A fiber switch is a few instructions of assembly (x86-64 and aarch64), not ucontext, whose every switch asks the system to change signal masks.
//
// With AddressSanitizer it is linked, not instrumented, and built with CUDA_EMU_SANITIZED; kernels are instrumented.
//
// Environment: CUDA_EMU_THREADS says over how many threads of the operating system blocks are spread (as many as there are cores, otherwise);
// CUDA_EMU_REVERSED=1 runs the last block and the last thread first.
#include "cuda_emu_run.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef CUDA_EMU_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
constexpr bool SANITIZED = true;
#else
constexpr bool SANITIZED = false;
#endif

// What a device of compute capability 8.0 takes, without dynamic shared memory.
constexpr unsigned MAX_BLOCK = 1024, MAX_GRID_X = 0x7fffffff, MAX_GRID_YZ = 65535;
constexpr size_t MAX_SHARED = 48 << 10;

namespace cuda_emu {

std::string say(const char *format, ...) {
    char line[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    return line;
}

namespace {

// ---- Fibers

// Pushes what a call must keep, stores the stack in `*from`, takes `to` for the stack and pops.
extern "C" void cuda_emu_switch(void **from, void *to);

#if defined(__x86_64__)
constexpr int FRAME = 8;  // words on a new stack: six kept, the return address of the switch, and that of what it returns to
constexpr int RETURN = 6; // the word that the switch returns to
__asm__(R"(
.text
.type cuda_emu_switch,@function
cuda_emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_emu_switch,.-cuda_emu_switch
)");
#elif defined(__aarch64__)
constexpr int FRAME = 20;
constexpr int RETURN = 11; // x30
__asm__(R"(
.text
.type cuda_emu_switch,%function
cuda_emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size cuda_emu_switch,.-cuda_emu_switch
)");
#endif

// A stack with a page below that nobody may touch, and where its code has stopped.
struct Fiber {
    static constexpr size_t STACK = SANITIZED ? 256 << 10 : 64 << 10;

    const size_t guard = sysconf(_SC_PAGESIZE);
    char *memory;
    void *stopped;
    void *fake_stack = nullptr;

    Fiber(void (*entry)(), unsigned number) {
        memory = (char *)mmap(nullptr, guard + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
            perror("cuda_emu: no memory for the stack of a thread");
            abort();
        }
        // All else on it is 0, so that a walk up the stack ends here. Stacks lie whole pages apart: unless they begin at different places in their
        // pages, all of them want the same lines of the cache.
        void **frame = (void **)(stack() + STACK - number * 448 % 4096) - FRAME;
        frame[RETURN] = (void *)entry;
        stopped = frame;
    }

    ~Fiber() {
#ifdef CUDA_EMU_SANITIZED
        // What stopped in the middle of a function has marked its stack.
        __asan_unpoison_memory_region(stack(), STACK);
#endif
        munmap(memory, guard + STACK);
    }

    Fiber(const Fiber &) = delete;

    char *stack() const { return memory + guard; }
    bool guards(const void *address) const { return memory <= address && address < stack(); }
};

// ---- Blocks

// A failed launch: of the first block that failed, so that the message does not depend on how many ran at a time.
struct Failure {
    std::atomic<bool> failed{false};
    std::mutex lock;
    uint64_t block;
    std::string message;

    void add(uint64_t of_block, const std::string &text) {
        std::lock_guard<std::mutex> guard(lock);
        if (failed && block < of_block) return;
        failed = true;
        block = of_block;
        message = text;
    }
};

// What is asked of all workers.
struct Work {
    const Launch &launch;
    uint64_t blocks;
    // For each worker, how far its copy of the kernels lies behind the first.
    const std::vector<ptrdiff_t> &copies;
    bool reversed;
    std::atomic<uint64_t> next{0};
    Failure failure;
};

enum class Doing { Ready, AtBarrier, InExchange, Ended };

// Of threads that should wait together.
enum class Waiting { None, All, Some };

struct Thread {
    uint3 index;
    Fiber *fiber; // while it has begun and not ended
    Doing doing;
    Site site; // where it waits
};

struct Warp {
    // Of this exchange and of the last, which lanes may still be reading.
    Slot slots[2][32];
    unsigned exchanges;
};

bool same(const Site &a, const Site &b) { return a.line == b.line && a.what == b.what && (a.file == b.file || strcmp(a.file, b.file) == 0); }

std::string text(unsigned number, const Thread &thread) {
    const Site &site = thread.site;
    switch (thread.doing) {
    case Doing::Ready: return say("thread %u runs", number);
    case Doing::AtBarrier:
    case Doing::InExchange: return say("thread %u waits at `%s` (%s:%d)", number, site.what, site.file, site.line);
    case Doing::Ended: return say("thread %u has ended", number);
    }
    return "";
}

// Runs blocks, one at a time, on one thread of the operating system.
struct Worker {
    unsigned number = 0;
    Work *work = nullptr;
    uint64_t block = 0;
    Place at;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber *> idle;
    Thread *running = nullptr;
    Fiber *current = nullptr;
    // The scheduler's own stack, while a fiber runs.
    void *stopped = nullptr;
    void *fake_stack = nullptr;
    const void *stack_bottom = nullptr;
    size_t stack_size = 0;
    // Set by a fiber that asks for its block's end.
    std::string broken;

    void run_blocks(Work &on);
    void run_block();
    bool run_warp(unsigned first, unsigned end);
    Waiting release(unsigned first, unsigned end, Doing where);
    void resume(Thread &thread);
    void wait(Doing doing, Site site);
    void poison();
    void fail(const std::string &why);
    std::string where() const;
};

thread_local Worker *worker = nullptr;

// Into a fiber and out of it, with what the sanitizer must know about stacks.
void enter(Worker &self, Fiber &fiber) {
#ifdef CUDA_EMU_SANITIZED
    __sanitizer_start_switch_fiber(&self.fake_stack, fiber.stack(), Fiber::STACK);
#endif
    cuda_emu_switch(&self.stopped, fiber.stopped);
#ifdef CUDA_EMU_SANITIZED
    __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
#endif
}

void entered(Worker &self, Fiber &fiber) {
#ifdef CUDA_EMU_SANITIZED
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &self.stack_bottom, &self.stack_size);
#else
    (void)self, (void)fiber;
#endif
}

void leave(Worker &self, Fiber &fiber) {
#ifdef CUDA_EMU_SANITIZED
    __sanitizer_start_switch_fiber(&fiber.fake_stack, self.stack_bottom, self.stack_size);
#endif
    cuda_emu_switch(&fiber.stopped, self.stopped);
    entered(self, fiber);
}

// A fiber runs one thread of a block after the other, for as long as its worker lives.
void fiber_main() {
    Worker &self = *worker;
    Fiber &fiber = *self.current;
    entered(self, fiber);
    for (;;) {
        ptrdiff_t copy = self.work->copies[self.number];
        auto thread = (void (*)(const void *))((char *)self.work->launch.thread + copy);
        thread(self.work->launch.arguments);
        self.running->doing = Doing::Ended;
        leave(self, fiber);
    }
}

void Worker::resume(Thread &thread) {
    if (!thread.fiber) {
        if (idle.empty()) {
            fibers.push_back(std::make_unique<Fiber>(fiber_main, fibers.size()));
            idle.push_back(fibers.back().get());
        }
        thread.fiber = idle.back();
        idle.pop_back();
    }
    at.thread = thread.index;
    running = &thread;
    current = thread.fiber;
    enter(*this, *current);
    running = nullptr;
    if (thread.doing == Doing::Ended) {
        idle.push_back(thread.fiber);
        thread.fiber = nullptr;
    }
}

void Worker::wait(Doing doing, Site site) {
    running->doing = doing;
    running->site = site;
    leave(*this, *current);
}

// In rounds: one warp after the other, until all its threads are at a barrier or have ended; then those at the barrier go on.
void Worker::run_block() {
    const dim3 &grid = work->launch.grid;
    at.block = {unsigned(block % grid.x), unsigned(block / grid.x % grid.y), unsigned(block / grid.x / grid.y)};
    for (Thread &thread : threads) {
        thread.fiber = nullptr;
        thread.doing = Doing::Ready;
    }
    poison();
    unsigned size = threads.size();
    do {
        for (unsigned i = 0; i < warps.size(); i++) {
            unsigned first = 32 * (work->reversed ? warps.size() - 1 - i : i);
            if (!run_warp(first, std::min(first + 32, size))) return;
        }
    } while (release(0, size, Doing::AtBarrier) == Waiting::All);
}

// In rounds, too: each of its threads until it waits or ends, then those in an exchange go on. False when the block has failed.
bool Worker::run_warp(unsigned first, unsigned end) {
    for (;;) {
        for (unsigned i = first; i < end; i++) {
            Thread &thread = threads[work->reversed ? first + end - 1 - i : i];
            if (thread.doing != Doing::Ready) continue;
            resume(thread);
            if (!broken.empty()) return fail(broken), false;
        }
        switch (release(first, end, Doing::InExchange)) {
        case Waiting::None: return true;
        case Waiting::All: warps[first / 32].exchanges++; break;
        case Waiting::Some: return false;
        }
    }
}

// Lets threads go on if all wait there, at one place. If only some do, the block has failed.
Waiting Worker::release(unsigned first, unsigned end, Doing where) {
    unsigned one = first;
    while (one < end && threads[one].doing != where) one++;
    if (one == end) return Waiting::None;
    for (unsigned other = first; other < end; other++) {
        if (threads[other].doing == where && same(threads[other].site, threads[one].site)) continue;
        std::string waits = text(one, threads[one]), does = text(other, threads[other]);
        fail(say("%s, but %s: all threads of a %s must come there", waits.c_str(), does.c_str(), where == Doing::AtBarrier ? "block" : "warp"));
        return Waiting::Some;
    }
    for (unsigned i = first; i < end; i++) threads[i].doing = Doing::Ready;
    return Waiting::All;
}

// Shared memory is undefined when a block starts: NaN, -1. The bytes between variables are the sanitizer's; it does not look at them again.
__attribute__((no_sanitize("address"))) void Worker::poison() {
    ptrdiff_t copy = work->copies[number];
    char *from = work->launch.shared, *to = work->launch.shared_end;
    if (!SANITIZED) {
        if (from) memset(from + copy, 0xff, to - from);
        return;
    }
    for (volatile char *byte = from; byte != to; byte++) byte[copy] = (char)0xff;
}

void Worker::fail(const std::string &why) {
    work->failure.add(block, where() + ": " + why);
    // Fibers that stopped in the middle of a thread are of no more use.
    idle.clear();
    fibers.clear();
    broken.clear();
}

std::string Worker::where() const {
    if (!work) return "";
    std::string block = say("kernel `%s`, block (%u, %u)", work->launch.kernel, at.block.x, at.block.y);
    return running ? say("%s, thread %td", block.c_str(), running - threads.data()) : block;
}

void Worker::run_blocks(Work &on) {
    work = &on;
    worker = this;
    const dim3 &size = on.launch.block;
    at.block_size = size;
    at.grid_size = on.launch.grid;
    threads.resize(size.x * size.y * size.z);
    warps.assign((threads.size() + 31) / 32, Warp());
    for (unsigned i = 0; i < threads.size(); i++) threads[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    here = &at;
    for (uint64_t taken; (taken = on.next++) < on.blocks && !on.failure.failed;) {
        block = on.reversed ? on.blocks - 1 - taken : taken;
        run_block();
    }
    here = nullptr;
    work = nullptr;
}

// ---- Threads of the operating system

// Tells a crash's place before the process dies of it. The sanitizer has a handler of its own.
void crashed(int signal, siginfo_t *info, void *) {
    std::string place = cuda_emu::place();
    bool stack = worker && worker->current && worker->current->guards(info->si_addr);
    fprintf(stderr, "cuda_emu: %s%s%s\n", strsignal(signal), place.empty() ? "" : " in ", place.c_str());
    if (stack) fprintf(stderr, "cuda_emu: its stack of %zu bytes is too small\n", Fiber::STACK);
    // Once more, and for good.
    ::signal(signal, SIG_DFL);
}

// A fiber that has used up its stack has no room for a handler.
void catch_crashes() {
    if (SANITIZED) return;
    stack_t stack = {};
    stack.ss_size = 64 << 10;
    stack.ss_sp = malloc(stack.ss_size);
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = crashed;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
}

// Workers that wait for work, for as long as the process lives. The caller is the first.
class Pool {
  public:
    const bool reversed = getenv("CUDA_EMU_REVERSED") && strcmp(getenv("CUDA_EMU_REVERSED"), "1") == 0;
    const unsigned size = threads();

    Pool() : workers(size) {
        catch_crashes();
        for (unsigned i = 0; i < size; i++) workers[i].number = i;
        for (unsigned i = 1; i < size; i++) std::thread([this, i] { serve(workers[i]); }).detach();
    }

    void run(Work &work) {
        // A single block, or a program with one copy of its kernels: nobody else is needed.
        unsigned helpers = std::min<uint64_t>(std::min<uint64_t>(size, work.copies.size()), work.blocks) - 1;
        if (helpers > 0) {
            std::lock_guard<std::mutex> guard(lock);
            job = &work;
            wanted = busy = helpers;
            jobs++;
            changed.notify_all();
        }
        workers[0].run_blocks(work);
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [this] { return busy == 0; });
    }

  private:
    static unsigned threads() {
        const char *asked = getenv("CUDA_EMU_THREADS");
        int number = asked ? atoi(asked) : 0;
        return number > 0 ? number : std::max(1u, std::thread::hardware_concurrency());
    }

    void serve(Worker &self) {
        catch_crashes();
        std::unique_lock<std::mutex> guard(lock);
        for (uint64_t seen = 0;;) {
            changed.wait(guard, [&] { return jobs != seen; });
            seen = jobs;
            if (self.number > wanted) continue;
            Work *work = job;
            guard.unlock();
            self.run_blocks(*work);
            guard.lock();
            busy--;
            changed.notify_all();
        }
    }

    std::vector<Worker> workers;
    std::mutex lock;
    std::condition_variable changed;
    Work *job = nullptr;
    unsigned wanted = 0, busy = 0;
    uint64_t jobs = 0;
};

Pool &pool() {
    static Pool &pool = *new Pool; // its threads end with the process
    return pool;
}

// ---- Errors

cudaError_t last_error = cudaSuccess;
std::string last_message;

cudaError_t report(cudaError_t error, const std::string &message) {
    if (last_error == cudaSuccess) {
        last_error = error;
        last_message = message;
    }
    return error;
}

std::string launch_problem(const Launch &launch) {
    const dim3 &grid = launch.grid, &block = launch.block;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads == 0 || block.x > MAX_BLOCK || block.y > MAX_BLOCK || block.z > 64 || threads > MAX_BLOCK)
        return say("a block of %u x %u x %u threads; a device takes 1 to %u", block.x, block.y, block.z, MAX_BLOCK);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > MAX_GRID_X || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ)
        return say("a grid of %u x %u x %u blocks; a device takes 1 to %u x %u x %u", grid.x, grid.y, grid.z, MAX_GRID_X, MAX_GRID_YZ, MAX_GRID_YZ);
    size_t shared = launch.shared_end - launch.shared;
#ifdef CUDA_EMU_SANITIZED
    // Without the zones around variables.
    shared = 0;
    for (const char *byte = launch.shared; byte != launch.shared_end; byte++) shared += !__asan_address_is_poisoned(byte);
#endif
    if (shared > MAX_SHARED) return say("%zu bytes of shared memory; a device takes %zu", shared, MAX_SHARED);
    return "";
}

// Of a program that is linked with its kernels.
const std::vector<ptrdiff_t> ONE_COPY = {0};
const std::vector<ptrdiff_t> *copies = &ONE_COPY;

} // namespace

// ---- What cuda_emu.h declares

__thread const Place *here = nullptr;

void barrier(Site site) { worker->wait(Doing::AtBarrier, site); }

const Slot *exchange(const void *value, size_t bytes, Site site) {
    size_t number = worker->running - worker->threads.data();
    Warp &warp = worker->warps[number / 32];
    memcpy(warp.slots[warp.exchanges % 2][number % 32].bytes, value, bytes);
    worker->wait(Doing::InExchange, site);
    return warp.slots[(warp.exchanges - 1) % 2];
}

void fail(Site site, const char *why) {
    worker->broken = say("thread %td at `%s` (%s:%d): %s", worker->running - worker->threads.data(), site.what, site.file, site.line, why);
    for (;;) worker->wait(Doing::Ready, site);
}

void launch(const Launch &launch) {
    if (last_error == cudaErrorLaunchFailure) return;
    std::string problem = launch_problem(launch);
    if (!problem.empty()) {
        report(cudaErrorInvalidConfiguration, say("kernel `%s` cannot be launched: %s", launch.kernel, problem.c_str()));
        return;
    }
    const dim3 &grid = launch.grid;
    Work work{launch, (uint64_t)grid.x * grid.y * grid.z, *copies, pool().reversed, {}, {}};
    pool().run(work);
    if (work.failure.failed) report(cudaErrorLaunchFailure, work.failure.message);
}

// ---- What cuda_emu_run.h declares

struct Library {
    std::vector<ptrdiff_t> copies;
    int (*pf_run)(const char *, cudaStream_t, void *const *, const void *);
};

static bool copy_file(const std::string &from, const std::string &to) {
    int in = ::open(from.c_str(), O_RDONLY), out = ::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0700);
    bool good = in >= 0 && out >= 0;
    char bytes[1 << 16];
    for (ssize_t got = 1; good && got > 0;) {
        got = read(in, bytes, sizeof bytes);
        good = got >= 0 && write(out, bytes, got) == got;
    }
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return good;
}

Library *open(const std::string &path, std::string &error) {
    auto library = std::make_unique<Library>();
    char *first = nullptr;
    for (unsigned i = 0; i < pool().size; i++) {
        // A library is loaded once for each file, so a copy is a file.
        std::string copy = i == 0 ? path : path + "." + std::to_string(i);
        if (i > 0 && !copy_file(path, copy)) {
            error = "cannot write " + copy;
            return nullptr;
        }
        void *handle = dlopen(copy.c_str(), RTLD_NOW | RTLD_LOCAL);
        char *symbol = handle ? (char *)dlsym(handle, "pf_run") : nullptr;
        if (!symbol) {
            error = dlerror();
            return nullptr;
        }
        if (i == 0) first = symbol;
        library->copies.push_back(symbol - first);
    }
    library->pf_run = (decltype(library->pf_run))first;
    return library.release();
}

std::string run(Library &library, const char *entry, void *const *buffers, const void *scalars) {
    copies = &library.copies;
    last_message.clear();
    int code = library.pf_run(entry, nullptr, buffers, scalars);
    copies = &ONE_COPY;
    // An error counts, whether or not the launch code has asked for it.
    if (!last_message.empty() || code == 0) return last_message;
    return say("`pf_run` answers %d for entry `%s`", code, entry);
}

std::string place() { return worker ? worker->where() : ""; }

} // namespace cuda_emu

// ---- The runtime

using cuda_emu::last_error;
using cuda_emu::last_message;

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    *memory = malloc(bytes ? bytes : 1);
    if (!*memory) return cuda_emu::report(cudaErrorMemoryAllocation, cuda_emu::say("no memory for %zu bytes", bytes));
    memset(*memory, 0xff, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    memmove(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t) {
    memset(memory, byte, bytes);
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    if (error != cudaErrorLaunchFailure) last_error = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error) {
    if (error == cudaSuccess) return "no error";
    return last_message.c_str();
}
