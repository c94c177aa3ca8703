// Several runs of kept programs in one buffer, as submitAll is given them (encodeRuns of
// lib/program/encode.ts): job, program, words of the fills, the fills, and then the next one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

constexpr size_t kRunHead = 3;

struct KeptRun {
  uint32_t job = 0;
  uint32_t program = 0;
  std::vector<uint32_t> fills;
};

// The run that begins at word `*at`, which becomes the place of the next; false if it is cut off.
inline bool TakeRun(const std::vector<uint32_t>& words, size_t* at, KeptRun* run) {
  const size_t left = words.size() - *at;
  if (left < kRunHead || words[*at + 2] > left - kRunHead) return false;
  const auto fills = words.begin() + static_cast<std::ptrdiff_t>(*at + kRunHead);
  run->job = words[*at];
  run->program = words[*at + 1];
  run->fills.assign(fills, fills + words[*at + 2]);
  *at += kRunHead + run->fills.size();
  return true;
}
