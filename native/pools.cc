// Pools, programs and the fds that they hand out, for JavaScript. Types are checked here; lib/ has
// checked everything else.
#include <napi.h>

#include <condition_variable>
#include <cstring>

#include "environment.h"
#include "exports.h"
#include "syscalls.h"

namespace {

Napi::Value Refuse(Napi::Env env, const char* what) {
  if (!env.IsExceptionPending()) Napi::TypeError::New(env, what).ThrowAsJavaScriptException();
  return env.Undefined();
}

uint32_t Number(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? info[index].As<Napi::Number>().Uint32Value() : 0;
}

// createPool(name: string, threads: number, cpus: number[]): number   (id, or -errno)
Napi::Value CreatePool(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString() || !info[1].IsNumber() || !info[2].IsArray()) {
    return Refuse(env, "createPool(name: string, threads: number, cpus: number[])");
  }
  PoolOptions options;
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

// The arguments (pool, program) of submit and runSync; nullptr with a TypeError thrown.
std::shared_ptr<Job> TakeJob(const Napi::CallbackInfo& info, size_t program, Pool** pool) {
  const Napi::Env env = info.Env();
  Environment* environment = Environment::Of(env);
  *pool = environment->FindPool(Number(info, 0));
  if (*pool == nullptr) return Refuse(env, "no such pool"), nullptr;
  if (!info[program].IsTypedArray() ||
      info[program].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return Refuse(env, "the program must be a Uint8Array"), nullptr;
  }
  const Napi::Uint8Array bytes = info[program].As<Napi::Uint8Array>();
  if (bytes.ByteLength() % 4 != 0) return Refuse(env, "a program is whole words"), nullptr;
  auto job = std::make_shared<Job>();
  job->words.resize(bytes.ByteLength() / 4);
  memcpy(job->words.data(), bytes.Data(), bytes.ByteLength());
  ProgramHeader header;
  if (!ParseProgramHeader(job->words, &header)) return Refuse(env, "not a program"), nullptr;
  if (!environment->TakeInputs(header)) {
    return Refuse(env, "a program may take over only fds that came from one"), nullptr;
  }
  job->header = std::move(header);
  return job;
}

// submit(pool: number, job: number, program: Uint8Array): void
Napi::Value Submit(const Napi::CallbackInfo& info) {
  if (!Environment::Of(info.Env())->has_dispatcher()) return Refuse(info.Env(), "no dispatcher");
  Pool* pool;
  auto job = TakeJob(info, 2, &pool);
  if (!job) return info.Env().Undefined();
  job->id = Number(info, 1);
  Environment::Of(info.Env())->Submit(pool, std::move(job));
  return info.Env().Undefined();
}

// runSync(pool: number, program: Uint8Array): Buffer   the caller blocks until it has run
Napi::Value RunSync(const Napi::CallbackInfo& info) {
  Pool* pool;
  auto job = TakeJob(info, 1, &pool);
  if (!job) return info.Env().Undefined();
  std::mutex mutex;
  std::condition_variable wake;
  std::shared_ptr<Job> result;
  job->done = [&](std::shared_ptr<Job> done) {
    // Notified under the lock: when the caller wakes, this frame of it is gone.
    const std::lock_guard<std::mutex> lock(mutex);
    result = std::move(done);
    wake.notify_one();
  };
  pool->Submit(std::move(job));
  std::unique_lock<std::mutex> lock(mutex);
  wake.wait(lock, [&] { return result != nullptr; });
  return Environment::Of(info.Env())->ToValue(result.get());
}

// abort(pool: number, job: number): void   its result comes as always
Napi::Value Abort(const Napi::CallbackInfo& info) {
  Pool* pool = Environment::Of(info.Env())->FindPool(Number(info, 0));
  if (pool != nullptr) pool->Abort(Number(info, 1));
  return info.Env().Undefined();
}

// closePool(pool: number): void   joins its threads; only for a pool without jobs
Napi::Value ClosePool(const Napi::CallbackInfo& info) {
  Environment* environment = Environment::Of(info.Env());
  Pool* pool = environment->FindPool(Number(info, 0));
  if (pool == nullptr) return info.Env().Undefined();
  if (pool->queued() + pool->running() > 0) return Refuse(info.Env(), "the pool has jobs");
  environment->ClosePool(Number(info, 0));
  return info.Env().Undefined();
}

// setDispatcher(dispatch: (job: number, result: Buffer) => void): void
Napi::Value SetDispatcher(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) return Refuse(info.Env(), "the dispatcher must be a function");
  Environment::Of(info.Env())->SetDispatcher(info[0].As<Napi::Function>());
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

// ownedFds(): number
Napi::Value OwnedFds(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Environment::Of(info.Env())->owned()));
}

// programCalls(): string[]
Napi::Value Calls(const Napi::CallbackInfo& info) {
  const std::vector<std::string> names = ProgramCalls();
  Napi::Array array = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); i++) array.Set(i, names[i]);
  return array;
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
  exports.Set("submit", Napi::Function::New<Submit>(env));
  exports.Set("runSync", Napi::Function::New<RunSync>(env));
  exports.Set("abort", Napi::Function::New<Abort>(env));
  exports.Set("closePool", Napi::Function::New<ClosePool>(env));
  exports.Set("setDispatcher", Napi::Function::New<SetDispatcher>(env));
  exports.Set("closeOwned", Napi::Function::New<CloseOwned>(env));
  exports.Set("disown", Napi::Function::New<Disown>(env));
  exports.Set("ownedFds", Napi::Function::New<OwnedFds>(env));
  exports.Set("programCalls", Napi::Function::New<Calls>(env));
  exports.Set("mountNamespace", Napi::Function::New<MountNamespace>(env));
}
