// What addon.cc calls once per environment (a worker thread is an environment of its own).
#pragma once
#include <napi.h>

void InitSys(Napi::Env env, Napi::Object exports);  // sys.cc: system calls, 1:1
void InitClaims(Napi::Env env,
                Napi::Object exports);  // claims_js.cc: directories that the process has in use
void InitPools(Napi::Env env,
               Napi::Object exports);  // pools.cc: owned threads that run programs
