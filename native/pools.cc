// The environment's pools, what their results come by, and the fds that they hand out, for
// JavaScript.
#include <napi.h>

#include "environment.h"
#include "exports.h"
#include "js_arguments.h"
#include "syscalls.h"

namespace {

// createPool(name: string, threads: number, cpus: number[]): number   (id, or -errno)
Napi::Value CreatePool(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString() || !info[1].IsNumber() || !info[2].IsArray()) {
    return Refuse(env, "createPool(name: string, threads: number, cpus: number[])");
  }
  PoolOptions options;
  options.mount_namespace = Environment::MountNamespace();
  options.name = info[0].As<Napi::String>().Utf8Value().substr(0, 15);
  options.threads = Number(info, 1);
  if (options.threads < 1 || options.threads > 1024) return Refuse(env, "threads: 1 to 1024");
  const Napi::Array cpus = info[2].As<Napi::Array>();
  for (uint32_t i = 0; i < cpus.Length(); i++) {
    const Napi::Value cpu = cpus.Get(i);
    if (!cpu.IsNumber()) return Refuse(env, "cpus: numbers");
    options.cpus.push_back(cpu.As<Napi::Number>().Int32Value());
  }
  uint32_t id = 0;
  const int error = Environment::Of(env)->CreatePool(std::move(options), &id);
  return Napi::Number::New(env, error == 0 ? static_cast<double>(id) : -error);
}

// poolCounts(pool: number): number[]   queued, parked, running, most ever queued, ran
Napi::Value CountsOf(const Napi::CallbackInfo& info) {
  Pool* pool = Environment::Of(info.Env())->FindPool(Number(info, 0));
  if (pool == nullptr) return Refuse(info.Env(), "no such pool");
  const Pool::Counts counts = pool->counts();
  const double numbers[] = {static_cast<double>(counts.queued), static_cast<double>(counts.parked),
                            static_cast<double>(counts.running),
                            static_cast<double>(counts.most_queued),
                            static_cast<double>(counts.ran)};
  Napi::Array found = Napi::Array::New(info.Env(), 5);
  for (uint32_t i = 0; i < 5; i++) found.Set(i, numbers[i]);
  return found;
}

// closePool(pool: number): void   joins its threads; only for a pool without jobs
Napi::Value ClosePool(const Napi::CallbackInfo& info) {
  Environment* environment = Environment::Of(info.Env());
  Pool* pool = environment->FindPool(Number(info, 0));
  if (pool == nullptr) return info.Env().Undefined();
  const Pool::Counts counts = pool->counts();
  if (counts.queued + counts.parked + counts.running > 0)
    return Refuse(info.Env(), "the pool has jobs");
  environment->ClosePool(Number(info, 0));
  return info.Env().Undefined();
}

// setDispatcher(dispatch: (results: Uint8Array, words: number) => void): void
Napi::Value SetDispatcher(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) return Refuse(info.Env(), "the dispatcher must be a function");
  Environment::Of(info.Env())->SetDispatcher(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

// wakeFor(results: number): void   the loop is woken when so many results wait
Napi::Value WakeFor(const Napi::CallbackInfo& info) {
  Environment::Of(info.Env())->WakeFor(Number(info, 0));
  return info.Env().Undefined();
}

// deliver(): void   calls the dispatcher with what waits
Napi::Value Deliver(const Napi::CallbackInfo& info) {
  Environment::Of(info.Env())->DeliverAll();
  return info.Env().Undefined();
}

// closeOwned(fd: number): number   0, or -EBADF when the fd is none of ours
Napi::Value CloseOwned(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(Number(info, 0));
  const bool ours = info[0].IsNumber() && Environment::Of(info.Env())->Release(fd);
  return Napi::Number::New(info.Env(), static_cast<double>(ours ? sys_close(fd) : -EBADF));
}

// disown(fd: number): boolean   the fd is the caller's from now on, and survives the environment
Napi::Value Disown(const Napi::CallbackInfo& info) {
  const bool ours =
      info[0].IsNumber() && Environment::Of(info.Env())->Release(static_cast<int>(Number(info, 0)));
  return Napi::Boolean::New(info.Env(), ours);
}

// owns(fd: number): boolean   one that was handed out, and not disowned
Napi::Value Owns(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(Number(info, 0));
  return Napi::Boolean::New(info.Env(),
                            info[0].IsNumber() && Environment::Of(info.Env())->Owns(fd));
}

// ownedFds(): number
Napi::Value OwnedFds(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Environment::Of(info.Env())->owned()));
}

// mountNamespace(): number   tells the caller's mount namespace from others, 0 if it cannot
Napi::Value MountNamespace(const Napi::CallbackInfo& info) {
  const uint64_t inode = Environment::MountNamespace();
  return Napi::Number::New(info.Env(), static_cast<double>(inode));
}

}  // namespace

void InitPools(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); },
      nullptr);
  environment->Start();
  exports.Set("createPool", Napi::Function::New<CreatePool>(env));
  exports.Set("poolCounts", Napi::Function::New<CountsOf>(env));
  exports.Set("closePool", Napi::Function::New<ClosePool>(env));
  exports.Set("setDispatcher", Napi::Function::New<SetDispatcher>(env));
  exports.Set("wakeFor", Napi::Function::New<WakeFor>(env));
  exports.Set("deliver", Napi::Function::New<Deliver>(env));
  exports.Set("closeOwned", Napi::Function::New<CloseOwned>(env));
  exports.Set("disown", Napi::Function::New<Disown>(env));
  exports.Set("owns", Napi::Function::New<Owns>(env));
  exports.Set("ownedFds", Napi::Function::New<OwnedFds>(env));
  exports.Set("mountNamespace", Napi::Function::New<MountNamespace>(env));
}
