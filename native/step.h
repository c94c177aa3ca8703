// One step of a program as the words say it: decoded, checked, not yet run.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "program.h"

constexpr uint32_t kMaxArguments = 6;
constexpr uint32_t kMaxChecks = 8;  // tolerated errnos, expectations, remembered fields: each
constexpr uint16_t kNone = 0xffff;  // no slot, no step

enum When : uint8_t { kMain, kUndo, kAlways };
enum StepFlag : uint8_t { kCommits = 1, kReport = 2 };
enum Kind : uint32_t { kNull, kInteger, kSlot, kBytes, kPieces, kAttr, kHow, kOut };

// A run-time argument: what the signature's letter makes of it.
struct Argument {
  Kind kind = kNull;
  int64_t integer = 0;  // also an fd that the process held before, or a slot's number
  const char* bytes = nullptr;
  uint32_t size = 0;
  uint32_t pieces_at = 0;  // word where the pieces begin
  uint64_t attr[3] = {};
  Kind userns_kind = kNull;
  int64_t userns = 0;
};

struct Check {
  uint16_t offset;
  uint8_t width;
  bool is_register;
  uint64_t mask, value;
};

struct Step {
  uint8_t call = 0, when = kMain, flags = 0;
  uint16_t out = kNone, if_done = kNone;
  uint32_t tolerated = 0, checks = 0, remembered = 0, arguments = 0;
  std::array<uint32_t, kMaxChecks> tolerate;
  std::array<Check, kMaxChecks> check, remember;
  std::array<Argument, kMaxArguments> argument;
};

// Reads words and never past their end; once something is missing, `ok` stays false.
class Reader {
 public:
  Reader(const std::vector<uint32_t>& words, size_t at) : words_(words), at_(at) {}
  bool ok = true;
  size_t at() const { return at_; }

  uint32_t Word();
  uint64_t Long();
  // Bytes, their NUL, and padding to a whole word.
  const char* Bytes(uint32_t size);

 private:
  const std::vector<uint32_t>& words_;
  size_t at_;
};

// A piece of a text: bytes, or an fd whose number is set in.
struct Piece {
  Kind kind;
  int64_t fd;
  const char* bytes;
  uint32_t size;
};

bool ReadPiece(Reader* reader, uint32_t slots, Piece* piece);
bool ReadStep(Reader* reader, const ProgramHeader& header, Step* step);
