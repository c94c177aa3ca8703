// Pools and claims under ThreadSanitizer, without node: several owners, as the main thread and
// workers are, each with a pool of its own, want the same few directories at the same time.
//
//   owner          submits batches and single runs, aborts some, takes results as they come,
//   settles,
//                  retires, restores and drops what they claimed, looks at counts, drains, stops
//   owned threads  open a directory, claim it, answer, go on
//
// Each job must be answered once, unless its pool was stopped first; no claim may be left, nor an
// fd.
#include <dirent.h>
#include <fcntl.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../../native/claims.h"
#include "../../native/pool.h"
#include "../../native/program.h"
#include "../../native/syscalls.h"

namespace {

constexpr int kOwners = 4;
constexpr int kRounds = 40;
constexpr uint32_t kJobs = 24;  // of one batch
const char* const kDirectories[] = {"/", "/proc", "/usr", "/dev"};

[[noreturn]] void Wrong(const std::string& what) {
  fprintf(stderr, "%s\n", what.c_str());
  exit(1);
}

uint32_t CallNumber(const std::string& name) {
  const std::vector<std::string> calls = ProgramCalls();
  for (uint32_t i = 0; i < calls.size(); i++) {
    if (calls[i].compare(0, name.size() + 1, name + ":") == 0) return i;
  }
  Wrong("no call " + name);
}

void AddText(std::vector<uint32_t>* words, const std::string& text) {
  words->push_back(static_cast<uint32_t>(text.size()));
  const size_t at = words->size();
  words->resize(at + text.size() / 4 + 1, 0);
  memcpy(words->data() + at, text.data(), text.size());
}

// As lib/program/encode.ts has it: openat into slot 0, claim it, answer; then look at it once more.
std::shared_ptr<Program> ClaimProgram(const std::string& directory) {
  const uint32_t open = CallNumber("openat");
  const uint32_t claim = CallNumber("claim") | kAnswers << 16;
  const uint32_t look = CallNumber("statx");
  const uint32_t apart = 0xffff;  // depends on no step
  std::vector<uint32_t> words = {0x4456464f, 2, 1, 0, 0, 3, 0, 1, 0};
  AddText(&words, "threads");
  words.insert(words.end(),
               {open, apart << 16, 0, 0, 0, kInteger, static_cast<uint32_t>(-100), kBytes});
  AddText(&words, directory);
  words.insert(words.end(), {kInteger, O_PATH | O_CLOEXEC, 0, kInteger, 0, 0});
  words.insert(words.end(), {claim, apart | apart << 16, 0, 0, 0, kSlot, 0, kOut});
  words.insert(words.end(),
               {look, apart | apart << 16, 0, 0, 0, kInteger, static_cast<uint32_t>(-100), kBytes});
  AddText(&words, "/");
  words.insert(words.end(), {kInteger, 0, 0, kInteger, 0, 0, kOut});
  auto program = Program::Parse(std::move(words));
  if (!program || !program->Decode()) Wrong("not a program");
  return program;
}

std::atomic<uint64_t> answered{0}, claimed{0}, refused{0};

class Owner {
 public:
  explicit Owner(uint32_t number) : number_(number) {
    for (const char* directory : kDirectories) programs_.push_back(ClaimProgram(directory));
  }

  void Work() {
    for (uint32_t round = 0; round < kRounds; round++) {
      // Its threads own it with us.
      const auto pool = std::make_shared<Pool>(PoolOptions{"threads", 1 + round % 3, {}, number_});
      if (pool->Start() != 0) Wrong("no threads");
      owed_ = 0;
      std::vector<std::shared_ptr<Job>> batch;
      for (uint32_t i = 0; i < kJobs; i++) batch.push_back(MakeJob(i));
      pool->Submit(std::move(batch));
      pool->SubmitFirst(MakeJob(kJobs));
      for (uint32_t id = round % 5; id <= kJobs; id += 5) pool->Abort(id);
      const Pool::Counts counts = pool->counts();
      if (counts.most_queued < counts.queued) Wrong("more queued than ever");
      // one in four is stopped with whatever it is at
      while (round % 4 != 0 && owed_ > 0) Take();
      if (round % 4 != 0) Drain(pool.get());
      pool->Stop();
      pool->Join();
      Take();
    }
    DropClaimsOf(this);
  }

 private:
  std::shared_ptr<Job> MakeJob(uint32_t id) {
    auto job = std::make_shared<Job>();
    job->id = id;
    job->program = programs_[(id + number_) % programs_.size()];
    job->timed = id % 2 == 0;
    job->owner = this;
    job->done = [this](std::shared_ptr<Job> done) {
      const std::lock_guard<std::mutex> lock(mutex_);
      completed_.push_back(std::move(done));
    };
    owed_++;
    return job;
  }

  void Drain(Pool* pool) {
    std::atomic<bool> drained{false};
    auto job = std::make_shared<Job>();
    job->done = [&](const std::shared_ptr<Job>&) { drained = true; };
    pool->Drain(std::move(job));
    while (!drained) std::this_thread::yield();
  }

  // As the JS thread does with results.
  void Take() {
    std::vector<std::shared_ptr<Job>> jobs;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs.swap(completed_);
    }
    if (jobs.empty()) std::this_thread::yield();
    for (const auto& job : jobs) {
      owed_--;
      answered++;
      if (job->result.status == ProgramStatus::kFailed) refused++;
      if (job->result.status != ProgramStatus::kDone || job->result.claim == 0) continue;
      claimed++;
      const uint64_t claim = job->result.claim;
      switch (job->id % 6) {
        case 0:  // dropped with the job, which nobody has looked at
          continue;
        case 1: {
          // One is everybody's: who settled there last may have dropped it already.
          const uint64_t device = job->id % 12 == 1 ? 0 : 1 + number_;
          SettleClaim(claim, {claim, device, number_});
          if (device != 0 && ClaimOfDevice(device) == 0)
            Wrong("settled on a device, and not there");
          break;
        }
        case 2:
          RetireClaim(claim);
          std::this_thread::yield();
          break;
        case 3:
          RetireClaim(claim);
          RestoreClaim(claim);
          DropStaleClaim(claim);
          break;
        default:
          if (!FindClaim(claim)) Wrong("a claim that was handed out is gone");
      }
      job->result.claim = 0;
      DropClaim(claim);
    }
  }

  const uint32_t number_;
  std::vector<std::shared_ptr<Program>> programs_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Job>> completed_;
  int owed_ = 0;
};

int OpenFds() {
  int count = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) count++;
  closedir(directory);
  return count;
}

}  // namespace

int main() {
  const int before = OpenFds();
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kOwners; i++) threads.emplace_back([i] { Owner(i).Work(); });
  for (std::thread& thread : threads) thread.join();
  if (OpenFds() != before) Wrong("fds are left: " + std::to_string(OpenFds() - before));
  if (CountClaims() != 0) Wrong("claims are left: " + std::to_string(CountClaims()));
  if (claimed == 0 || refused == 0) Wrong("nothing met");
  printf("%lu runs answered, %lu claimed, %lu refused\n", answered.load(), claimed.load(),
         refused.load());
}
