// A program: system calls as data, run in order on one thread.
//
//   header   magic, version, slots, registers, inputs (slot, fd), outputs (slot)
//   steps    call, when it runs, where its fd goes, what is tolerated, expected, remembered;
//   arguments
//
//   main steps    until the first failure, an unmet expectation, or an abort before a committing
//   step undo steps    after a failure always steps  at the end in every case; a step whose slot
//   holds no fd is passed over Any step may depend on an earlier one: it is passed over if that one
//   had not done its work. at last       every fd left in a slot is closed, but for the outputs of
//   a program that succeeded
//
// What the words mean is written in lib/program/encode.ts, which makes them. A program is checked
// whole before its first call is made: whatever the bytes say, nothing is read outside of them and
// every pointer the kernel gets is one of ours.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

struct ProgramHeader {
  uint32_t slots = 0;
  uint32_t registers = 0;
  std::vector<std::pair<uint32_t, int>> inputs;  // fds that the program takes over
  std::vector<uint32_t> outputs;                 // slots whose fds outlive a success
  size_t steps_at = 0;                           // word where the steps begin
  uint32_t steps = 0;
};

enum class ProgramStatus : uint32_t { kDone, kFailed, kUnexpected, kAborted, kMalformed };

struct ProgramResult {
  ProgramStatus status = ProgramStatus::kMalformed;
  uint32_t step = UINT32_MAX;
  int32_t error = 0;              // positive errno of the failing step
  std::vector<int> outputs;       // in the header's order
  std::vector<uint32_t> reports;  // step, bytes, words of the buffer, ...
  std::string log;                // lines of the fs context, as read
};

// False when the bytes are no program.
bool ParseProgramHeader(const std::vector<uint32_t>& words, ProgramHeader* header);

// True when every step is well formed. Any thread.
bool CheckProgram(const std::vector<uint32_t>& words, const ProgramHeader& header);

// Runs a program on the calling thread. `abort` may be set by another thread at any time;
// `own_directory` says whether the thread may change its working directory.
ProgramResult RunProgram(const std::vector<uint32_t>& words, const ProgramHeader& header,
                         const std::atomic<bool>& abort, bool own_directory);

// Closes the inputs of a program that will not be run.
void DropProgram(const ProgramHeader& header);

// Names of the calls in the order of their numbers, with their signatures: "fsopen:pi".
std::vector<std::string> ProgramCalls();
