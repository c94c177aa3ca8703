// Where another process may look on: three USDT probes of the provider `overlayfd`.
//
//   program__start   program (u64), title (string or ""), steps (u32)
//   step             program (u64), index (u32), call (string), result (i64: >= 0 or -errno),
//                    nanoseconds (u64)
//   program__done    program (u64), status (i32: ProgramStatus), failing step (i64, or -1),
//                    nanoseconds (u64)
//
// Compiled in where <sys/sdt.h> exists; elsewhere every function here is empty. A probe is a nop
// and a note in the file. Whoever attaches raises its semaphore, so ask once a program and measure
// nothing when the answer is no:
//
//   const bool traced = ProbesEnabled();
//   if (traced) ProbeProgramStart(program, title, header.steps);
//   ... if (traced) ProbeStep(program, i, call.name, value, nanoseconds);
//   if (traced) ProbeProgramDone(program, status, failing_step, nanoseconds);
//
// `program` is any number that the process uses once. Strings are read by address while the probe
// is hit: they need to live no longer than the call, and are never null.
#pragma once

#include <cstdint>

#if __has_include(<sys/sdt.h>)

#define _SDT_HAS_SEMAPHORES 1       // NOLINT(bugprone-reserved-identifier): the name is sdt.h's
#define STAP_SDT_ARG_CONSTRAINT nr  // a register or a number: what every reader of notes can decode
#include <sys/sdt.h>

// The kernel counts the listeners in these, in each process that has the file mapped. The notes
// find them by the names that <sys/sdt.h> makes, hence C's linkage.
#define PROBE_SEMAPHORE(probe) overlayfd##_##probe##_semaphore
extern "C" {
__attribute__((section(".probes"), used, visibility("hidden"))) inline volatile unsigned short
    PROBE_SEMAPHORE(program__start) = 0,
    PROBE_SEMAPHORE(step) = 0, PROBE_SEMAPHORE(program__done) = 0;
}

inline bool ProbesEnabled() {
  return (PROBE_SEMAPHORE(program__start) | PROBE_SEMAPHORE(step) |
          PROBE_SEMAPHORE(program__done)) != 0;
}
#undef PROBE_SEMAPHORE

// Who looks on cannot fault a page in, and reads an empty string instead (seen on 6.18, with names
// that the process had not used yet).
inline void TouchForProbe(const char* text) { *static_cast<const volatile char*>(text); }

inline void ProbeProgramStart(uint64_t program, const char* title, uint32_t steps) {
  TouchForProbe(title);
  STAP_PROBE3(overlayfd, program__start, program, title, steps);
}

inline void ProbeStep(uint64_t program, uint32_t index, const char* call, int64_t result,
                      uint64_t nanoseconds) {
  TouchForProbe(call);
  STAP_PROBE5(overlayfd, step, program, index, call, result, nanoseconds);
}

inline void ProbeProgramDone(uint64_t program, int32_t status, int64_t failing_step,
                             uint64_t nanoseconds) {
  STAP_PROBE4(overlayfd, program__done, program, status, failing_step, nanoseconds);
}

#else

inline bool ProbesEnabled() { return false; }
inline void ProbeProgramStart(uint64_t, const char*, uint32_t) {}
inline void ProbeStep(uint64_t, uint32_t, const char*, int64_t, uint64_t) {}
inline void ProbeProgramDone(uint64_t, int32_t, int64_t, uint64_t) {}

#endif
