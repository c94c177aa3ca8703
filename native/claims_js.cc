// What JavaScript sees of the table of claims. None of its functions is called under the table's
// mutex.
#include <napi.h>

#include <cstring>
#include <vector>

#include "claims.h"
#include "exports.h"
#include "marshal.h"

namespace {

// act(claim: number): void
template <void (*act)(uint64_t)>
Napi::Value OnClaim(const Napi::CallbackInfo& info) {
  uint64_t claim = 0;
  if (Take(info, 0, &claim)) act(claim);
  return info.Env().Undefined();
}

// retireClaim(claim: number): void
Napi::Value Retire(const Napi::CallbackInfo& info) {
  uint64_t claim = 0;
  if (Take(info, 0, &claim)) RetireClaim(claim, static_cast<napi_env>(info.Env()));
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
  const auto claim = FindClaim(number);
  if (!claim) return env.Undefined();
  if (!claim->settled) return env.Null();
  Napi::Array found = Napi::Array::New(env, 3);
  found.Set(0u, Napi::BigInt::New(env, claim->mount.id));
  found.Set(1u, Napi::BigInt::New(env, claim->mount.device));
  found.Set(2u, Napi::BigInt::New(env, claim->mount.mount_namespace));
  return found;
}

// claimedInodes(claim: number): bigint[]   device, inode, device, inode, ...
Napi::Value InodesOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint64_t number = 0;
  if (!Take(info, 0, &number)) return env.Undefined();
  const auto claim = FindClaim(number);
  Napi::Array found = Napi::Array::New(env);
  if (!claim) return found;
  for (const Inode& inode : claim->inodes) {
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
  return Napi::Number::New(info.Env(), static_cast<double>(CountClaims()));
}

}  // namespace

void InitClaims(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name, const_cast<char*>(name)));
  };
  add("dropClaim", OnClaim<DropClaim>);
  add("dropStaleClaim", OnClaim<DropStaleClaim>);
  add("retireClaim", Retire);
  add("restoreClaim", OnClaim<RestoreClaim>);
  add("settleClaim", Settle);
  add("claimedMount", MountOf);
  add("claimedInodes", InodesOf);
  add("claimMount", ClaimAttached);
  add("claimOfDevice", OfDevice);
  add("claims", Count);
  exports.Set("firstElsewhere", Napi::Number::New(env, static_cast<double>(kFirstElsewhere)));
  napi_env raw = env;
  napi_add_env_cleanup_hook(
      raw, [](void* e) { DropClaimsOf(e); }, raw);
}
