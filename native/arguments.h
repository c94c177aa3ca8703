// What the calls of a run are given: the step's own values, fds of slots, and what fills the holes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "calls.h"
#include "program.h"

class Arguments {
 public:
  explicit Arguments(const Program& program);

  // Each hole is filled, and nothing is left over. The words stay the caller's.
  bool TakeFills(const std::vector<uint32_t>& words);

  // False if what fills a hole is not what the call wants.
  bool Prepare(const Step& step);
  const Values& values() const { return values_; }

  bool HasEmptySlot(const Step& step) const;
  bool NumberIn(uint64_t hole, uint64_t* number) const;

  // The fd in it, -1 if it is empty.
  int& slot(size_t index) { return slots_[index]; }
  const std::vector<int>& slots() const { return slots_; }

 private:
  struct Fill {
    const char* bytes;
    uint32_t size;
  };

  bool PrepareOne(uint32_t i, const Argument& a);
  bool PrepareHole(uint32_t i, const Argument& a);
  bool Join(const Argument& a, std::string* text, long* raw);
  int FdOf(Kind kind, int64_t value) const;
  bool IsEmptySlot(Kind kind, int64_t value) const;

  const ProgramHeader& header_;
  const Steps& steps_;
  std::array<Fill, kMaxHoles> fills_;
  std::vector<int> slots_;
  Values values_;
};
