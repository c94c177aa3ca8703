// Programs and the jobs that run them, for JavaScript.
#include <napi.h>
#include <pthread.h>
#include <signal.h>

#include <condition_variable>

#include "environment.h"
#include "exports.h"
#include "js_arguments.h"
#include "kept_runs.h"

namespace {

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

// submitAll(pool: number, runs: Uint8Array, words: number): void   the runs: kept_runs.h
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

// abort(pool: number, job: number): void   its result comes as always
Napi::Value Abort(const Napi::CallbackInfo& info) {
  Pool* pool = Environment::Of(info.Env())->FindPool(Number(info, 0));
  if (pool != nullptr) pool->Abort(Number(info, 1));
  return info.Env().Undefined();
}

// programCalls(): string[]
Napi::Value Calls(const Napi::CallbackInfo& info) {
  const std::vector<std::string> names = ProgramCalls();
  Napi::Array array = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); i++) array.Set(i, names[i]);
  return array;
}

}  // namespace

void InitJobs(Napi::Env env, Napi::Object exports) {
  exports.Set("submit", Napi::Function::New<Submit>(env));
  exports.Set("submitAll", Napi::Function::New<SubmitAll>(env));
  exports.Set("runSync", Napi::Function::New<RunSync>(env));
  exports.Set("prepare", Napi::Function::New<Prepare>(env));
  exports.Set("dropProgram", Napi::Function::New<Forget>(env));
  exports.Set("drain", Napi::Function::New<Drain>(env));
  exports.Set("abort", Napi::Function::New<Abort>(env));
  exports.Set("programCalls", Napi::Function::New<Calls>(env));
}
