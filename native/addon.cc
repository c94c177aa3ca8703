// The list of what the addon exports. Each part adds its own names; none knows of another's.
#include <napi.h>

#include "exports.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  InitSys(env, exports);
  // Before the pools: teardown runs backwards, and an owned thread may be at work until it has.
  InitClaims(env, exports);
  InitPools(env, exports);
  InitJobs(env, exports);
  return exports;
}

NODE_API_MODULE(overlayfd, Init)
