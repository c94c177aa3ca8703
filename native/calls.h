// The calls that a program may make: names, signatures, and how each is made from decoded
// arguments.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "step.h"
#include "uapi.h"

struct Values {
  std::array<long, kMaxArguments + 2> raw;
  std::array<uint32_t, kMaxArguments> size;  // of bytes
  std::array<std::string, kMaxArguments> text;
  uapi::mount_attr attr;
  uapi::open_how how;
};

using Invoke = long (*)(const Values&, void* out);

// kMakesFd: its result is an fd, and it must have a slot for it; no other call may have one.
// kClaims: it fills a statx buffer, and the directory that it shows becomes part of the program's
// claim.
// kMovesThread: the thread is in another mount namespace, or has another root, until a step that
// brings it home.
// kChangesThread: it changes, or depends on, something else of the thread.
enum class Trait {
  kNone,
  kMakesFd,
  kCloses,
  kChangesDirectory,
  kMovesThread,
  kChangesThread,
  kClaims
};

struct Call {
  const char* name;
  const char* signature;
  Invoke invoke;
  Trait trait = Trait::kNone;
};

uint32_t CallCount();
const Call& CallOf(uint32_t number);
// Size of the buffer that the kernel fills, 0 if it fills none.
size_t OutSize(const Call& call);
