// The table of claims. Every function takes the one mutex.
#include "claims.h"

#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

struct Claim {
  const void* owner;
  std::vector<Inode> inodes;
  bool settled = false;
  bool ending = false;
  const void* retired_by = nullptr;  // the environment that did so itself, not a program of its
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

  void Restore(uint64_t number, Claim* claim) const {
    if (!claim->ending) return;
    claim->ending = false;
    claim->retired_by = nullptr;
    Tell(number);
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

void LocateClaim(uint64_t claim, uint64_t mount_namespace) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it == shared.claims.end() || !it->second.settled) return;
  if (it->second.mount.mount_namespace == 0) it->second.mount.mount_namespace = mount_namespace;
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
  claim = {nullptr, {}, true, false, nullptr, mount};
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

std::optional<ClaimFound> FindClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it == shared.claims.end()) return {};
  return ClaimFound{it->second.settled, it->second.mount, it->second.inodes};
}

size_t CountClaims() {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  return shared.claims.size();
}

void RetireClaim(uint64_t claim, const void* by) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it == shared.claims.end()) return;
  it->second.ending = true;
  it->second.retired_by = by;
}

void RestoreClaim(uint64_t claim) {
  Registry& shared = Shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto it = shared.claims.find(claim);
  if (it != shared.claims.end()) shared.Restore(claim, &it->second);
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
    // Nobody else would: whoever waits for it looks then whether the mount is there.
    if (here->second.retired_by == owner) shared.Restore(here->first, &here->second);
    if (here->second.owner == owner) shared.Abandon(here);
  }
}
