// For programs that load kernels at run time: libraries of kernels and their launch code, and where a crash happened. A program that is linked with
// its kernels does not need it; its blocks run one after the other, since there is one copy of their shared memory.
#pragma once
#include "cuda_emu.h"

#include <string>

namespace cuda_emu {

// Copies of a shared library, one for each thread that runs blocks: so each block has shared memory of its own.
struct Library;

// Null, and why in `error`, if it cannot be loaded or has no `pf_run`. The copies lie beside it; nobody removes them.
Library *open(const std::string &path, std::string &error);

// Calls the library's `pf_run`. What went wrong, or nothing.
std::string run(Library &library, const char *entry, void *const *buffers, const void *scalars);

// Kernel, block and thread that run on this thread of the operating system: "kernel `sum`, block (3, 0), thread 5". Empty outside of kernels.
std::string place();

// printf to a string.
std::string say(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace cuda_emu
