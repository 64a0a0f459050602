// A process that is a device: memory by number, libraries of kernels by number, asked for on standard input and answered on standard output. A kernel
// that breaks it takes nobody else along. Its only user is backends/gpu/src/emu.rs. Read `main`.
//
// A request is an operation and its fields, all numbers 64 bits in the machine's order, texts and bytes preceded by their length:
//     1 allocate  name, bytes                                             answers the memory's number; it is zero
//     2 free      memory
//     3 write     memory, bytes
//     4 read      memory, length                                          answers the bytes
//     5 load      path of a shared library with `pf_run`                  answers the library's number
//     6 run       library, entry, count, as many memories, scalars        answers when all is done
//     7 undefine  memory, length                                          that many bytes become 0xff: NaN, -1
//     8 copy      from, to, length
// An answer is 0 and its bytes, or 1 and what went wrong.
//
// Each memory is an allocation of its own, of just its size: the sanitizer sees whoever reads behind its end, and is told its name.
#include "cuda_emu_run.h"

#include <memory>
#include <vector>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef CUDA_EMU_SANITIZED
#include <sanitizer/asan_interface.h>
#endif

namespace {

struct Memory {
    std::string name;
    char *bytes = nullptr;
    size_t size = 0;
};

std::vector<Memory> memories;
std::vector<cuda_emu::Library *> libraries;
FILE *answers;

// The end of the input is the end of the device.
void get(void *bytes, size_t size) {
    if (size > 0 && fread(bytes, size, 1, stdin) != 1) _exit(0);
}

uint64_t number() {
    uint64_t number;
    get(&number, sizeof number);
    return number;
}

std::string text() {
    std::string text(number(), 0);
    get(text.data(), text.size());
    return text;
}

void answer(uint64_t state, const void *bytes, size_t size) {
    uint64_t head[] = {state, size};
    fwrite(head, sizeof head, 1, answers);
    fwrite(bytes, size, 1, answers);
    fflush(answers);
}

void good(const void *bytes = nullptr, size_t size = 0) { answer(0, bytes, size); }
void good(uint64_t number) { good(&number, sizeof number); }
void bad(const std::string &why) { answer(1, why.data(), why.size()); }

std::string short_of(const Memory &memory, size_t size) { return cuda_emu::say("`%s` has no %zu bytes", memory.name.c_str(), size); }

void allocate() {
    std::string name = text();
    size_t size = number();
    char *bytes = (char *)calloc(size ? size : 1, 1);
    if (!bytes) return bad("the machine has no memory for that");
    memories.push_back({name, bytes, size});
    good(memories.size() - 1);
}

void release() {
    Memory &memory = memories.at(number());
    free(memory.bytes);
    memory.bytes = nullptr;
    good();
}

void undefine() {
    Memory &memory = memories.at(number());
    size_t size = number();
    if (size > memory.size) return bad(short_of(memory, size));
    memset(memory.bytes, 0xff, size);
    good();
}

void copy() {
    Memory &from = memories.at(number()), &to = memories.at(number());
    size_t size = number();
    if (size > from.size) return bad(short_of(from, size));
    if (size > to.size) return bad(short_of(to, size));
    memmove(to.bytes, from.bytes, size);
    good();
}

// Straight into the memory, which may be large.
void write() {
    Memory &memory = memories.at(number());
    size_t size = number();
    if (size > memory.size) {
        // What follows is no request; nothing can be understood any more.
        fprintf(stderr, "cuda_emu_host: %s\n", short_of(memory, size).c_str());
        _exit(1);
    }
    get(memory.bytes, size);
    good();
}

void read() {
    Memory &memory = memories.at(number());
    size_t size = number();
    if (size > memory.size) return bad(short_of(memory, size));
    good(memory.bytes, size);
}

void load() {
    std::string error;
    cuda_emu::Library *library = cuda_emu::open(text(), error);
    if (!library) return bad(error);
    libraries.push_back(library);
    good(libraries.size() - 1);
}

void run() {
    cuda_emu::Library &library = *libraries.at(number());
    std::string entry = text();
    std::vector<void *> buffers(number());
    for (void *&buffer : buffers) buffer = memories.at(number()).bytes;
    // An allocation of its own, as all that kernels read.
    std::string bytes = text();
    std::unique_ptr<char[]> scalars(new char[bytes.size()]);
    memcpy(scalars.get(), bytes.data(), bytes.size());
    std::string error = cuda_emu::run(library, entry.c_str(), buffers.data(), scalars.get());
    if (!error.empty()) return bad(error);
    good();
}

} // namespace

#ifdef CUDA_EMU_SANITIZED
// Before the sanitizer's own report: who did it, to what.
extern "C" void __asan_on_error() {
    std::string place = cuda_emu::place();
    fprintf(stderr, "cuda_emu: %s", __asan_get_report_description());
    if (!place.empty()) fprintf(stderr, " in %s", place.c_str());
    const char *address = (const char *)__asan_get_report_address();
    for (const Memory &memory : memories) {
        // As far as the zones around an allocation reach at least.
        if (!memory.bytes || address < memory.bytes - 16 || address >= memory.bytes + memory.size + 16) continue;
        fprintf(stderr, ", at byte %td of `%s`, which has %zu", address - memory.bytes, memory.name.c_str(), memory.size);
    }
    fprintf(stderr, "\n");
}
#endif

int main() {
    // An interrupt goes to all of a terminal's processes. Whoever asked for the device may still want what is on it, and ends it by ending the input.
    for (int interrupt : {SIGINT, SIGTERM, SIGHUP}) signal(interrupt, SIG_IGN);
    // What kernels or libraries print must not become an answer.
    answers = fdopen(dup(1), "wb");
    dup2(2, 1);
    for (;;) {
        switch (number()) {
        case 1: allocate(); break;
        case 2: release(); break;
        case 3: write(); break;
        case 4: read(); break;
        case 5: load(); break;
        case 6: run(); break;
        case 7: undefine(); break;
        case 8: copy(); break;
        default: fprintf(stderr, "cuda_emu_host: no such operation\n"); return 1;
        }
    }
}
