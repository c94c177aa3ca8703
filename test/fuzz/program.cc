// libFuzzer on programs: whatever the words say, they are decoded, and what decodes is run, with
// the kernel played by this file (`syscall` is a macro for FuzzSyscall when native/ is compiled for
// it). No call is made. Each pointer that one is given is read, or written, as far as the kernel
// would, so that AddressSanitizer sees one that is not the program's.
//
//   input: words of the program, seed of the answers, the program, what fills its holes
//
// With kRuns among the words of the program it is one that was kept, and what follows it are runs,
// as submitAll takes them.
//
// What must hold of each run: one answer, no fd closed but the program's own and none twice, none
// open afterwards but the outputs, no claim left. Runs that are taken are, written anew, what was
// given, and one that is refused ends behind the last word.
#include "../../native/program.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

#include "../../native/claims.h"
#include "../../native/kept_runs.h"
#include "../../native/uapi.h"
#include "../../native/userns.h"

namespace {

constexpr int kFirstFd = 1 << 20;  // above what a process may have
constexpr uint32_t kRuns = 1u << 31;
constexpr size_t kMostRuns = 32;  // the rest is taken, but not run
std::set<int> open_fds;
int next_fd = kFirstFd;
uint32_t answers = 0;  // 0: every call works, and finds zeros
volatile char sink;

[[noreturn]] void Wrong(const char* what, int fd) {
  fprintf(stderr, "%s: %d\n", what, fd);
  abort();
}

uint32_t Random() {
  if (answers == 0) return 0;
  answers ^= answers << 13;
  answers ^= answers >> 17;
  answers ^= answers << 5;
  return answers;
}

void Read(const void* memory, size_t size) {
  const char* bytes = static_cast<const char*>(memory);
  for (size_t i = 0; i < size; i++) sink = bytes[i];
}

void ReadText(const char* text) { Read(text, strlen(text)); }
void ReadMaybe(const char* text) {
  if (text != nullptr) ReadText(text);
}

// Small numbers, so that expectations, registers and claims meet each other.
void Fill(void* memory, size_t size) {
  memset(memory, 0, size);
  if (answers == 0) return;
  for (size_t i = 0; i < size; i += 8) static_cast<char*>(memory)[i] = Random() % 3;
}

long MakeFd() {
  open_fds.insert(next_fd);
  return next_fd++;
}

// As the addon would run it.
void RunOnce(Program* program, const std::vector<uint32_t>& fills, bool timed, bool own_directory) {
  // Somebody else has directories that the program may come upon, for good or until a moment later.
  const uint64_t others = OpenClaim(&fills);
  AddToClaim(others, 1, 2);
  if (answers % 3 == 2) RetireClaim(others);
  const std::atomic<bool> abort{answers % 7 == 6};
  int answered = 0;
  ProgramResult result;
  RunProgram(program,
             {fills, abort, own_directory, timed, program, 1, [&](ProgramResult given, bool) {
                answered++;
                result = std::move(given);
              }});
  if (answered != 1) Wrong("answers", answered);
  if (result.status == ProgramStatus::kDone) {
    for (const int fd : result.outputs) {
      if (fd >= 0 && open_fds.erase(fd) != 1) Wrong("handed out, but not open", fd);
    }
    if (result.claim != 0) DropClaim(result.claim);
  } else if (!result.outputs.empty()) {
    Wrong("handed out by a failure", result.outputs[0]);
  }
  DropClaim(others);
  if (!open_fds.empty()) Wrong("left open", *open_fds.begin());
  if (CountClaims() != 0) Wrong("claims left", static_cast<int>(CountClaims()));
}

// What Environment::TakeInputs lets through: fds that were handed out, each once.
bool TakeInputs(const ProgramHeader& header) {
  for (const auto& input : header.inputs) {
    if (input.second < kFirstFd || !open_fds.insert(input.second).second) {
      open_fds.clear();
      return false;
    }
  }
  return true;
}

// As submitAll does: all of them, or none.
bool TakeRuns(const std::vector<uint32_t>& words, std::vector<KeptRun>* runs) {
  std::vector<uint32_t> again;
  for (size_t at = 0; at < words.size();) {
    const uint64_t begin = at;
    KeptRun run;
    if (!TakeRun(words, &at, &run)) {
      const bool has_head = begin + kRunHead <= words.size();
      if (has_head && begin + kRunHead + words[begin + 2] <= words.size()) {
        Wrong("refused, but whole", static_cast<int>(begin));
      }
      return false;
    }
    again.insert(again.end(), {run.job, run.program, static_cast<uint32_t>(run.fills.size())});
    again.insert(again.end(), run.fills.begin(), run.fills.end());
    runs->push_back(std::move(run));
  }
  if (again != words) Wrong("not the runs that were given", static_cast<int>(again.size()));
  return true;
}

}  // namespace

// What the kernel would do with the arguments. It takes six, however many the call has.
extern "C" __attribute__((no_sanitize("address"))) long FuzzSyscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& each : a) each = va_arg(list, long);
  va_end(list);
  const auto text = [&](int i) { return reinterpret_cast<const char*>(a[i]); };
  if (number == SYS_close) {
    const int fd = static_cast<int>(a[0]);
    if (fd == -1) return errno = EBADF, -1;  // an empty slot
    if (open_fds.erase(fd) != 1) Wrong("closed, but not open", fd);
    return 0;
  }
  bool makes_fd = false;
  switch (number) {
    case SYS_openat2:
      Read(text(2), static_cast<size_t>(a[3]));
      [[fallthrough]];
    case SYS_openat:
    case SYS_open_tree:
    case SYS_fspick:
      ReadText(text(1));
      makes_fd = true;
      break;
    case SYS_open_tree_attr:
      makes_fd = true;
      [[fallthrough]];
    case SYS_mount_setattr:
      ReadText(text(1));
      Read(text(3), static_cast<size_t>(a[4]));
      break;
    case SYS_fsopen:
      ReadText(text(0));
      makes_fd = true;
      break;
    case SYS_fsmount:
    case SYS_fcntl:
      makes_fd = true;
      break;
    case SYS_fsconfig:
      ReadMaybe(text(2));
      ReadMaybe(text(3));
      break;
    case SYS_move_mount:
      ReadText(text(1));
      ReadText(text(3));
      break;
    case SYS_mount:
      ReadMaybe(text(0));
      ReadText(text(1));
      ReadMaybe(text(2));
      ReadMaybe(text(4));
      break;
    case SYS_pivot_root:
      ReadText(text(1));
      [[fallthrough]];
    case SYS_umount2:
    case SYS_chdir:
    case SYS_chroot:
      ReadText(text(0));
      break;
    case SYS_mkdirat:
    case SYS_unlinkat:
    case SYS_fchownat:
    case SYS_fchmodat:
    case SYS_inotify_add_watch:
      ReadText(text(1));
      break;
    case SYS_lsetxattr:
      ReadText(text(0));
      ReadText(text(1));
      Read(text(2), static_cast<size_t>(a[3]));
      break;
    case SYS_statx:
      ReadText(text(1));
      Fill(reinterpret_cast<void*>(a[4]), sizeof(uapi::statx));
      break;
    case SYS_fstatfs:
      Fill(reinterpret_cast<void*>(a[1]), sizeof(struct statfs));
      break;
    case SYS_read:
      if (Random() % 2 == 0) return 0;
      memset(reinterpret_cast<void*>(a[1]), 'e', static_cast<size_t>(a[2]));
      return a[2];
    case SYS_capget:
      Fill(reinterpret_cast<void*>(a[1]), 2 * sizeof(uint32_t) * 3);
      break;
    default:  // no pointers: fchdir, setns, unshare, capset's are ours, prctl
      break;
  }
  if (Random() % 8 == 7) {
    errno = static_cast<int>(Random() % 40) + 1;
    return -1;
  }
  return makes_fd ? MakeFd() : 0;
}

// native/userns.cc makes its child past syscall(2).
long MakeUserNamespace(const char* uid_map, const char* gid_map) {
  ReadText(uid_map);
  ReadText(gid_map);
  return Random() % 8 == 7 ? -ENOSPC : MakeFd();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint32_t> words(size / 4);
  if (words.size() < 2) return -1;
  memcpy(words.data(), data, words.size() * 4);
  const size_t size_of_program = std::min<size_t>(words[0] & ~kRuns, words.size() - 2);
  answers = words[1];
  next_fd = kFirstFd + 1024;
  const bool own_directory = words[1] % 5 != 4, timed = words[1] % 2 == 1;
  const auto at = words.begin() + 2;
  const auto after = at + static_cast<std::ptrdiff_t>(size_of_program);
  const std::vector<uint32_t> rest(after, words.end());
  const auto program = Program::Parse({at, after});
  if ((words[0] & kRuns) != 0) {
    std::vector<KeptRun> runs;
    if (!TakeRuns(rest, &runs)) return 0;
    // What prepare() keeps takes over no fd, and is decoded.
    if (!program || !program->header().inputs.empty() || !program->Decode()) return 0;
    if (runs.size() > kMostRuns) runs.resize(kMostRuns);
    for (const KeptRun& run : runs) RunOnce(program.get(), run.fills, timed, own_directory);
  } else if (program && TakeInputs(program->header())) {
    RunOnce(program.get(), rest, timed, own_directory);
  }
  return 0;
}
