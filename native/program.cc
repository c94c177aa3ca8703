#include "program.h"

#include <sys/statfs.h>

#include <array>
#include <cstring>

#include "calls.h"
#include "step.h"
#include "syscalls.h"

namespace {

uint64_t Field(const void* buffer, const Check& c) {
  uint64_t value = 0;
  memcpy(&value, static_cast<const char*>(buffer) + c.offset, c.width);
  return value;
}

class Run {
 public:
  Run(const std::vector<uint32_t>& words, const ProgramHeader& header, bool own_directory)
      : words_(words),
        header_(header),
        own_directory_(own_directory),
        slots_(header.slots, -1),
        registers_(header.registers, 0),
        done_(header.steps, false) {
    for (const auto& [slot, fd] : header.inputs) slots_[slot] = fd;
  }

  ProgramResult Execute(const std::atomic<bool>& abort) {
    result_.status = ProgramStatus::kDone;
    Pass(kMain, [&](const Step& s) {
      if (!committed_ && abort.load(std::memory_order_relaxed)) {
        result_.status = ProgramStatus::kAborted;
        return false;
      }
      if (s.flags & kCommits) committed_ = true;
      return true;
    });
    const bool failed = result_.status != ProgramStatus::kDone;
    Pass(kUndo, [&](const Step& s) { return s.when == kAlways || failed; });
    Finish(failed);
    return std::move(result_);
  }

 private:
  // The first pass runs main steps until `gate` or a step says stop; the second everything else.
  template <typename Gate>
  void Pass(When pass, Gate gate) {
    Reader reader(words_, header_.steps_at);
    for (uint32_t i = 0; i < header_.steps; i++) {
      if (!ReadStep(&reader, header_, &step_)) return;  // CheckProgram has excluded it
      if ((step_.when == kMain) != (pass == kMain)) continue;
      if (step_.if_done != kNone && !done_[step_.if_done]) continue;
      const bool go = gate(step_);
      if (pass == kMain && !go) return;
      if (!go || (pass != kMain && HasEmptySlot())) continue;
      unexpected_ = false;
      const long error = Perform(i);
      if (error == 0 || pass != kMain) continue;
      result_.status = unexpected_ ? ProgramStatus::kUnexpected : ProgramStatus::kFailed;
      result_.step = i;
      result_.error = static_cast<int32_t>(error);
      ReadLog();
      return;
    }
  }

  // 0, or the positive errno that stops the program.
  long Perform(uint32_t index) {
    const Call& call = CallOf(step_.call);
    if (call.trait == Trait::kChangesDirectory && !own_directory_) return EPERM;
    for (uint32_t i = 0; i < step_.arguments; i++) Prepare(i);
    alignas(8) std::array<char, sizeof(uapi::statx)> out;
    static_assert(sizeof(struct statfs) <= sizeof out);
    const size_t out_size = OutSize(call);
    if (out_size) out.fill(0);
    const long value = call.invoke(values_, step_, out.data());
    if (call.trait == Trait::kCloses) Forget(step_.argument[0]);
    if (value < 0) {
      for (uint32_t i = 0; i < step_.tolerated; i++) {
        if (step_.tolerate[i] == static_cast<uint32_t>(-value)) return 0;
      }
      return -value;
    }
    done_[index] = true;
    if (step_.out != kNone) {
      if (slots_[step_.out] >= 0) sys_close(slots_[step_.out]);
      slots_[step_.out] = static_cast<int>(value);
    }
    if (out_size && step_.flags & kReport) Report(index, out.data(), out_size);
    for (uint32_t i = 0; i < step_.remembered; i++) {
      const Check& c = step_.remember[i];
      registers_[c.value] = Field(out.data(), c) & c.mask;
    }
    for (uint32_t i = 0; i < step_.checks; i++) {
      const Check& c = step_.check[i];
      const uint64_t expected = c.is_register ? registers_[c.value] : c.value;
      if ((Field(out.data(), c) & c.mask) == expected) continue;
      if (!(step_.flags & kReport)) Report(index, out.data(), out_size);
      unexpected_ = true;
      return ESTALE;
    }
    return 0;
  }

  int FdOf(Kind kind, int64_t value) const {
    return kind == kSlot ? slots_[static_cast<size_t>(value)] : static_cast<int>(value);
  }

  void Prepare(uint32_t i) {
    const Argument& a = step_.argument[i];
    long& raw = values_.raw[i];
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
      case kPieces:
        raw = reinterpret_cast<long>(Join(a, &values_.text[i]));
        break;
      case kAttr:
        values_.attr = {};
        values_.attr.attr_set = a.attr[0];
        values_.attr.attr_clr = a.attr[1];
        values_.attr.propagation = a.attr[2];
        if (a.userns_kind != kNull) values_.attr.userns_fd = FdOf(a.userns_kind, a.userns);
        break;
      case kHow:
        values_.how = {};
        values_.how.flags = a.attr[0];
        values_.how.mode = a.attr[1];
        values_.how.resolve = a.attr[2];
        break;
    }
  }

  const char* Join(const Argument& a, std::string* text) {
    text->clear();
    Reader reader(words_, a.pieces_at);
    for (uint32_t i = 0; i < a.size; i++) {
      Piece piece;
      if (!ReadPiece(&reader, header_.slots, &piece)) break;
      if (piece.kind == kBytes) {
        text->append(piece.bytes, piece.size);
      } else {
        text->append(std::to_string(FdOf(piece.kind, piece.fd)));
      }
    }
    return text->c_str();
  }

  bool IsEmptySlot(Kind kind, int64_t value) const {
    return kind == kSlot && slots_[static_cast<size_t>(value)] < 0;
  }

  bool HasEmptySlot() const {
    for (uint32_t i = 0; i < step_.arguments; i++) {
      const Argument& a = step_.argument[i];
      if (IsEmptySlot(a.kind, a.integer)) return true;
      if (a.kind == kAttr && IsEmptySlot(a.userns_kind, a.userns)) return true;
      Reader reader(words_, a.pieces_at);
      Piece piece;
      for (uint32_t n = 0; a.kind == kPieces && n < a.size; n++) {
        if (ReadPiece(&reader, header_.slots, &piece) && IsEmptySlot(piece.kind, piece.fd)) {
          return true;
        }
      }
    }
    return false;
  }

  // After close(2) the number is free, whatever the call answered.
  void Forget(const Argument& a) {
    if (a.kind == kSlot) slots_[static_cast<size_t>(a.integer)] = -1;
  }

  void Report(uint32_t index, const char* buffer, size_t size) {
    const uint32_t words = static_cast<uint32_t>(size / 4);
    result_.reports.push_back(index);
    result_.reports.push_back(words);
    const size_t at = result_.reports.size();
    result_.reports.resize(at + words);
    memcpy(result_.reports.data() + at, buffer, words * 4);
  }

  // The fs context keeps its reasons until they are read; other calls have none.
  void ReadLog() {
    const char* name = CallOf(step_.call).name;
    if (strcmp(name, "fsconfig") != 0 && strcmp(name, "fsmount") != 0) return;
    // Only of what the program itself opened: a read of another fd could wait for ever.
    if (step_.argument[0].kind != kSlot) return;
    std::array<char, 4096> line;
    const int fd = static_cast<int>(values_.raw[0]);
    for (int i = 0; i < 16; i++) {
      const long size = sys_read(fd, line.data(), line.size());
      if (size <= 0) return;
      result_.log.append(line.data(), static_cast<size_t>(size));
    }
  }

  void Finish(bool failed) {
    if (!failed) {
      for (const uint32_t slot : header_.outputs) {
        result_.outputs.push_back(slots_[slot]);
        slots_[slot] = -1;
      }
    }
    for (const int fd : slots_) {
      if (fd >= 0) sys_close(fd);
    }
  }

  const std::vector<uint32_t>& words_;
  const ProgramHeader& header_;
  const bool own_directory_;
  std::vector<int> slots_;
  std::vector<uint64_t> registers_;
  std::vector<bool> done_;
  bool committed_ = false;
  bool unexpected_ = false;  // the last step did its work, and found something else
  Step step_;
  Values values_;
  ProgramResult result_;
};

}  // namespace

ProgramResult RunProgram(const std::vector<uint32_t>& words, const ProgramHeader& header,
                         const std::atomic<bool>& abort, bool own_directory) {
  if (!CheckProgram(words, header)) {
    DropProgram(header);
    return {};
  }
  return Run(words, header, own_directory).Execute(abort);
}

void DropProgram(const ProgramHeader& header) {
  for (const auto& input : header.inputs) sys_close(input.second);
}
