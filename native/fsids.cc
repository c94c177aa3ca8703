// No securebits: SECBIT_NO_SETUID_FIXUP would spare the capset, but a thread that keeps it keeps
// all its capabilities when the process drops root later (seen on Linux 6.18).
//
// A change of fsuid makes the whole process non-dumpable: its /proc files become root's, and core
// dumps and ptrace are gone for good. So the flag is remembered by the first thread that goes in
// and put back by the last that comes out.
#include "fsids.h"

#include <linux/capability.h>
#include <sys/prctl.h>

#include <mutex>

#include "syscalls.h"

namespace {

std::mutex mutex;
int inside = 0;
long dumpable = 0;

struct Capabilities {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
};

void Enter() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (inside++ == 0) dumpable = sys_prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
}

void Leave() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (--inside == 0 && dumpable == 1) sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

}  // namespace

long AssumeFsIds(uint32_t uid, uint32_t gid) {
  Capabilities before;
  Enter();
  long result = sys_call(SYS_capget, &before.header, before.data);
  if (result < 0) {
    Leave();
    return result;
  }
  const long own_gid = syscall(SYS_setfsgid, gid);
  const long own_uid = syscall(SYS_setfsuid, uid);
  result = sys_call(SYS_capset, &before.header, before.data);
  if (result < 0) RestoreFsIds(static_cast<uint32_t>(own_uid), static_cast<uint32_t>(own_gid));
  return result;
}

long RestoreFsIds(uint32_t uid, uint32_t gid) {
  sys_setfsuid(uid);
  sys_setfsgid(gid);
  Leave();
  return 0;
}
