// Names that the process holds, so that environments (the main thread, each worker) see each
// other's. What a name stands for is for lib/ to say; so is whether a claim in the way still
// counts.
//
//   claim      takes a name, or answers who has it; an old claim may be replaced by its number
//   noteClaim  writes down what the claim has become, for whoever meets it later
//   teardown   claims without a note end with their environment; those with one outlive it, as
//              what they stand for may
//
// Every function takes the one mutex, and none calls JavaScript while it holds it.
#include <napi.h>

#include <mutex>
#include <string>
#include <unordered_map>

#include "exports.h"
#include "marshal.h"

namespace {

struct Claim {
  std::string name;
  std::string note;
  napi_env owner;
};

struct Registry {
  std::mutex mutex;
  std::unordered_map<std::string, uint64_t> numbers;
  std::unordered_map<uint64_t, Claim> claims;
  uint64_t next = 1;

  void Drop(uint64_t number) {
    const auto it = claims.find(number);
    if (it == claims.end()) return;
    numbers.erase(it->second.name);
    claims.erase(it);
  }
};

// Never destroyed: a worker may still be ending while the process runs its destructors.
Registry& Shared() {
  static Registry& registry = *new Registry;
  return registry;
}

std::string Text(const Bytes& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data), bytes.size);
}

Napi::Value TakeName(const Napi::CallbackInfo& info) {
  Bytes name;
  uint64_t over;
  if (!Take(info, 0, &name) || !Take(info, 1, &over)) return info.Env().Undefined();
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.numbers.find(Text(name));
  if (it != shared.numbers.end()) {
    const uint64_t other = it->second;
    if (other != over) return Napi::Number::New(info.Env(), -static_cast<double>(other));
    shared.Drop(other);
  }
  const uint64_t number = shared.next++;
  shared.claims[number] = {Text(name), "", info.Env()};
  shared.numbers[Text(name)] = number;
  return Napi::Number::New(info.Env(), static_cast<double>(number));
}

Napi::Value Note(const Napi::CallbackInfo& info) {
  uint64_t number;
  Bytes note;
  if (!Take(info, 0, &number) || !Take(info, 1, &note)) return info.Env().Undefined();
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(number);
  if (it != shared.claims.end()) it->second.note = Text(note);
  return info.Env().Undefined();
}

Napi::Value NoteOf(const Napi::CallbackInfo& info) {
  uint64_t number;
  if (!Take(info, 0, &number)) return info.Env().Undefined();
  std::string note;
  {
    Registry& shared = Shared();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    const auto it = shared.claims.find(number);
    if (it == shared.claims.end()) return info.Env().Undefined();
    note = it->second.note;
  }
  return Napi::Buffer<char>::Copy(info.Env(), note.data(), note.size());
}

Napi::Value DropName(const Napi::CallbackInfo& info) {
  uint64_t number;
  if (!Take(info, 0, &number)) return info.Env().Undefined();
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.Drop(number);
  return info.Env().Undefined();
}

void DropOf(napi_env env) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  for (auto it = shared.claims.begin(); it != shared.claims.end();) {
    const auto here = it++;
    if (here->second.owner != env) continue;
    // Another environment may come to have this one's address.
    here->second.owner = nullptr;
    if (here->second.note.empty()) shared.Drop(here->first);
  }
}

}  // namespace

void InitClaims(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name, const_cast<char*>(name)));
  };
  add("claim", TakeName);
  add("noteClaim", Note);
  add("claimNote", NoteOf);
  add("dropClaim", DropName);
  napi_env raw = env;
  napi_add_env_cleanup_hook(
      raw, [](void* e) { DropOf(static_cast<napi_env>(e)); }, raw);
}
