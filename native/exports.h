// What addon.cc calls once per environment (a worker thread is an environment of its own).
#pragma once
#include <napi.h>

// sys.cc: system calls, 1:1
void InitSys(Napi::Env env, Napi::Object exports);
// claims_js.cc: directories that the process has in use
void InitClaims(Napi::Env env, Napi::Object exports);
// pools.cc: owned threads, and the fds that what runs there hands out
void InitPools(Napi::Env env, Napi::Object exports);
// jobs.cc: programs, and what runs them
void InitJobs(Napi::Env env, Napi::Object exports);
