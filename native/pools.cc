// Pools, programs and the fds that they hand out, for JavaScript. Types are checked here; lib/ has
// checked everything else.
#include <napi.h>
#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <cstring>

#include "environment.h"
#include "exports.h"
#include "runs.h"
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

std::vector<uint32_t> Words(const uint8_t* bytes, size_t size) {
  std::vector<uint32_t> words(size / 4);
  // The memory of an empty array is nullptr, which memcpy must not be given.
  if (!words.empty()) memcpy(words.data(), bytes, words.size() * 4);
  return words;
}

bool TakeBytes(const Napi::Value& value, Napi::Uint8Array* bytes) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return false;
  }
  *bytes = value.As<Napi::Uint8Array>();
  return true;
}

// A program from its bytes; nullptr with a TypeError thrown.
std::shared_ptr<Program> TakeProgram(Napi::Env env, const Napi::Value& value) {
  Napi::Uint8Array bytes;
  if (!TakeBytes(value, &bytes)) return Refuse(env, "the program must be a Uint8Array"), nullptr;
  if (bytes.ByteLength() % 4 != 0) return Refuse(env, "a program is whole words"), nullptr;
  auto program = Program::Parse(Words(bytes.Data(), bytes.ByteLength()));
  if (!program) Refuse(env, "not a program");
  return program;
}

// A program and what fills its holes: (program: Uint8Array | number, fills?: Uint8Array, words?:
// number, timed?: boolean) from `at` on; nullptr with a TypeError thrown.
std::shared_ptr<Job> TakeJob(const Napi::CallbackInfo& info, size_t at, Pool** pool) {
  const Napi::Env env = info.Env();
  Environment* environment = Environment::Of(env);
  *pool = environment->FindPool(Number(info, 0));
  if (*pool == nullptr) return Refuse(env, "no such pool"), nullptr;
  auto job = std::make_shared<Job>();
  // Until its inputs are its own it must not drop them.
  job->ran = true;
  job->owner = static_cast<napi_env>(env);
  if (info[at].IsNumber()) {
    job->program = environment->FindProgram(Number(info, at));
    if (!job->program) return Refuse(env, "no such program"), nullptr;
  } else {
    job->program = TakeProgram(env, info[at]);
    if (!job->program) return nullptr;
  }
  if (!info[at + 1].IsUndefined()) {
    Napi::Uint8Array fills;
    const size_t size = static_cast<size_t>(Number(info, at + 2)) * 4;
    if (!TakeBytes(info[at + 1], &fills) || size > fills.ByteLength()) {
      return Refuse(env, "what fills the holes must be in a Uint8Array"), nullptr;
    }
    job->fills = Words(fills.Data(), size);
  }
  job->timed = info[at + 3].IsBoolean() && info[at + 3].As<Napi::Boolean>().Value();
  if (!environment->TakeInputs(job->program->header())) {
    return Refuse(env, "a program may take over only fds that came from one"), nullptr;
  }
  job->ran = false;
  return job;
}

// prepare(program: Uint8Array): number   decodes it once; 0 if it is malformed
Napi::Value Prepare(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto program = TakeProgram(env, info[0]);
  if (!program) return env.Undefined();
  if (!program->header().inputs.empty()) return Refuse(env, "inputs are given to one run");
  if (!program->Decode()) return Napi::Number::New(env, 0);
  return Napi::Number::New(env, Environment::Of(env)->KeepProgram(std::move(program)));
}

// dropProgram(program: number): void   runs that are under way keep it
Napi::Value Forget(const Napi::CallbackInfo& info) {
  Environment::Of(info.Env())->DropProgram(Number(info, 0));
  return info.Env().Undefined();
}

// submit(pool: number, job: number, program, fills?, words?, timed?): void
Napi::Value Submit(const Napi::CallbackInfo& info) {
  if (!Environment::Of(info.Env())->has_dispatcher()) return Refuse(info.Env(), "no dispatcher");
  Pool* pool = nullptr;
  auto job = TakeJob(info, 2, &pool);
  if (!job) return info.Env().Undefined();
  job->id = Number(info, 1);
  Environment::Of(info.Env())->Submit(pool, {std::move(job)});
  return info.Env().Undefined();
}

// submitAll(pool: number, runs: Uint8Array, words: number): void   the runs: runs.h
Napi::Value SubmitAll(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Environment* environment = Environment::Of(env);
  if (!environment->has_dispatcher()) return Refuse(env, "no dispatcher");
  Pool* pool = environment->FindPool(Number(info, 0));
  if (pool == nullptr) return Refuse(env, "no such pool");
  Napi::Uint8Array bytes;
  const size_t size = static_cast<size_t>(Number(info, 2));
  if (!TakeBytes(info[1], &bytes) || size * 4 > bytes.ByteLength()) {
    return Refuse(env, "the runs must be in a Uint8Array");
  }
  const std::vector<uint32_t> words = Words(bytes.Data(), size * 4);
  std::vector<std::shared_ptr<Job>> jobs;
  for (size_t at = 0; at < words.size();) {
    KeptRun run;
    if (!TakeRun(words, &at, &run)) return Refuse(env, "a run is cut off");
    auto job = std::make_shared<Job>();
    job->id = run.job;
    job->owner = static_cast<napi_env>(env);
    job->program = environment->FindProgram(run.program);
    if (!job->program) return Refuse(env, "no such program");
    job->fills = std::move(run.fills);
    jobs.push_back(std::move(job));
  }
  environment->Submit(pool, std::move(jobs));
  return env.Undefined();
}

// Where a program leaves its thread alone, the caller's will do: waking another one and being woken
// takes longer than most calls (25 us and more on a virtual machine). Without signals, as on a
// thread of ours. False if it was not run: it is for a pool's thread, or its directories are not
// free yet.
bool RunOnCaller(Pool* pool, const std::shared_ptr<Job>& job) {
  if (!job->program->Decode() || !job->program->leaves_thread_alone()) return false;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  RunProgram(job->program.get(), {job->fills, job->abort, false, job->timed, job->owner,
                                  pool->mount_namespace(), [&](ProgramResult result, bool) {
                                    if (result.status == ProgramStatus::kWaits) return;
                                    job->ran = true;
                                    job->result = std::move(result);
                                  }});
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return job->ran;
}

void RunOnPool(Pool* pool, const std::shared_ptr<Job>& job) {
  std::mutex mutex;
  std::condition_variable wake;
  bool answered = false;
  job->done = [&](const std::shared_ptr<Job>&) {
    // Notified under the lock: when the caller wakes, this frame of it is gone.
    const std::lock_guard<std::mutex> lock(mutex);
    answered = true;
    wake.notify_one();
  };
  // The whole JS thread waits for this one.
  pool->SubmitFirst(job);
  std::unique_lock<std::mutex> lock(mutex);
  wake.wait(lock, [&] { return answered; });
}

// runSync(pool: number, program, fills?, words?, timed?): Uint8Array   the caller blocks until it
// has an answer, which is valid until the next one
Napi::Value RunSync(const Napi::CallbackInfo& info) {
  Pool* pool = nullptr;
  auto job = TakeJob(info, 1, &pool);
  if (!job) return info.Env().Undefined();
  if (!RunOnCaller(pool, job)) RunOnPool(pool, job);
  return Environment::Of(info.Env())->ToBuffer(job.get());
}

// drain(pool: number, job: number): void   its result comes when nothing else is queued or runs
Napi::Value Drain(const Napi::CallbackInfo& info) {
  Environment* environment = Environment::Of(info.Env());
  Pool* pool = environment->FindPool(Number(info, 0));
  if (pool == nullptr) return Refuse(info.Env(), "no such pool");
  auto job = std::make_shared<Job>();
  job->id = Number(info, 1);
  environment->Drain(pool, std::move(job));
  return info.Env().Undefined();
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
  exports.Set("submitAll", Napi::Function::New<SubmitAll>(env));
  exports.Set("runSync", Napi::Function::New<RunSync>(env));
  exports.Set("prepare", Napi::Function::New<Prepare>(env));
  exports.Set("dropProgram", Napi::Function::New<Forget>(env));
  exports.Set("drain", Napi::Function::New<Drain>(env));
  exports.Set("poolCounts", Napi::Function::New<CountsOf>(env));
  exports.Set("abort", Napi::Function::New<Abort>(env));
  exports.Set("closePool", Napi::Function::New<ClosePool>(env));
  exports.Set("setDispatcher", Napi::Function::New<SetDispatcher>(env));
  exports.Set("wakeFor", Napi::Function::New<WakeFor>(env));
  exports.Set("deliver", Napi::Function::New<Deliver>(env));
  exports.Set("closeOwned", Napi::Function::New<CloseOwned>(env));
  exports.Set("disown", Napi::Function::New<Disown>(env));
  exports.Set("owns", Napi::Function::New<Owns>(env));
  exports.Set("ownedFds", Napi::Function::New<OwnedFds>(env));
  exports.Set("programCalls", Napi::Function::New<Calls>(env));
  exports.Set("mountNamespace", Napi::Function::New<MountNamespace>(env));
}
