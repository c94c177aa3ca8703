// A program: system calls as data, run in order on one thread.
//
//   header: magic, version, slots, registers, holes, steps, inputs (slot, fd), outputs, title
//   steps: call, when it runs, where its fd goes, what is tolerated, expected, remembered,
//   arguments
//
//   main steps: until the first failure, an unmet expectation, or an abort before a committing step
//   undo steps: after a failure
//   always steps: at the end in every case; one whose slot holds no fd is passed over
//   at last: each fd left in a slot is closed, but for the outputs of a program that succeeded
//
// Any step may depend on an earlier one: it is passed over if that one had not done its work. After
// a step that answers, the result goes to whoever waits for it, and the rest runs on.
//
// A step may move the thread to another mount namespace or root; one with the flag `home` says that
// the thread is where it belongs again. A thread that is not must serve no other program.
//
// A program may have holes: bytes and numbers that each run fills. One that is run often is decoded
// once and kept. What the words mean is written in lib/program/encode.ts, which makes them. A
// program is checked whole before its first call is made: whatever the bytes say, nothing is read
// outside of them and every pointer the kernel gets is one of ours.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "step.h"

constexpr uint32_t kMaxHoles = 16;

struct ProgramHeader {
  uint32_t slots = 0;
  uint32_t registers = 0;
  uint32_t holes = 0;
  std::vector<std::pair<uint32_t, int>> inputs;  // fds that the program takes over
  std::vector<uint32_t> outputs;                 // slots whose fds outlive a success
  const char* title = "";                        // for whoever traces
  size_t steps_at = 0;                           // word where the steps begin
  uint32_t steps = 0;
};

class Program {
 public:
  // nullptr when the words do not begin as a program does.
  static std::shared_ptr<Program> Parse(std::vector<uint32_t> words);

  // Decodes and checks every step, once; false if one is not well formed. Not for two threads at a
  // time, but any number may run it afterwards.
  bool Decode();

  // Once decoded: no step changes anything of the thread that it runs on, and none runs on after
  // the answer.
  bool leaves_thread_alone() const { return leaves_thread_alone_; }
  const ProgramHeader& header() const { return header_; }
  const Steps& steps() const { return steps_; }
  // Closes the inputs of a program that will not be run.
  void Drop() const;

 private:
  std::vector<uint32_t> words_;
  ProgramHeader header_;
  Steps steps_;
  bool decoded_ = false;
  bool leaves_thread_alone_ = true;
};

// kWaits: nothing but opening was done, and a directory is still in use by a claim that is ending.
// kRefused: nothing was done, because no thread is left that may.
enum class ProgramStatus : uint32_t {
  kDone,
  kFailed,
  kUnexpected,
  kAborted,
  kMalformed,
  kWaits,
  kRefused
};

struct ProgramResult {
  ProgramStatus status = ProgramStatus::kMalformed;
  uint32_t step = UINT32_MAX;
  int32_t error = 0;              // positive errno of the failing step
  std::vector<int> outputs;       // in the header's order
  std::vector<uint32_t> reports;  // step, words of the buffer, the buffer; ...
  std::vector<uint32_t> timings;  // step, nanoseconds, their upper half, 0; ...
  std::string log;                // lines of the fs context, as read
  bool stranded = false;          // the thread could not be brought home
  bool elsewhere = false;         // its claim is of a mount in another namespace than the thread's
  uint64_t claim = 0;             // of a success: the program's own; of EBUSY: the one in the way
};

// What a run is given besides the program.
struct RunOptions {
  const std::vector<uint32_t>& fills;  // for each hole: size, bytes, NUL, padding to a whole word
  const std::atomic<bool>& abort;      // may be set by another thread at any time
  bool own_directory;                  // the thread may change its working directory
  bool timed;
  const void* owner;         // of claims
  uint64_t mount_namespace;  // of the thread, for claims
  // `ended`: nothing runs on behind it.
  std::function<void(ProgramResult, bool ended)>
      answer;  // called once, before the run ends or at its end
};

// Runs a program on the calling thread; false if that is not where it belongs afterwards.
bool RunProgram(Program* program, const RunOptions& options);

// Names of the calls in the order of their numbers, with their signatures: "fsopen:pi".
std::vector<std::string> ProgramCalls();
