#include "arguments.h"

#include <cstring>

Arguments::Arguments(const Program& program)
    : header_(program.header()), steps_(program.steps()), slots_(header_.slots, -1) {
  for (const auto& [slot, fd] : header_.inputs) slots_[slot] = fd;
}

bool Arguments::TakeFills(const std::vector<uint32_t>& words) {
  Reader reader(words, 0);
  for (uint32_t i = 0; i < header_.holes; i++) {
    fills_[i].size = reader.Word();
    fills_[i].bytes = reader.Bytes(fills_[i].size);
  }
  return reader.ok() && reader.at() == words.size();
}

bool Arguments::Prepare(const Step& step) {
  for (uint32_t i = 0; i < step.arguments; i++) {
    if (!PrepareOne(i, steps_.arguments[step.first_argument + i])) return false;
  }
  return true;
}

int Arguments::FdOf(Kind kind, int64_t value) const {
  return kind == kSlot ? slots_[static_cast<size_t>(value)] : static_cast<int>(value);
}

bool Arguments::NumberIn(uint64_t hole, uint64_t* number) const {
  const Fill& fill = fills_[hole];
  if (fill.size != sizeof *number) return false;
  memcpy(number, fill.bytes, sizeof *number);
  return true;
}

bool Arguments::PrepareOne(uint32_t i, const Argument& a) {
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

bool Arguments::PrepareHole(uint32_t i, const Argument& a) {
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

bool Arguments::Join(const Argument& a, std::string* text, long* raw) {
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

bool Arguments::IsEmptySlot(Kind kind, int64_t value) const {
  return kind == kSlot && slots_[static_cast<size_t>(value)] < 0;
}

bool Arguments::HasEmptySlot(const Step& step) const {
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
