#include "step.h"

#include <cstring>

#include "calls.h"
#include "program.h"

namespace {

constexpr uint32_t kMagic = 0x4456464f;  // "OFVD" in the first four bytes
constexpr uint32_t kVersion = 2;
constexpr uint32_t kMaxSlots = 4096;
constexpr uint32_t kMaxRegisters = 256;
constexpr size_t kMaxPieces = 2048;

bool ReadFd(Reader* r, Kind kind, uint32_t slots, int64_t* value) {
  if (kind == kInteger) {
    *value = static_cast<int32_t>(r->Word());
    return true;
  }
  *value = r->Word();
  return kind == kSlot && *value < slots;
}

bool ReadHole(Reader* r, const ProgramHeader& h, int64_t* hole) {
  *hole = r->Word();
  return *hole < h.holes;
}

bool ReadPlain(Reader* r, uint32_t* size, const char** bytes) {
  *size = r->Word();
  *bytes = r->Bytes(*size);
  return r->ok() && memchr(*bytes, 0, *size) == nullptr;
}

bool ReadPiece(Reader* r, const ProgramHeader& h, Piece* piece) {
  *piece = {};
  piece->kind = static_cast<Kind>(r->Word());
  if (piece->kind == kBytes) return ReadPlain(r, &piece->size, &piece->bytes);
  if (piece->kind == kHole) return ReadHole(r, h, &piece->number) && r->ok();
  return ReadFd(r, piece->kind, h.slots, &piece->number) && r->ok();
}

bool ReadText(Reader* r, const ProgramHeader& h, Steps* steps, Argument* a) {
  if (a->kind == kBytes) return ReadPlain(r, &a->size, &a->bytes);
  if (a->kind == kHole) return ReadHole(r, h, &a->integer);
  if (a->kind != kPieces) return false;
  a->size = r->Word();
  a->at = static_cast<uint32_t>(steps->pieces.size());
  if (a->size > kMaxPieces) return false;
  for (uint32_t i = 0; i < a->size; i++) {
    Piece piece;
    if (!ReadPiece(r, h, &piece)) return false;
    steps->pieces.push_back(piece);
  }
  return true;
}

void ReadStructure(Reader* r, Steps* steps, Argument* a) {
  a->at = static_cast<uint32_t>(steps->structures.size());
  Structure s = {};
  for (auto& word : s.words) word = r->Long();
  steps->structures.push_back(s);
}

bool ReadArgument(Reader* r, const ProgramHeader& h, char letter, Steps* steps, Argument* a) {
  a->kind = static_cast<Kind>(r->Word());
  switch (letter) {
    case 'i':
      a->is_number = true;
      if (a->kind == kHole) return ReadHole(r, h, &a->integer);
      a->integer = static_cast<int64_t>(r->Long());
      return a->kind == kInteger;
    case 'f':
    case 'v':  // an fd is an integer to the kernel; a slot is only known later
      return ReadFd(r, a->kind, h.slots, &a->integer);
    case 'P':
      if (a->kind == kNull) return true;
      return ReadText(r, h, steps, a);
    case 'p':
      return ReadText(r, h, steps, a);
    case 'b':
      a->size = r->Word();
      a->bytes = r->Bytes(a->size);
      return a->kind == kBytes;
    case 'a': {
      ReadStructure(r, steps, a);
      Structure& s = steps->structures.back();
      s.userns_kind = static_cast<Kind>(r->Word());
      return a->kind == kAttr &&
             (s.userns_kind == kNull || ReadFd(r, s.userns_kind, h.slots, &s.userns));
    }
    case 'h':
      ReadStructure(r, steps, a);
      return a->kind == kHow;
    default:  // x, s
      return a->kind == kOut;
  }
}

bool ReadChecks(Reader* r, const ProgramHeader& h, size_t out_size, bool writes_register,
                uint8_t* count, Steps* steps) {
  const uint32_t checks = r->Word();
  if (checks > kMaxChecks) return false;
  *count = static_cast<uint8_t>(checks);
  for (uint32_t i = 0; i < checks; i++) {
    Check c;
    const uint32_t word = r->Word();
    c.offset = word & 0xffff;
    c.width = word >> 16 & 0xff;
    const uint32_t source = word >> 24;
    if (source > kHoleValue) return false;
    c.source = writes_register ? kRegister : static_cast<Source>(source);
    c.mask = r->Long();
    c.value = r->Long();
    if (c.width != 2 && c.width != 4 && c.width != 8) return false;
    if (static_cast<size_t>(c.offset) + c.width > out_size) return false;
    if (c.source == kRegister && c.value >= h.registers) return false;
    if (c.source == kHoleValue && c.value >= h.holes) return false;
    steps->checks.push_back(c);
  }
  return r->ok();
}

}  // namespace

uint32_t Reader::Word() {
  if (at_ >= words_.size()) return ok_ = false, 0;
  return words_[at_++];
}

uint64_t Reader::Long() {
  const uint64_t low = Word();
  return low | static_cast<uint64_t>(Word()) << 32;
}

const char* Reader::Bytes(uint32_t size) {
  const uint64_t words = static_cast<uint64_t>(size) / 4 + 1;
  if (words > words_.size() - at_) return ok_ = false, "";
  const char* bytes = reinterpret_cast<const char*>(words_.data() + at_);
  at_ += words;
  if (bytes[size] != 0) ok_ = false;
  return bytes;
}

bool ReadStep(Reader* r, const ProgramHeader& h, Steps* steps) {
  Step s;
  const uint32_t word = r->Word();
  s.call = word & 0xff;
  s.when = word >> 8 & 0xff;
  s.flags = word >> 16 & 0xff;
  const uint32_t links = r->Word();
  s.out = links & 0xffff;
  s.if_done = links >> 16;
  if (!r->ok() || s.call >= CallCount() || s.when > kAlways) return false;
  const Call& call = CallOf(s.call);
  if ((s.out != kNone) != (call.trait == Trait::kMakesFd)) return false;
  if (s.out != kNone && s.out >= h.slots) return false;
  // It may have to be run again, and inputs are used up.
  if (call.trait == Trait::kClaims && !h.inputs.empty()) return false;
  if (s.if_done != kNone && s.if_done >= h.steps) return false;
  const size_t out_size = OutSize(call);
  s.out_size = static_cast<uint16_t>(out_size);
  if ((s.flags & kIdentifies) && strchr(call.signature, 'x') == nullptr) return false;
  const uint32_t tolerated = r->Word();
  if (tolerated > kMaxChecks) return false;
  s.tolerated = static_cast<uint8_t>(tolerated);
  s.first_tolerated = static_cast<uint32_t>(steps->tolerated.size());
  for (uint32_t i = 0; i < tolerated; i++) steps->tolerated.push_back(r->Word());
  s.first_check = static_cast<uint32_t>(steps->checks.size());
  if (!ReadChecks(r, h, out_size, false, &s.checks, steps)) return false;
  if (!ReadChecks(r, h, out_size, true, &s.remembered, steps)) return false;
  s.arguments = static_cast<uint8_t>(strlen(call.signature));
  s.first_argument = static_cast<uint32_t>(steps->arguments.size());
  for (uint32_t i = 0; i < s.arguments; i++) {
    Argument argument;
    if (!ReadArgument(r, h, call.signature[i], steps, &argument)) return false;
    steps->arguments.push_back(argument);
  }
  // A program closes what it holds; the other fds of the process are not its own.
  if (call.trait == Trait::kCloses && steps->arguments[s.first_argument].kind != kSlot)
    return false;
  steps->list.push_back(s);
  return r->ok();
}

bool ReadHeader(Reader* r, ProgramHeader* header) {
  if (r->Word() != kMagic || r->Word() != kVersion) return false;
  header->slots = r->Word();
  header->registers = r->Word();
  header->holes = r->Word();
  header->steps = r->Word();
  if (header->slots > kMaxSlots || header->registers > kMaxRegisters || header->holes > kMaxHoles ||
      header->steps >= kNone) {
    return false;
  }
  std::vector<bool> taken(header->slots, false);
  const uint32_t inputs = r->Word();
  for (uint32_t i = 0; i < inputs && r->ok(); i++) {
    const uint32_t slot = r->Word();
    const int fd = static_cast<int>(r->Word());
    if (!r->ok() || slot >= header->slots || taken[slot] || fd < 0) return false;
    taken[slot] = true;
    header->inputs.emplace_back(slot, fd);
  }
  const uint32_t outputs = r->Word();
  for (uint32_t i = 0; i < outputs && r->ok(); i++) {
    const uint32_t slot = r->Word();
    if (!r->ok() || slot >= header->slots) return false;
    header->outputs.push_back(slot);
  }
  uint32_t size = 0;
  if (!ReadPlain(r, &size, &header->title)) return false;
  header->steps_at = r->at();
  return r->ok();
}
