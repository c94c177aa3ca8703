// What one JavaScript environment (the main thread, or a worker) has of pools, results and fds.
//
//   submit    JS gives a program to a pool; the loop is kept alive while a result is owed
//   complete  an owned thread appends the job to `completed` and wakes the loop, once for as many
//   as
//             JS wants to be woken for; meanwhile it comes for them by itself
//   deliver   the JS thread writes the results of all of them into one buffer, and calls the
//             dispatcher once
//   teardown  pools are stopped and joined, results nobody saw are dropped with their fds, and the
//             fds that JS still held are closed: a terminated worker leaves nothing behind; a
//             thread that a call keeps for longer than a moment is left, and so neither
//             worker.terminate() nor process.exit() waits for ever
//
// A thread-safe function may drop what was queued in it at teardown. So nothing is queued in ours:
// it only wakes, and the jobs are owned here, in a box that threads which were left find closed.
#pragma once

#include <napi.h>

#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pool.h"

class Environment {
 public:
  explicit Environment(napi_env env) : env_(env) {}
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment* Of(napi_env env);

  void Start();
  void Stop();

  // 0 or an errno.
  int CreatePool(PoolOptions options, uint32_t* id);
  Pool* FindPool(uint32_t id);
  void ClosePool(uint32_t id);

  // Programs that are run often.
  uint32_t KeepProgram(std::shared_ptr<Program> program);
  std::shared_ptr<Program> FindProgram(uint32_t id);
  void DropProgram(uint32_t id) { programs_.erase(id); }

  // The inputs of a program are no longer JS's from here on; false if one is none of its fds.
  bool TakeInputs(const ProgramHeader& header);
  bool Release(int fd) { return fds_.erase(fd) != 0; }
  bool Owns(int fd) const { return fds_.count(fd) != 0; }
  size_t owned() const { return fds_.size(); }

  bool has_dispatcher() const { return !dispatcher_.IsEmpty(); }
  // Called with the buffer and the number of words in it, which are valid until it returns.
  void SetDispatcher(Napi::Function dispatcher) { dispatcher_ = Napi::Persistent(dispatcher); }
  // The loop is woken when so many results wait for it.
  void WakeFor(uint32_t results);
  // Calls the dispatcher with what has ended by now.
  void DeliverAll();
  void Submit(Pool* pool, std::vector<std::shared_ptr<Job>> jobs);
  void Drain(Pool* pool, std::shared_ptr<Job> job);

  // What a result is to JS, an even number of words: [words, job, status, step, errno, outputs,
  // report words, timing words, log bytes, claim, its upper half, stranded, ...outputs, 0 if they
  // are odd,
  // ...reports, ...timings, ...log]. Its outputs and its claim are JS's from here on.
  void Append(Job* job, std::vector<uint32_t>* words);
  // The same in a buffer that the next one overwrites.
  Napi::Value ToBuffer(Job* job);

  // A number for the mount namespace and root of the calling thread: equal while both are the same.
  // 0 before Linux 6.8 without /proc.
  static uint64_t MountNamespace();

 private:
  // What has ended and was not delivered.
  struct Box {
    std::mutex mutex;
    std::vector<std::shared_ptr<Job>> completed;
    uint32_t wake_for = 1;
    bool woken = false;
    bool closed = false;
    napi_threadsafe_function wake = nullptr;

    void Put(std::shared_ptr<Job> job);  // owned threads
    void WakeIfDue();                    // under the mutex
  };
  void Expect(const std::shared_ptr<Job>& job);
  static void Deliver(napi_env env, napi_value, void* context, void*);

  const napi_env env_;
  Napi::FunctionReference dispatcher_;
  // Memory that JavaScript reads results from.
  struct Shared {
    Napi::Reference<Napi::Uint8Array> array;
    size_t size = 0;
    // Empty in an environment that is being terminated: it gets no memory any more.
    Napi::Value Write(Napi::Env env, const std::vector<uint32_t>& words);
  };
  Shared delivered_;
  Shared returned_;
  std::vector<uint32_t> scratch_;
  std::map<uint32_t, std::shared_ptr<Pool>> pools_;
  std::unordered_map<uint32_t, std::shared_ptr<Program>> programs_;
  std::unordered_set<int> fds_;
  uint32_t next_pool_ = 1;
  uint32_t next_program_ = 1;
  uint32_t pending_ = 0;
  const std::shared_ptr<Box> box_ = std::make_shared<Box>();
};
