#include "step.h"

#include <cstring>

#include "calls.h"

namespace {

constexpr uint32_t kMagic = 0x4456464f;  // "OFVD" in the first four bytes
constexpr uint32_t kVersion = 1;
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

bool ReadText(Reader* r, const ProgramHeader& h, Argument* a) {
  if (a->kind == kBytes) {
    a->size = r->Word();
    a->bytes = r->Bytes(a->size);
    return r->ok && memchr(a->bytes, 0, a->size) == nullptr;
  }
  if (a->kind != kPieces) return false;
  a->size = r->Word();
  a->pieces_at = static_cast<uint32_t>(r->at());
  if (a->size > kMaxPieces) return false;
  for (uint32_t i = 0; i < a->size; i++) {
    Piece piece;
    if (!ReadPiece(r, h.slots, &piece)) return false;
  }
  return true;
}

bool ReadArgument(Reader* r, const ProgramHeader& h, char letter, Argument* a) {
  a->kind = static_cast<Kind>(r->Word());
  switch (letter) {
    case 'i':
      a->integer = static_cast<int64_t>(r->Long());
      return a->kind == kInteger;
    case 'f':
    case 'v':  // an fd is an integer to the kernel; a slot is only known later
      return ReadFd(r, a->kind, h.slots, &a->integer);
    case 'P':
      if (a->kind == kNull) return true;
      return ReadText(r, h, a);
    case 'p':
      return ReadText(r, h, a);
    case 'b':
      a->size = r->Word();
      a->bytes = r->Bytes(a->size);
      return a->kind == kBytes;
    case 'a':
      for (auto& word : a->attr) word = r->Long();
      a->userns_kind = static_cast<Kind>(r->Word());
      return a->kind == kAttr &&
             (a->userns_kind == kNull || ReadFd(r, a->userns_kind, h.slots, &a->userns));
    case 'h':
      for (auto& word : a->attr) word = r->Long();
      return a->kind == kHow;
    default:  // x, s
      return a->kind == kOut;
  }
}

bool ReadChecks(Reader* r, const ProgramHeader& h, size_t out_size, bool writes_register,
                uint32_t* count, std::array<Check, kMaxChecks>* checks) {
  *count = r->Word();
  if (*count > kMaxChecks) return false;
  for (uint32_t i = 0; i < *count; i++) {
    Check& c = (*checks)[i];
    const uint32_t word = r->Word();
    c.offset = word & 0xffff;
    c.width = word >> 16 & 0xff;
    c.is_register = writes_register || (word >> 24) != 0;
    c.mask = r->Long();
    c.value = r->Long();
    if (c.width != 2 && c.width != 4 && c.width != 8) return false;
    if (static_cast<size_t>(c.offset) + c.width > out_size) return false;
    if (c.is_register && c.value >= h.registers) return false;
  }
  return r->ok;
}

}  // namespace

uint32_t Reader::Word() {
  if (at_ >= words_.size()) return ok = false, 0;
  return words_[at_++];
}

uint64_t Reader::Long() {
  const uint64_t low = Word();
  return low | static_cast<uint64_t>(Word()) << 32;
}

const char* Reader::Bytes(uint32_t size) {
  const uint64_t words = static_cast<uint64_t>(size) / 4 + 1;
  if (words > words_.size() - at_) return ok = false, "";
  const char* bytes = reinterpret_cast<const char*>(words_.data() + at_);
  at_ += words;
  if (bytes[size] != 0) ok = false;
  return bytes;
}

bool ReadPiece(Reader* r, uint32_t slots, Piece* piece) {
  piece->kind = static_cast<Kind>(r->Word());
  if (piece->kind != kBytes) return ReadFd(r, piece->kind, slots, &piece->fd) && r->ok;
  piece->size = r->Word();
  piece->bytes = r->Bytes(piece->size);
  return r->ok && memchr(piece->bytes, 0, piece->size) == nullptr;
}

bool ReadStep(Reader* r, const ProgramHeader& h, Step* s) {
  const uint32_t word = r->Word();
  s->call = word & 0xff;
  s->when = word >> 8 & 0xff;
  s->flags = word >> 16 & 0xff;
  const uint32_t links = r->Word();
  s->out = links & 0xffff;
  s->if_done = links >> 16;
  if (!r->ok || s->call >= CallCount() || s->when > kAlways) return false;
  const Call& call = CallOf(s->call);
  if ((s->out != kNone) != (call.trait == Trait::kMakesFd)) return false;
  if (s->out != kNone && s->out >= h.slots) return false;
  if (s->if_done != kNone && s->if_done >= h.steps) return false;
  s->tolerated = r->Word();
  if (s->tolerated > kMaxChecks) return false;
  for (uint32_t i = 0; i < s->tolerated; i++) s->tolerate[i] = r->Word();
  const size_t out_size = OutSize(call);
  if (!ReadChecks(r, h, out_size, false, &s->checks, &s->check)) return false;
  if (!ReadChecks(r, h, out_size, true, &s->remembered, &s->remember)) return false;
  s->arguments = static_cast<uint32_t>(strlen(call.signature));
  for (uint32_t i = 0; i < s->arguments; i++) {
    if (!ReadArgument(r, h, call.signature[i], &s->argument[i])) return false;
  }
  // A program closes what it holds; the other fds of the process are not its own.
  if (call.trait == Trait::kCloses && s->argument[0].kind != kSlot) return false;
  return r->ok;
}

bool ParseProgramHeader(const std::vector<uint32_t>& words, ProgramHeader* header) {
  Reader r(words, 0);
  if (r.Word() != kMagic || r.Word() != kVersion) return false;
  header->slots = r.Word();
  header->registers = r.Word();
  header->steps = r.Word();
  if (header->slots > kMaxSlots || header->registers > kMaxRegisters || header->steps >= kNone) {
    return false;
  }
  std::vector<bool> taken(header->slots, false);
  const uint32_t inputs = r.Word();
  for (uint32_t i = 0; i < inputs && r.ok; i++) {
    const uint32_t slot = r.Word();
    const int fd = static_cast<int>(r.Word());
    if (!r.ok || slot >= header->slots || taken[slot] || fd < 0) return false;
    taken[slot] = true;
    header->inputs.emplace_back(slot, fd);
  }
  const uint32_t outputs = r.Word();
  for (uint32_t i = 0; i < outputs && r.ok; i++) {
    const uint32_t slot = r.Word();
    if (!r.ok || slot >= header->slots) return false;
    header->outputs.push_back(slot);
  }
  header->steps_at = r.at();
  return r.ok;
}

bool CheckProgram(const std::vector<uint32_t>& words, const ProgramHeader& header) {
  Reader reader(words, header.steps_at);
  Step step;
  for (uint32_t i = 0; i < header.steps; i++) {
    if (!ReadStep(&reader, header, &step)) return false;
  }
  return reader.at() == words.size();
}
