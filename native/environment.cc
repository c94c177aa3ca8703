#include "environment.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "syscalls.h"

namespace {
constexpr size_t kResultsSize = size_t{64} * 1024;
// How long teardown waits for programs under way: many times what one takes that comes back.
constexpr std::chrono::seconds kPatience(5);
}  // namespace

Environment* Environment::Of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Environment*>(data);
}

void Environment::Start() {
  napi_value name = nullptr;
  napi_create_string_utf8(env_, "overlayfd", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                  Deliver, &box_->wake);
  napi_unref_threadsafe_function(env_, box_->wake);
  // Registered after the function above and so run before that is torn down.
  napi_add_env_cleanup_hook(
      env_, [](void* e) { static_cast<Environment*>(e)->Stop(); }, this);
}

void Environment::Stop() {
  for (const auto& each : pools_) each.second->Stop();
  const auto deadline = Pool::Clock::now() + kPatience;
  for (const auto& each : pools_) each.second->Join(deadline);
  pools_.clear();
  std::vector<std::shared_ptr<Job>> unseen;
  {
    const std::lock_guard<std::mutex> lock(box_->mutex);
    box_->closed = true;
    unseen.swap(box_->completed);
  }
  unseen.clear();
  for (const int fd : fds_) sys_close(fd);
  fds_.clear();
}

int Environment::CreatePool(PoolOptions options, uint32_t* id) {
  auto pool = std::make_shared<Pool>(std::move(options));
  const int error = pool->Start();
  if (error == 0) pools_[*id = next_pool_++] = std::move(pool);
  return error;
}

Pool* Environment::FindPool(uint32_t id) {
  const auto it = pools_.find(id);
  return it == pools_.end() ? nullptr : it->second.get();
}

void Environment::ClosePool(uint32_t id) {
  const auto it = pools_.find(id);
  if (it == pools_.end()) return;
  it->second->Stop();
  it->second->Join();
  pools_.erase(it);
}

bool Environment::TakeInputs(const ProgramHeader& header) {
  for (size_t i = 0; i < header.inputs.size(); i++) {
    if (fds_.erase(header.inputs[i].second) != 0) continue;
    // None of ours, or one that is named twice: it would be closed twice. The others go back.
    while (i-- > 0) fds_.insert(header.inputs[i].second);
    return false;
  }
  return true;
}

uint32_t Environment::KeepProgram(std::shared_ptr<Program> program) {
  const uint32_t id = next_program_++;
  programs_[id] = std::move(program);
  return id;
}

std::shared_ptr<Program> Environment::FindProgram(uint32_t id) {
  const auto it = programs_.find(id);
  return it == programs_.end() ? nullptr : it->second;
}

void Environment::Expect(const std::shared_ptr<Job>& job) {
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, box_->wake);
  job->done = [box = box_](std::shared_ptr<Job> done) { box->Put(std::move(done)); };
}

void Environment::Submit(Pool* pool, std::vector<std::shared_ptr<Job>> jobs) {
  for (const auto& job : jobs) Expect(job);
  pool->Submit(std::move(jobs));
}

void Environment::Drain(Pool* pool, std::shared_ptr<Job> job) {
  Expect(job);
  pool->Drain(std::move(job));
}

void Environment::Append(Job* job, std::vector<uint32_t>* words) {
  job->LocateMount();
  ProgramResult& result = job->result;
  const size_t begin = words->size();
  const uint32_t head[] = {0,
                           job->id,
                           static_cast<uint32_t>(result.status),
                           result.step,
                           static_cast<uint32_t>(result.error),
                           static_cast<uint32_t>(result.outputs.size()),
                           static_cast<uint32_t>(result.reports.size()),
                           static_cast<uint32_t>(result.timings.size()),
                           static_cast<uint32_t>(result.log.size()),
                           static_cast<uint32_t>(result.claim),
                           static_cast<uint32_t>(result.claim >> 32),
                           result.stranded ? 1u : 0u};
  words->insert(words->end(), head, head + 12);
  for (const int fd : result.outputs) {
    words->push_back(static_cast<uint32_t>(fd));
    if (fd >= 0) fds_.insert(fd);
  }
  if (result.outputs.size() % 2 != 0) words->push_back(0);
  result.outputs.clear();
  result.claim = 0;
  words->insert(words->end(), result.reports.begin(), result.reports.end());
  words->insert(words->end(), result.timings.begin(), result.timings.end());
  const size_t at = words->size();
  words->resize(at + (result.log.size() + 7) / 8 * 2);
  memcpy(words->data() + at, result.log.data(), result.log.size());
  (*words)[begin] = static_cast<uint32_t>(words->size() - begin);
}

void Environment::Box::WakeIfDue() {
  if (woken || completed.empty() || completed.size() < wake_for) return;
  woken = true;
  napi_call_threadsafe_function(wake, nullptr, napi_tsfn_nonblocking);
}

void Environment::Box::Put(std::shared_ptr<Job> job) {
  const std::lock_guard<std::mutex> lock(mutex);
  // Nobody waits for it: it ends with the caller's reference.
  if (closed) return;
  completed.push_back(std::move(job));
  WakeIfDue();
}

void Environment::WakeFor(uint32_t results) {
  const std::lock_guard<std::mutex> lock(box_->mutex);
  box_->wake_for = std::max(results, 1U);
  box_->WakeIfDue();
}

void Environment::Deliver(napi_env env, napi_value, void* context, void*) {
  if (env != nullptr) static_cast<Environment*>(context)->DeliverAll();
}

void Environment::DeliverAll() {
  const Napi::Env env(env_);
  std::vector<std::shared_ptr<Job>> jobs;
  {
    const std::lock_guard<std::mutex> lock(box_->mutex);
    jobs.swap(box_->completed);
    box_->woken = false;
  }
  pending_ -= static_cast<uint32_t>(jobs.size());
  if (pending_ == 0 && !jobs.empty()) napi_unref_threadsafe_function(env_, box_->wake);
  if (jobs.empty()) return;
  const Napi::HandleScope scope(env);
  std::vector<uint32_t> words;
  for (const auto& job : jobs) Append(job.get(), &words);
  const Napi::Value results = delivered_.Write(env, words);
  // Nothing the dispatcher does throws; in a terminating worker the call itself fails, and what
  // it did not take is closed at teardown.
  if (!results.IsEmpty())
    dispatcher_.Call({results, Napi::Number::New(env, static_cast<double>(words.size()))});
  if (env.IsExceptionPending()) env.GetAndClearPendingException();
}

Napi::Value Environment::ToBuffer(Job* job) {
  scratch_.clear();
  Append(job, &scratch_);
  return returned_.Write(env_, scratch_);
}

Napi::Value Environment::Shared::Write(Napi::Env env, const std::vector<uint32_t>& words) {
  const size_t bytes = words.size() * 4;
  if (bytes > size) {
    const size_t wanted = std::max(bytes * 2, kResultsSize);
    Napi::Uint8Array larger = Napi::Uint8Array::New(env, wanted);
    if (larger.IsEmpty() || larger.Data() == nullptr) return Napi::Value();
    array = Napi::Persistent(larger);
    size = wanted;
  }
  Napi::Uint8Array memory = array.Value();
  if (memory.IsEmpty() || memory.Data() == nullptr) return Napi::Value();
  memcpy(memory.Data(), words.data(), bytes);
  return memory;
}

// By the id of the root's mount, which is never reused (Linux 6.8) and not for anybody else to make
// up, where /proc may be a container's. Each namespace has mounts of its own, and so has a new
// root.
uint64_t Environment::MountNamespace() {
  uapi::statx root = {};
  const long result = sys_statx(AT_FDCWD, "/", 0, STATX_MNT_ID_UNIQUE, &root);
  if (result == 0 && (root.stx_mask & STATX_MNT_ID_UNIQUE) != 0) return root.stx_mnt_id;
  char link[64];  // mnt:[4026531841]
  const long size = sys_readlinkat(AT_FDCWD, "/proc/thread-self/ns/mnt", link, sizeof link - 1);
  if (size < 0) return 0;
  link[size] = 0;
  const char* number = strchr(link, '[');
  return number == nullptr ? 0 : strtoull(number + 1, nullptr, 10);
}
