// One run of a program: its passes, and what becomes of what each call answers.
#include <sys/statfs.h>
#include <time.h>

#include <array>
#include <cstring>

#include "arguments.h"
#include "calls.h"
#include "claims.h"
#include "probes.h"
#include "program.h"
#include "syscalls.h"

namespace {

constexpr long kMustWait = 0x10000;  // no errno: a claim in the way is ending

// For tracing: unlike a job's number, one run's of the process.
std::atomic<uint64_t> next_id{1};

uint64_t Now() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t Field(const void* buffer, const Check& c) {
  uint64_t value = 0;
  memcpy(&value, static_cast<const char*>(buffer) + c.offset, c.width);
  return value;
}

uint64_t DeviceOf(const uapi::statx& found) {
  return static_cast<uint64_t>(found.stx_dev_minor) << 32 | found.stx_dev_major;
}

class Run {
 public:
  Run(const Program& program, const RunOptions& options)
      : header_(program.header()),
        steps_(program.steps()),
        options_(options),
        arguments_(program),
        registers_(header_.registers, 0),
        done_(header_.steps, kNotDone),
        probed_(ProbesEnabled()),
        clocked_(probed_ || options.timed) {}

  bool TakeFills() { return arguments_.TakeFills(options_.fills); }

  // False if the thread is somewhere else afterwards.
  bool Execute() {
    result_.status = ProgramStatus::kDone;
    const uint64_t begin = clocked_ ? Now() : 0;
    if (probed_) ProbeProgramStart(id_, header_.title, header_.steps);
    Pass(kMain, [&](const Step& s) {
      // What has been answered is not called back.
      if (!committed_ && !answered_ && options_.abort.load(std::memory_order_relaxed)) {
        result_.status = ProgramStatus::kAborted;
        return false;
      }
      if (s.flags & kCommits) {
        committed_ = true;
        elsewhere_ = away_;
      }
      return true;
    });
    const ProgramStatus status = result_.status;
    const int64_t failing = result_.step == UINT32_MAX ? -1 : static_cast<int64_t>(result_.step);
    const bool failed = status != ProgramStatus::kDone;
    Pass(kUndo, [&](const Step& s) { return s.when == kAlways || failed; });
    if (!failed && !answered_) Finish();
    for (const int fd : arguments_.slots()) {
      if (fd >= 0) sys_close(fd);
    }
    // After the closes: what was made from the directories is gone by now. What was handed out is
    // the caller's; nobody hears of what was claimed after the answer.
    if (claim_ != handed_claim_) DropClaim(claim_);
    if (probed_) {
      ProbeProgramDone(id_, static_cast<int32_t>(status), failing, Now() - begin);
    }
    result_.stranded = away_;
    if (!answered_) options_.answer(std::move(result_), true);
    return !away_;
  }

 private:
  // The first pass runs main steps until `gate` or a step says stop; the second everything else.
  template <typename Gate>
  void Pass(When pass, Gate gate) {
    for (uint32_t i = 0; i < header_.steps; i++) {
      const Step& step = steps_.list[i];
      if ((step.when == kMain) != (pass == kMain)) continue;
      if (step.if_done != kNone && !done_[step.if_done]) continue;
      // What was done at home is not to be undone elsewhere, where the same names are others.
      if (pass != kMain && away_ && step.if_done != kNone && done_[step.if_done] != kDoneAway)
        continue;
      const bool go = gate(step);
      if (pass == kMain && !go) return;
      if (!go || (pass != kMain && arguments_.HasEmptySlot(step))) continue;
      unexpected_ = false;
      const long error = Perform(step, i);
      if (step.flags & kAnswers && result_.status == ProgramStatus::kDone && error == 0) Answer();
      if (error == 0 || pass != kMain) continue;
      if (error == kMustWait) {
        result_.status = ProgramStatus::kWaits;
        return;
      }
      result_.status = unexpected_ ? ProgramStatus::kUnexpected : ProgramStatus::kFailed;
      result_.step = i;
      result_.error = static_cast<int32_t>(error);
      ReadLog(step);
      return;
    }
  }

  // 0, or the positive errno that stops the program.
  long Perform(const Step& step, uint32_t index) {
    const Call& call = CallOf(step.call);
    const bool moves = call.trait == Trait::kMovesThread;
    if ((moves || call.trait == Trait::kChangesDirectory) && !options_.own_directory) return EPERM;
    if (!arguments_.Prepare(step)) return EINVAL;
    alignas(8) std::array<char, sizeof(uapi::statx)> out;
    static_assert(sizeof(struct statfs) <= sizeof out);
    const size_t out_size = step.out_size;
    if (out_size) out.fill(0);
    const uint64_t begin = clocked_ ? Now() : 0;
    long value = call.invoke(arguments_.values(), out.data());
    if (call.trait == Trait::kClaims && value >= 0) value = Claim(out.data());
    if (clocked_) {
      Clock(index, call.name, value == -kMustWait ? -EBUSY : value, Now() - begin);
    }
    if (call.trait == Trait::kCloses) Forget(steps_.arguments[step.first_argument]);
    if (value < 0) {
      for (uint32_t i = 0; i < step.tolerated; i++) {
        if (steps_.tolerated[step.first_tolerated + i] == static_cast<uint32_t>(-value)) return 0;
      }
      return -value;
    }
    if (moves) away_ = true;
    if (step.flags & kHome) away_ = false;
    done_[index] = away_ ? kDoneAway : kDoneHome;
    if (step.out != kNone) {
      int& slot = arguments_.slot(step.out);
      if (slot >= 0) sys_close(slot);
      slot = static_cast<int>(value);
    }
    if (step.flags & kReport) {
      // What the kernel wrote, or the number that it answered.
      if (out_size) {
        Report(index, out.data(), out_size);
      } else {
        Report(index, reinterpret_cast<const char*>(&value), sizeof value);
      }
    }
    if (step.flags & kIdentifies) Identify(out.data());
    const long error = Compare(step, index, out.data(), out_size);
    // What depends on it is for what was expected.
    if (error != 0) done_[index] = kNotDone;
    return error;
  }

  long Compare(const Step& step, uint32_t index, const char* out, size_t out_size) {
    const Check* checks = steps_.checks.data() + step.first_check;
    for (uint32_t i = 0; i < step.remembered; i++) {
      const Check& c = checks[step.checks + i];
      registers_[c.value] = Field(out, c) & c.mask;
    }
    for (uint32_t i = 0; i < step.checks; i++) {
      const Check& c = checks[i];
      uint64_t expected = c.value;
      if (c.source == kRegister) expected = registers_[c.value];
      if (c.source == kHoleValue && !arguments_.NumberIn(c.value, &expected)) return EINVAL;
      if ((Field(out, c) & c.mask) == expected) continue;
      if (!(step.flags & kReport)) Report(index, out, out_size);
      unexpected_ = true;
      return ESTALE;
    }
    return 0;
  }

  // After close(2) the number is free, whatever the call answered.
  void Forget(const Argument& a) { arguments_.slot(static_cast<size_t>(a.integer)) = -1; }

  // 0, -EBUSY, or -kMustWait.
  long Claim(const char* buffer) {
    uapi::statx found;
    memcpy(&found, buffer, sizeof found);
    if (claim_ == 0) claim_ = OpenClaim(options_.owner);
    const ClaimInTheWay other = AddToClaim(claim_, DeviceOf(found), found.stx_ino);
    if (other.claim == 0) return 0;
    result_.claim = other.claim;
    return other.ending ? -kMustWait : -EBUSY;
  }

  void Identify(const char* buffer) {
    uapi::statx found;
    memcpy(&found, buffer, sizeof found);
    mount_ = {found.stx_mnt_id, DeviceOf(found), options_.mount_namespace};
  }

  void Clock(uint32_t index, const char* name, long value, uint64_t nanoseconds) {
    if (probed_) ProbeStep(id_, index, name, value, nanoseconds);
    if (!options_.timed) return;
    result_.timings.insert(result_.timings.end(), {index, static_cast<uint32_t>(nanoseconds),
                                                   static_cast<uint32_t>(nanoseconds >> 32), 0});
  }

  void Report(uint32_t index, const char* buffer, size_t size) {
    const size_t words = size / 4;
    result_.reports.push_back(index);
    result_.reports.push_back(static_cast<uint32_t>(words));
    const size_t at = result_.reports.size();
    result_.reports.resize(at + words);
    memcpy(result_.reports.data() + at, buffer, words * 4);
  }

  // The fs context keeps its reasons until they are read; other calls have none.
  void ReadLog(const Step& step) {
    const char* name = CallOf(step.call).name;
    if (strcmp(name, "fsconfig") != 0 && strcmp(name, "fsmount") != 0) return;
    // Only of what the program itself opened: a read of another fd could wait for ever.
    if (steps_.arguments[step.first_argument].kind != kSlot) return;
    std::array<char, 4096> line;
    const int fd = static_cast<int>(arguments_.values().raw[0]);
    for (int i = 0; i < 16; i++) {
      const long size = sys_read(fd, line.data(), line.size());
      if (size <= 0) return;
      result_.log.append(line.data(), static_cast<size_t>(size));
    }
  }

  // What the program hands out.
  void Finish() {
    result_.claim = handed_claim_ = claim_;
    // Which one that is, is to be asked of an fd.
    if (elsewhere_) mount_.mount_namespace = 0;
    if (claim_ != 0 && committed_) {
      SettleClaim(claim_, mount_);
      result_.elsewhere = elsewhere_;
    }
    for (const uint32_t slot : header_.outputs) {
      result_.outputs.push_back(arguments_.slot(slot));
      arguments_.slot(slot) = -1;
    }
  }

  void Answer() {
    if (answered_) return;
    answered_ = true;
    Finish();
    ProgramResult result = std::move(result_);
    result_ = {};
    result_.status = ProgramStatus::kDone;
    options_.answer(std::move(result), false);
  }

  const ProgramHeader& header_;
  const Steps& steps_;
  const RunOptions& options_;
  Arguments arguments_;
  std::vector<uint64_t> registers_;
  enum Done : uint8_t { kNotDone, kDoneHome, kDoneAway };
  std::vector<Done> done_;
  const bool probed_;
  const bool clocked_;
  const uint64_t id_ = next_id++;
  bool committed_ = false;
  bool elsewhere_ = false;  // it did so in a namespace that is not the thread's own
  bool answered_ = false;
  bool away_ = false;        // the thread was moved, and has not been brought home
  bool unexpected_ = false;  // the last step did its work, and found something else
  uint64_t claim_ = 0;
  uint64_t handed_claim_ = 0;
  ClaimedMount mount_ = {};
  ProgramResult result_;
};

}  // namespace

bool RunProgram(Program* program, const RunOptions& options) {
  if (program->Decode()) {
    Run run(*program, options);
    if (run.TakeFills()) return run.Execute();
  }
  program->Drop();
  options.answer({}, true);
  return true;
}
