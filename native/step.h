// The steps of a program as the words say them: decoded, checked, not yet run.
//
// Steps are many (one a directory that is stacked), so each is small, and what it has several of
// stands in one list for all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

constexpr uint32_t kMaxArguments = 6;
constexpr uint32_t kMaxChecks = 8;  // tolerated errnos, expectations, remembered fields: each
constexpr uint16_t kNone = 0xffff;  // no slot, no step

enum When : uint8_t { kMain, kUndo, kAlways };
enum StepFlag : uint8_t { kCommits = 1, kReport = 2, kAnswers = 4, kIdentifies = 8, kHome = 16 };
enum Kind : uint32_t { kNull, kInteger, kSlot, kBytes, kPieces, kAttr, kHow, kOut, kHole };

// A run-time argument: what the signature's letter makes of it.
struct Argument {
  Kind kind = kNull;
  uint32_t size = 0;    // of bytes; number of pieces
  int64_t integer = 0;  // also an fd that the process held before, a slot's or a hole's number
  const char* bytes = nullptr;
  uint32_t at = 0;         // its first piece, or its structure
  bool is_number = false;  // what fills the hole
};

// A piece of a text: bytes, an fd whose number is set in, or what fills a hole.
struct Piece {
  Kind kind;
  uint32_t size;
  int64_t number;
  const char* bytes;
};

// struct mount_attr, or struct open_how.
struct Structure {
  uint64_t words[3];
  Kind userns_kind;
  int64_t userns;
};

enum Source : uint8_t { kValue, kRegister, kHoleValue };

struct Check {
  uint16_t offset;
  uint8_t width;
  Source source;
  uint64_t mask, value;
};

struct Step {
  uint8_t call = 0, when = kMain, flags = 0, arguments = 0;
  uint8_t tolerated = 0, checks = 0, remembered = 0;
  uint16_t out = kNone, if_done = kNone;
  uint16_t out_size = 0;  // of the buffer that the kernel fills
  uint32_t first_argument = 0;
  uint32_t first_tolerated = 0;
  uint32_t first_check = 0;  // expectations, then what is remembered
};

struct Steps {
  std::vector<Step> list;
  std::vector<Argument> arguments;
  std::vector<Piece> pieces;
  std::vector<Structure> structures;
  std::vector<Check> checks;
  std::vector<uint32_t> tolerated;
};

// Reads words and never past their end; once something is missing, `ok` stays false.
class Reader {
 public:
  Reader(const std::vector<uint32_t>& words, size_t at) : words_(words), at_(at) {}
  bool ok() const { return ok_; }
  size_t at() const { return at_; }

  uint32_t Word();
  uint64_t Long();
  // Bytes, their NUL, and padding to a whole word.
  const char* Bytes(uint32_t size);

 private:
  const std::vector<uint32_t>& words_;
  size_t at_;
  bool ok_ = true;
};

struct ProgramHeader;
bool ReadHeader(Reader* reader, ProgramHeader* header);
// Reads one step to the end of the lists.
bool ReadStep(Reader* reader, const ProgramHeader& header, Steps* steps);
