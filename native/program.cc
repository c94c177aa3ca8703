#include "program.h"

#include <sys/statfs.h>
#include <time.h>

#include <array>
#include <cstring>

#include "calls.h"
#include "claims.h"
#include "probes.h"
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

struct Fill {
  const char* bytes;
  uint32_t size;
};

class Run {
 public:
  Run(const Program& program, const RunOptions& options)
      : header_(program.header()),
        steps_(program.steps()),
        options_(options),
        slots_(header_.slots, -1),
        registers_(header_.registers, 0),
        done_(header_.steps, kNotDone),
        probed_(ProbesEnabled()),
        clocked_(probed_ || options.timed) {
    for (const auto& [slot, fd] : header_.inputs) slots_[slot] = fd;
  }

  // Each hole is filled, and nothing is left over.
  bool TakeFills() {
    Reader reader(options_.fills, 0);
    for (uint32_t i = 0; i < header_.holes; i++) {
      fills_[i].size = reader.Word();
      fills_[i].bytes = reader.Bytes(fills_[i].size);
    }
    return reader.ok() && reader.at() == options_.fills.size();
  }

  // False if the thread is somewhere else afterwards.
  bool Execute() {
    result_.status = ProgramStatus::kDone;
    const uint64_t begin = clocked_ ? Now() : 0;
    if (probed_) ProbeProgramStart(id_, header_.title, header_.steps);
    Pass(kMain, [&](const Step& s) {
      if (!committed_ && options_.abort.load(std::memory_order_relaxed)) {
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
    for (const int fd : slots_) {
      if (fd >= 0) sys_close(fd);
    }
    // After the closes: what was made from the directories is gone by now. Nobody hears of what was
    // claimed after the answer.
    if (claim_ != 0 && (failed || claim_ != handed_claim_)) DropClaim(claim_);
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
      if (!go || (pass != kMain && HasEmptySlot(step))) continue;
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
    for (uint32_t i = 0; i < step.arguments; i++) {
      if (!Prepare(i, steps_.arguments[step.first_argument + i])) return EINVAL;
    }
    alignas(8) std::array<char, sizeof(uapi::statx)> out;
    static_assert(sizeof(struct statfs) <= sizeof out);
    const size_t out_size = step.out_size;
    if (out_size) out.fill(0);
    const uint64_t begin = clocked_ ? Now() : 0;
    long value = call.invoke(values_, out.data());
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
      if (slots_[step.out] >= 0) sys_close(slots_[step.out]);
      slots_[step.out] = static_cast<int>(value);
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
    return Compare(step, index, out.data(), out_size);
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
      if (c.source == kHoleValue && !NumberIn(c.value, &expected)) return EINVAL;
      if ((Field(out, c) & c.mask) == expected) continue;
      if (!(step.flags & kReport)) Report(index, out, out_size);
      unexpected_ = true;
      return ESTALE;
    }
    return 0;
  }

  int FdOf(Kind kind, int64_t value) const {
    return kind == kSlot ? slots_[static_cast<size_t>(value)] : static_cast<int>(value);
  }

  bool NumberIn(uint64_t hole, uint64_t* number) const {
    const Fill& fill = fills_[hole];
    if (fill.size != sizeof *number) return false;
    memcpy(number, fill.bytes, sizeof *number);
    return true;
  }

  // False if what fills a hole is not what the call wants.
  bool Prepare(uint32_t i, const Argument& a) {
    long& raw = values_.raw[i];
    values_.size[i] = a.size;
    switch (a.kind) {
      case kNull:
      case kOut:
        raw = 0;
        break;
      case kInteger:
        raw = static_cast<long>(a.integer);
        break;
      case kSlot:
        raw = FdOf(a.kind, a.integer);
        break;
      case kBytes:
        raw = reinterpret_cast<long>(a.bytes);
        break;
      case kHole:
        return PrepareHole(i, a);
      case kPieces:
        return Join(a, &values_.text[i], &raw);
      case kAttr: {
        const Structure& s = steps_.structures[a.at];
        values_.attr = {};
        values_.attr.attr_set = s.words[0];
        values_.attr.attr_clr = s.words[1];
        values_.attr.propagation = s.words[2];
        if (s.userns_kind != kNull) values_.attr.userns_fd = FdOf(s.userns_kind, s.userns);
        break;
      }
      case kHow: {
        const Structure& s = steps_.structures[a.at];
        values_.how = {};
        values_.how.flags = s.words[0];
        values_.how.mode = s.words[1];
        values_.how.resolve = s.words[2];
        break;
      }
    }
    return true;
  }

  bool PrepareHole(uint32_t i, const Argument& a) {
    if (a.is_number) {
      uint64_t number = 0;
      if (!NumberIn(static_cast<uint64_t>(a.integer), &number)) return false;
      values_.raw[i] = static_cast<long>(number);
      return true;
    }
    const Fill& fill = fills_[static_cast<size_t>(a.integer)];
    values_.raw[i] = reinterpret_cast<long>(fill.bytes);
    return memchr(fill.bytes, 0, fill.size) == nullptr;
  }

  bool Join(const Argument& a, std::string* text, long* raw) {
    text->clear();
    for (uint32_t i = 0; i < a.size; i++) {
      const Piece& piece = steps_.pieces[a.at + i];
      if (piece.kind == kBytes) {
        text->append(piece.bytes, piece.size);
      } else if (piece.kind == kHole) {
        const Fill& fill = fills_[static_cast<size_t>(piece.number)];
        if (memchr(fill.bytes, 0, fill.size) != nullptr) return false;
        text->append(fill.bytes, fill.size);
      } else {
        text->append(std::to_string(FdOf(piece.kind, piece.number)));
      }
    }
    *raw = reinterpret_cast<long>(text->c_str());
    return true;
  }

  bool IsEmptySlot(Kind kind, int64_t value) const {
    return kind == kSlot && slots_[static_cast<size_t>(value)] < 0;
  }

  bool HasEmptySlot(const Step& step) const {
    for (uint32_t i = 0; i < step.arguments; i++) {
      const Argument& a = steps_.arguments[step.first_argument + i];
      if (IsEmptySlot(a.kind, a.integer)) return true;
      if (a.kind == kAttr) {
        const Structure& s = steps_.structures[a.at];
        if (IsEmptySlot(s.userns_kind, s.userns)) return true;
      }
      for (uint32_t n = 0; a.kind == kPieces && n < a.size; n++) {
        const Piece& piece = steps_.pieces[a.at + n];
        if (IsEmptySlot(piece.kind, piece.number)) return true;
      }
    }
    return false;
  }

  // After close(2) the number is free, whatever the call answered.
  void Forget(const Argument& a) { slots_[static_cast<size_t>(a.integer)] = -1; }

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
    const int fd = static_cast<int>(values_.raw[0]);
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
      result_.outputs.push_back(slots_[slot]);
      slots_[slot] = -1;
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
  std::array<Fill, kMaxHoles> fills_;
  std::vector<int> slots_;
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
  Values values_;
  ProgramResult result_;
};

}  // namespace

std::shared_ptr<Program> Program::Parse(std::vector<uint32_t> words) {
  auto program = std::make_shared<Program>();
  program->words_ = std::move(words);
  Reader reader(program->words_, 0);
  if (!ReadHeader(&reader, &program->header_)) return nullptr;
  return program;
}

bool Program::Decode() {
  if (decoded_) return true;
  Reader reader(words_, header_.steps_at);
  steps_ = {};
  steps_.list.reserve(header_.steps);
  for (uint32_t i = 0; i < header_.steps; i++) {
    if (!ReadStep(&reader, header_, &steps_)) return false;
    const Call& call = CallOf(steps_.list.back().call);
    if (call.trait == Trait::kChangesDirectory || call.trait == Trait::kMovesThread ||
        call.trait == Trait::kChangesThread || strcmp(call.name, "userns") == 0 ||
        (steps_.list.back().flags & kAnswers)) {
      leaves_thread_alone_ = false;
    }
  }
  return decoded_ = reader.at() == words_.size();
}

void Program::Drop() const {
  for (const auto& input : header_.inputs) sys_close(input.second);
}

bool RunProgram(Program* program, const RunOptions& options) {
  if (program->Decode()) {
    Run run(*program, options);
    if (run.TakeFills()) return run.Execute();
  }
  program->Drop();
  options.answer({}, true);
  return true;
}
