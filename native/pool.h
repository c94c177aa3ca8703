// Owned threads that run programs.
//
// Mount namespace, working directory and file-system ids belong to a thread. Programs change them,
// so they never run on libuv's pool or on the JS thread, but on threads of ours, which the JS
// thread creates (a thread inherits the namespace of the one that makes it) and which unshare
// CLONE_FS before their first job.
//
//   JS thread      Submit, RunHere (blocks), Abort, Close
//   owned thread   takes a job, runs it, gives it to the job's Sink
//   Sink           whatever wants the result: a blocked caller, or the completions of an
//   environment
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "program.h"

struct Job {
  uint32_t id = 0;
  std::vector<uint32_t> words;
  ProgramHeader header;
  std::atomic<bool> abort{false};
  bool ran = false;
  ProgramResult result;
  std::function<void(std::shared_ptr<Job>)> done;  // on the owned thread

  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  // Whoever drops a job drops its fds: a result that JS never saw, inputs that were never used.
  ~Job();
};

struct PoolOptions {
  std::string name;  // at most 15 bytes: the threads' name
  uint32_t threads = 1;
  std::vector<int> cpus;  // empty: as the creating thread
};

class Pool {
 public:
  explicit Pool(PoolOptions options);
  ~Pool();

  // 0 or the errno of pthread_create.
  int Start();
  void Submit(std::shared_ptr<Job> job);
  // Takes a job out of the queue, or asks a running one to stop before its committing step.
  void Abort(uint32_t id);
  // No job is started any more; the queued ones are dropped; waits for the running ones.
  void Stop();

  uint32_t queued();
  uint32_t running();

 private:
  static void* Enter(void* pool);
  void Work();
  bool PrepareThread();

  const PoolOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable ready_;
  uint32_t prepared_ = 0;
  std::deque<std::shared_ptr<Job>> queue_;
  std::vector<std::shared_ptr<Job>> current_;
  std::vector<pthread_t> threads_;
  bool stopping_ = false;
};
