#include "pool.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>

#include "syscalls.h"

Job::~Job() {
  if (!ran && program) program->Drop();
  LocateMount();
  for (const int fd : result.outputs) {
    if (fd >= 0) sys_close(fd);
  }
  // A claim of a failure is somebody else's.
  if (result.status == ProgramStatus::kDone && result.claim != 0) AbandonClaim(result.claim);
}

// Before JS has the result: it may come to be terminated with it in hand, and then nobody else says
// where to look for the mount.
void Job::LocateMount() const {
  if (!result.elsewhere) return;
  for (const int fd : result.outputs) {
    const long id = fd < 0 ? -1 : sys_mount_namespace_id(fd);
    if (id > 0) LocateClaim(result.claim, kFirstElsewhere + static_cast<uint64_t>(id));
  }
}

Pool::Pool(PoolOptions options) : options_(std::move(options)) {}

// With the last thread that was left, if there is one.
Pool::~Pool() { RemoveClaimListener(this); }

int Pool::Start() {
  AddClaimListener(this);
  // Signals are the JS thread's. A thread inherits its creator's mask, so there is no moment in
  // which one of ours could take one.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, size_t{256} * 1024);
  int error = 0;
  for (uint32_t i = 0; i < options_.threads && error == 0; i++) {
    pthread_t thread = 0;
    auto self = std::make_unique<std::shared_ptr<Pool>>(shared_from_this());
    error = pthread_create(&thread, &attributes, Enter, self.get());
    if (error != 0) break;
    // It is the thread's.
    static_cast<void>(self.release());
    threads_.push_back(thread);
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) {
    Stop();
    Join();
    return error;
  }
  // Until then a new thread shares its creator's directory, and setns(2) is EINVAL for that one.
  std::unique_lock<std::mutex> lock(mutex_);
  ready_.wait(lock, [this] { return prepared_ == options_.threads; });
  return 0;
}

void* Pool::Enter(void* pool) {
  const std::unique_ptr<std::shared_ptr<Pool>> self(static_cast<std::shared_ptr<Pool>*>(pool));
  (*self)->Work();
  const std::lock_guard<std::mutex> lock((*self)->mutex_);
  (*self)->ended_++;
  (*self)->end_.notify_one();
  return nullptr;
}

// True when the thread has a working directory of its own. Where unshare is forbidden, programs
// that change it fail on that step, and everything else works; what failed for want of memory is
// tried again for the next program.
bool Pool::TakeOwnDirectory() {
  if (sys_unshare(CLONE_FS) < 0) return false;
  // Not to keep the mount busy that the process was started in.
  sys_chdir("/");
  return true;
}

void Pool::PrepareThread() {
  sys_prctl(PR_SET_NAME, reinterpret_cast<unsigned long>(options_.name.c_str()), 0, 0, 0);
  if (!options_.cpus.empty()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int cpu : options_.cpus) {
      if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
    }
    sched_setaffinity(0, sizeof set, &set);
  }
}

void Pool::Work() {
  PrepareThread();
  bool own_directory = TakeOwnDirectory();
  bool is_home = true;
  bool is_last = false;
  std::unique_lock<std::mutex> lock(mutex_);
  serving_++;
  if (++prepared_ == options_.threads) ready_.notify_one();
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    std::shared_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    current_.push_back(job);
    working_++;
    lock.unlock();
    if (!own_directory) own_directory = TakeOwnDirectory();
    if (!is_home) {
      Refuse(job);
    } else if (!RunJob(job, own_directory)) {
      is_home = false;
    }
    // Not under the lock: who drops a job may have to wait for others.
    job.reset();
    lock.lock();
    working_--;
    if (!drains_.empty()) {
      lock.unlock();
      FinishDrains();
      lock.lock();
    }
    if (is_home || is_last) continue;
    serving_--;
    // What is queued must come to an end, and no thread but the JS thread can make one that is
    // home.
    if (serving_ > 0) return;
    is_last = true;
  }
}

void Pool::Refuse(const std::shared_ptr<Job>& job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_.erase(std::find(current_.begin(), current_.end(), job));
  }
  job->ran = true;
  job->program->Drop();
  job->result.status = ProgramStatus::kRefused;
  job->result.stranded = true;
  auto done = std::move(job->done);
  done(job);
}

bool Pool::RunJob(const std::shared_ptr<Job>& job, bool own_directory) {
  bool is_current = true;
  const auto leave = [&] {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_.erase(std::find(current_.begin(), current_.end(), job));
    ran_++;
    is_current = false;
  };
  // What it gave back may be read by the JS thread from then on.
  const auto answer = [&](ProgramResult result, bool ended) {
    if (result.status == ProgramStatus::kWaits) return Park(job, result.claim);
    job->ran = true;
    job->result = std::move(result);
    auto done = std::move(job->done);
    // Before anybody knows of its end: the pool may be closed then.
    if (ended) leave();
    done(job);
  };
  const bool is_home =
      RunProgram(job->program.get(), {job->fills, job->abort, own_directory, job->timed, job->owner,
                                      options_.mount_namespace, answer});
  if (is_current) leave();
  return is_home;
}

void Pool::Park(const std::shared_ptr<Job>& job, uint64_t claim) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    parked_.emplace_back(claim, job);
  }
  if (job->abort) return Abort(job->id);
  // It may have ended in between, and nobody else would say so.
  if (!IsClaimEnding(claim)) ClaimEnded(claim);
}

void Pool::ClaimEnded(uint64_t claim) {
  size_t count = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    // Their turn had come before, and they keep their order.
    for (auto it = parked_.rbegin(); it != parked_.rend(); ++it) {
      if (it->first != claim) continue;
      queue_.push_front(std::move(it->second));
      count++;
    }
    parked_.erase(std::remove_if(parked_.begin(), parked_.end(),
                                 [](const auto& parked) { return !parked.second; }),
                  parked_.end());
  }
  while (count-- > 0) wake_.notify_one();
}

void Pool::Submit(std::vector<std::shared_ptr<Job>> jobs) {
  size_t count = jobs.size();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    for (auto& job : jobs) queue_.push_back(std::move(job));
    most_queued_ = std::max(most_queued_, static_cast<uint32_t>(queue_.size()));
  }
  while (count-- > 0) wake_.notify_one();
}

void Pool::SubmitFirst(std::shared_ptr<Job> job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    queue_.push_front(std::move(job));
    most_queued_ = std::max(most_queued_, static_cast<uint32_t>(queue_.size()));
  }
  wake_.notify_one();
}

void Pool::Abort(uint32_t id) {
  std::shared_ptr<Job> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& job : current_) {
      if (job->id == id) job->abort = true;
    }
    for (auto it = queue_.begin(); it != queue_.end() && !dropped; ++it) {
      if ((*it)->id != id) continue;
      dropped = std::move(*it);
      queue_.erase(it);
      break;
    }
    for (auto it = parked_.begin(); it != parked_.end() && !dropped; ++it) {
      if (it->second->id != id) continue;
      dropped = std::move(it->second);
      parked_.erase(it);
      break;
    }
  }
  if (!dropped) return;
  // It ends as a program that was aborted before its first step.
  dropped->ran = true;
  dropped->program->Drop();
  dropped->result.status = ProgramStatus::kAborted;
  auto done = std::move(dropped->done);
  done(std::move(dropped));
  FinishDrains();
}

void Pool::FinishDrains() {
  std::vector<std::shared_ptr<Job>> drained;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (IsIdle()) drained.swap(drains_);
  }
  for (auto& waiting : drained) {
    auto done = std::move(waiting->done);
    done(std::move(waiting));
  }
}

void Pool::Drain(std::shared_ptr<Job> job) {
  job->result.status = ProgramStatus::kDone;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    if (!IsIdle()) {
      drains_.push_back(std::move(job));
      return;
    }
  }
  auto done = std::move(job->done);
  done(std::move(job));
}

void Pool::Stop() {
  RemoveClaimListener(this);
  std::vector<std::shared_ptr<Job>> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    for (auto& job : queue_) dropped.push_back(std::move(job));
    for (auto& parked : parked_) dropped.push_back(std::move(parked.second));
    for (auto& job : drains_) dropped.push_back(std::move(job));
    queue_.clear();
    parked_.clear();
    drains_.clear();
    for (const auto& job : current_) job->abort = true;
  }
  wake_.notify_all();
}

void Pool::Join(Clock::time_point deadline) {
  bool all = true;
  if (deadline != Clock::time_point::max()) {
    std::unique_lock<std::mutex> lock(mutex_);
    all = end_.wait_until(lock, deadline, [this] { return ended_ == threads_.size(); });
  }
  for (const pthread_t thread : threads_) {
    if (all) {
      pthread_join(thread, nullptr);
    } else if (pthread_tryjoin_np(thread, nullptr) != 0) {
      pthread_detach(thread);
    }
  }
  threads_.clear();
}

Pool::Counts Pool::counts() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {static_cast<uint32_t>(queue_.size()), static_cast<uint32_t>(parked_.size()),
          static_cast<uint32_t>(current_.size()), most_queued_, ran_};
}
