// The table of claims, and what JavaScript sees of it. Every function takes the one mutex, and none
// calls JavaScript while it holds it.
#include "claims.h"

#include <napi.h>

#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "exports.h"
#include "marshal.h"

namespace {

using Inode = std::pair<uint64_t, uint64_t>;

struct Claim {
  const void* owner;
  std::vector<Inode> inodes;
  bool settled = false;
  bool ending = false;
  ClaimedMount mount = {};
};

struct Registry {
  std::mutex mutex;
  std::map<Inode, uint64_t> holders;
  std::unordered_map<uint64_t, Claim> claims;
  std::unordered_map<uint64_t, uint64_t> devices;
  std::set<ClaimListener*> listeners;
  uint64_t next = 1;

  void Drop(uint64_t number) {
    const auto it = claims.find(number);
    if (it == claims.end()) return;
    for (const Inode& inode : it->second.inodes) holders.erase(inode);
    const auto device = devices.find(it->second.mount.device);
    if (device != devices.end() && device->second == number) devices.erase(device);
    const bool awaited = it->second.ending;
    claims.erase(it);
    if (awaited) Tell(number);
  }

  void Abandon(std::unordered_map<uint64_t, Claim>::iterator it) {
    if (it == claims.end()) return;
    // Another environment may come to have its owner's address.
    it->second.owner = nullptr;
    if (!it->second.settled) Drop(it->first);
  }

  void Tell(uint64_t number) const {
    for (ClaimListener* listener : listeners) listener->ClaimEnded(number);
  }
};

// Never destroyed: a worker may still be ending while the process runs its destructors.
Registry& Shared() {
  static Registry& registry = *new Registry;
  return registry;
}

// act(claim: number): void
template <void (*act)(uint64_t)>
Napi::Value OnClaim(const Napi::CallbackInfo& info) {
  uint64_t claim = 0;
  if (Take(info, 0, &claim)) act(claim);
  return info.Env().Undefined();
}

// settleClaim(claim: number, mountId: bigint, device: bigint, mountNamespace: number): void
Napi::Value Settle(const Napi::CallbackInfo& info) {
  uint64_t claim = 0;
  ClaimedMount mount;
  if (Take(info, 0, &claim) && Take(info, 1, &mount.id) && Take(info, 2, &mount.device) &&
      Take(info, 3, &mount.mount_namespace)) {
    SettleClaim(claim, mount);
  }
  return info.Env().Undefined();
}

// claimedMount(claim: number): [id, device, mountNamespace] as bigints, null while it is not
// settled, undefined once it is gone
Napi::Value MountOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint64_t number = 0;
  if (!Take(info, 0, &number)) return env.Undefined();
  Claim claim;
  {
    Registry& shared = Shared();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    const auto it = shared.claims.find(number);
    if (it == shared.claims.end()) return env.Undefined();
    claim = it->second;
  }
  if (!claim.settled) return env.Null();
  Napi::Array found = Napi::Array::New(env, 3);
  found.Set(0u, Napi::BigInt::New(env, claim.mount.id));
  found.Set(1u, Napi::BigInt::New(env, claim.mount.device));
  found.Set(2u, Napi::BigInt::New(env, claim.mount.mount_namespace));
  return found;
}

// claimedInodes(claim: number): bigint[]   device, inode, device, inode, ...
Napi::Value InodesOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint64_t number = 0;
  if (!Take(info, 0, &number)) return env.Undefined();
  std::vector<Inode> inodes;
  {
    Registry& shared = Shared();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    const auto it = shared.claims.find(number);
    if (it != shared.claims.end()) inodes = it->second.inodes;
  }
  Napi::Array found = Napi::Array::New(env);
  for (const Inode& inode : inodes) {
    found.Set(found.Length(), Napi::BigInt::New(env, inode.first));
    found.Set(found.Length(), Napi::BigInt::New(env, inode.second));
  }
  return found;
}

// claimMount(mountId: bigint, device: bigint, mountNamespace: number, inodes: Uint8Array): number
Napi::Value ClaimAttached(const Napi::CallbackInfo& info) {
  ClaimedMount mount;
  Bytes bytes;
  if (!Take(info, 0, &mount.id) || !Take(info, 1, &mount.device) ||
      !Take(info, 2, &mount.mount_namespace) || !Take(info, 3, &bytes)) {
    return info.Env().Undefined();
  }
  std::vector<Inode> inodes(bytes.size / sizeof(Inode));
  static_assert(sizeof(Inode) == 16, "two numbers");
  for (size_t i = 0; i < inodes.size(); i++) {
    memcpy(&inodes[i].first, bytes.data + i * 16, 8);
    memcpy(&inodes[i].second, bytes.data + i * 16 + 8, 8);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(ClaimMount(mount, inodes)));
}

// claimOfDevice(device: bigint): number
Napi::Value OfDevice(const Napi::CallbackInfo& info) {
  uint64_t device = 0;
  if (!Take(info, 0, &device)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(ClaimOfDevice(device)));
}

// claims(): number   how many there are in the process
Napi::Value Count(const Napi::CallbackInfo& info) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  return Napi::Number::New(info.Env(), static_cast<double>(shared.claims.size()));
}

}  // namespace

uint64_t OpenClaim(const void* owner) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const uint64_t number = shared.next++;
  shared.claims[number].owner = owner;
  return number;
}

ClaimInTheWay AddToClaim(uint64_t claim, uint64_t device, uint64_t inode) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto [it, added] = shared.holders.emplace(Inode{device, inode}, claim);
  if (added) {
    shared.claims[claim].inodes.emplace_back(device, inode);
    return {};
  }
  if (it->second == claim) return {};
  return {it->second, shared.claims[it->second].ending};
}

void SettleClaim(uint64_t claim, const ClaimedMount& mount) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it == shared.claims.end()) return;
  const auto before = shared.devices.find(mount.device);
  if (before != shared.devices.end() && before->second != claim) shared.Drop(before->second);
  shared.devices[mount.device] = claim;
  it->second.settled = true;
  it->second.mount = mount;
}

uint64_t ClaimMount(const ClaimedMount& mount, const std::vector<Inode>& inodes) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto before = shared.devices.find(mount.device);
  if (before != shared.devices.end()) {
    if (shared.claims[before->second].mount.id == mount.id) return before->second;
    shared.Drop(before->second);
  }
  const uint64_t number = shared.next++;
  Claim& claim = shared.claims[number];
  claim = {nullptr, {}, true, false, mount};
  for (const Inode& inode : inodes) {
    if (shared.holders.emplace(inode, number).second) claim.inodes.push_back(inode);
  }
  shared.devices[mount.device] = number;
  return number;
}

uint64_t ClaimOfDevice(uint64_t device) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto found = shared.devices.find(device);
  return found == shared.devices.end() ? 0 : found->second;
}

void RetireClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it != shared.claims.end()) it->second.ending = true;
}

void RestoreClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it == shared.claims.end() || !it->second.ending) return;
  it->second.ending = false;
  shared.Tell(claim);
}

void DropStaleClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it != shared.claims.end() && !it->second.ending) shared.Drop(claim);
}

bool IsClaimEnding(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  return it != shared.claims.end() && it->second.ending;
}

void AddClaimListener(ClaimListener* listener) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.listeners.insert(listener);
}

void RemoveClaimListener(ClaimListener* listener) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.listeners.erase(listener);
}

void DropClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.Drop(claim);
}

void AbandonClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.Abandon(shared.claims.find(claim));
}

void DropClaimsOf(const void* owner) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  for (auto it = shared.claims.begin(); it != shared.claims.end();) {
    const auto here = it++;
    if (here->second.owner == owner) shared.Abandon(here);
  }
}

void InitClaims(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name, const_cast<char*>(name)));
  };
  add("dropClaim", OnClaim<DropClaim>);
  add("dropStaleClaim", OnClaim<DropStaleClaim>);
  add("retireClaim", OnClaim<RetireClaim>);
  add("restoreClaim", OnClaim<RestoreClaim>);
  add("settleClaim", Settle);
  add("claimedMount", MountOf);
  add("claimedInodes", InodesOf);
  add("claimMount", ClaimAttached);
  add("claimOfDevice", OfDevice);
  add("claims", Count);
  napi_env raw = env;
  napi_add_env_cleanup_hook(
      raw, [](void* e) { DropClaimsOf(e); }, raw);
}
