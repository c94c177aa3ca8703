#include "program.h"

#include <cstring>

#include "calls.h"
#include "syscalls.h"

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
