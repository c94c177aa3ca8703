// Owned threads that run programs.
//
// Mount namespace, working directory and file-system ids belong to a thread. Programs change them,
// so they never run on libuv's pool or on the JS thread, but on threads of ours, which the JS
// thread creates (a thread inherits the namespace of the one that makes it) and which unshare
// CLONE_FS before their first job.
//
//   JS thread      Submit, Abort, Drain, Stop
//   owned thread   takes a job, runs it, gives it to the job's `done`
//   stranded       a thread that a program has left in another namespace, because its way back
//                  failed: it ends, or, as the last one, stays to refuse what is queued
//   left           a thread whose program does not come back (a call may wait for a server of FUSE
//   or
//                  NFS for ever, and only the death of the process ends it): it keeps its pool,
//                  does what its program says when it may, and ends; nobody hears of the result
//   parked         a job whose directories are still in use by a claim that is ending; queued again
//                  when that has ended, so that no thread waits meanwhile
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "claims.h"
#include "program.h"

struct Job {
  uint32_t id = 0;
  std::shared_ptr<Program> program;  // none: it only waits for the others
  std::vector<uint32_t> fills;
  bool timed = false;
  const void* owner = nullptr;
  std::atomic<bool> abort{false};
  bool ran = false;
  ProgramResult result;
  std::function<void(std::shared_ptr<Job>)> done;  // on the owned thread

  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  // Whoever drops a job drops its fds: a result that JS never saw, inputs that were never used.
  ~Job();

  // Of a mount that was made inside another namespace: which one that is, by the fd of it that the
  // result brings.
  void LocateMount() const;
};

struct PoolOptions {
  std::string name;  // at most 15 bytes: the threads' name
  uint32_t threads = 1;
  std::vector<int> cpus;  // empty: as the creating thread
  uint64_t mount_namespace = 0;
};

class Pool final : private ClaimListener, public std::enable_shared_from_this<Pool> {
 public:
  explicit Pool(PoolOptions options);
  ~Pool();

  // 0 or the errno of pthread_create.
  int Start();
  // They are in the queue together.
  void Submit(std::vector<std::shared_ptr<Job>> jobs);
  void SubmitFirst(std::shared_ptr<Job> job);
  // Takes a job out of the queue, or asks a running one to stop before its committing step.
  void Abort(uint32_t id);
  // The job is done when nothing is queued, parked or running.
  void Drain(std::shared_ptr<Job> job);
  // No job is started any more; the queued ones are dropped, the running ones asked to stop.
  void Stop();
  // After Stop: waits for the threads, and leaves those that have not ended by then.
  using Clock = std::chrono::steady_clock;
  void Join(Clock::time_point deadline = Clock::time_point::max());

  struct Counts {
    uint32_t queued, parked, running;
    uint32_t most_queued;  // at any time
    uint64_t ran;
  };
  Counts counts();
  uint64_t mount_namespace() const { return options_.mount_namespace; }

 private:
  static void* Enter(void* pool);
  void Work();
  // False if the thread is not where it belongs afterwards.
  bool RunJob(const std::shared_ptr<Job>& job, bool own_directory);
  void Refuse(const std::shared_ptr<Job>& job);
  void PrepareThread();
  static bool TakeOwnDirectory();
  bool IsIdle() const { return queue_.empty() && parked_.empty() && working_ == 0; }
  void FinishDrains();
  void Park(const std::shared_ptr<Job>& job, uint64_t claim);
  void ClaimEnded(uint64_t claim) override;

  const PoolOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable ready_;
  uint32_t prepared_ = 0;
  std::deque<std::shared_ptr<Job>> queue_;
  std::vector<std::pair<uint64_t, std::shared_ptr<Job>>> parked_;
  std::vector<std::shared_ptr<Job>> current_;  // until the last thing they do is to answer
  uint32_t working_ = 0;                       // threads, until they have answered
  uint32_t serving_ = 0;                       // threads that are where they belong
  std::vector<std::shared_ptr<Job>> drains_;
  std::vector<pthread_t> threads_;
  std::condition_variable end_;
  size_t ended_ = 0;  // threads
  uint32_t most_queued_ = 0;
  uint64_t ran_ = 0;
  bool stopping_ = false;
};
