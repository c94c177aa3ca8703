// Directories that the process has in use, so that its environments (the main thread, each worker)
// see each other's.
//
// A claim is a set of directories, known by device and inode. A program takes it on its own thread,
// between opening the directories and using them. It ends with the program if that fails; else it
// is the environment's, and once it is settled on an attached mount it outlives that too, as the
// mount does. Whether the mount of a claim in the way is still there is for lib/ to find out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

using Inode = std::pair<uint64_t, uint64_t>;  // its device, and its number there

struct ClaimedMount {
  uint64_t id, device;
  uint64_t mount_namespace;  // as lib/ numbers them; 0 until that is known
};
// Numbers from here on are of namespaces that were visited: this and the namespace's own id. Above
// all ids of mounts, which are what tells namespaces apart where the caller is in them.
constexpr uint64_t kFirstElsewhere = uint64_t{1} << 52;

// A new claim, without directories.
uint64_t OpenClaim(const void* owner);
struct ClaimInTheWay {
  uint64_t claim = 0;  // 0: there is none
  bool ending = false;
};
// Adds a directory, if no other claim has it.
ClaimInTheWay AddToClaim(uint64_t claim, uint64_t device, uint64_t inode);
// What the claim is for from now on. A device is one mount's at a time: whoever had it is gone.
void SettleClaim(uint64_t claim, const ClaimedMount& mount);
// In which namespace its mount is, if that was not known.
void LocateClaim(uint64_t claim, uint64_t mount_namespace);
// The claim of a mount that is attached already, with these directories as far as no other claim
// has them: the one that there is for this mount, or a new one.
uint64_t ClaimMount(const ClaimedMount& mount, const std::vector<Inode>& inodes);
// Number of the claim of what is mounted from a device; 0 if there is none.
uint64_t ClaimOfDevice(uint64_t device);
struct ClaimFound {
  bool settled;
  ClaimedMount mount;
  std::vector<Inode> inodes;
};
// Nothing once it is gone.
std::optional<ClaimFound> FindClaim(uint64_t claim);
size_t CountClaims();
// Its mount is being taken down: who wants its directories waits until it is dropped, or restored
// because that failed. What an environment retires itself is restored when that ends; what a
// program retires, its thread drops, whatever becomes of the environment.
void RetireClaim(uint64_t claim, const void* by = nullptr);
void RestoreClaim(uint64_t claim);
void DropClaim(uint64_t claim);
// Unless it is ending: then somebody else will.
void DropStaleClaim(uint64_t claim);
bool IsClaimEnding(uint64_t claim);
// Nobody heard of it, or its environment ends: what is not settled goes, what is outlives that.
void AbandonClaim(uint64_t claim);
void DropClaimsOf(const void* owner);

// Who waits for claims to end is told of each one that does, on whatever thread that happens.
class ClaimListener {
 public:
  virtual void ClaimEnded(uint64_t claim) = 0;

 protected:
  ~ClaimListener() = default;
};
void AddClaimListener(ClaimListener* listener);
// When it returns, the listener is not called any more.
void RemoveClaimListener(ClaimListener* listener);
