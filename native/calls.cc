#include "calls.h"

#include <sys/statfs.h>

#include <cstring>

#include "syscalls.h"
#include "userns.h"

namespace {

#define ARG(type, i) (type)(v.raw[i])
#define FD(i) static_cast<int>(v.raw[i])
#define TEXT(i) reinterpret_cast<const char*>(v.raw[i])
#define INVOKE \
  [](const Values& v, [[maybe_unused]] const Step& s, [[maybe_unused]] void* out) -> long

// The order is the numbering; lib/program/step.ts has the same, and a test compares the two.
const Call kCalls[] = {
    {"openat", "fpii", INVOKE{return sys_openat(FD(0), TEXT(1), FD(2), ARG(unsigned, 3));
}  // namespace
}
, {"openat2", "fph", INVOKE{return sys_openat2(FD(0), TEXT(1), &v.how);
}
}
, {"close", "f", INVOKE{return sys_close(FD(0));
}
, Trait::kCloses
}
, {"fsopen", "pi", INVOKE{return sys_fsopen(TEXT(0), ARG(unsigned, 1));
}
}
, {"fsconfig", "fiPPv",
   INVOKE{return sys_fsconfig(FD(0), ARG(unsigned, 1), TEXT(2), TEXT(3), FD(4));
}
}
, {"fsmount", "fii", INVOKE{return sys_fsmount(FD(0), ARG(unsigned, 1), ARG(unsigned, 2));
}
}
, {"open_tree", "fpi", INVOKE{return sys_open_tree(FD(0), TEXT(1), ARG(unsigned, 2));
}
}
, {"open_tree_attr", "fpia",
   INVOKE{return sys_open_tree_attr(FD(0), TEXT(1), ARG(unsigned, 2), &v.attr);
}
}
, {"move_mount", "fpfpi",
   INVOKE{return sys_move_mount(FD(0), TEXT(1), FD(2), TEXT(3), ARG(unsigned, 4));
}
}
, {"mount_setattr", "fpia",
   INVOKE{return sys_mount_setattr(FD(0), TEXT(1), ARG(unsigned, 2), &v.attr);
}
}
, {"mount", "PpPiP",
   INVOKE{return sys_mount(TEXT(0), TEXT(1), TEXT(2), ARG(unsigned long, 3), TEXT(4));
}
}
, {"umount2", "pi", INVOKE{return sys_umount2(TEXT(0), FD(1));
}
}
, {"statx", "fpiix",
   INVOKE{return sys_statx(FD(0), TEXT(1), FD(2), ARG(unsigned, 3), static_cast<uapi::statx*>(out));
}
}
, {"fstatfs", "fs", INVOKE{return sys_fstatfs(FD(0), static_cast<struct statfs*>(out));
}
}
, {"fchdir", "f", INVOKE{return sys_fchdir(FD(0));
}
, Trait::kChangesDirectory
}
, {"chdir", "p", INVOKE{return sys_chdir(TEXT(0));
}
, Trait::kChangesDirectory
}
, {"mkdirat", "fpi", INVOKE{return sys_mkdirat(FD(0), TEXT(1), ARG(unsigned, 2));
}
}
, {"unlinkat", "fpi", INVOKE{return sys_unlinkat(FD(0), TEXT(1), FD(2));
}
}
, {"fchownat", "fpiii",
   INVOKE{return sys_fchownat(FD(0), TEXT(1), ARG(uint32_t, 2), ARG(uint32_t, 3), FD(4));
}
}
, {"fchmodat", "fpi", INVOKE{return sys_fchmodat(FD(0), TEXT(1), ARG(unsigned, 2));
}
}
, {"lsetxattr", "ppbi",
   INVOKE{return sys_lsetxattr(TEXT(0), TEXT(1), TEXT(2), s.argument[2].size, FD(3));
}
}
, {"setfsuid", "i", INVOKE{return sys_setfsuid(ARG(uint32_t, 0));
}
}
, {"setfsgid", "i", INVOKE{return sys_setfsgid(ARG(uint32_t, 0));
}
}
, {"prctl", "iiiii", INVOKE{return sys_prctl(FD(0), v.raw[1], v.raw[2], v.raw[3], v.raw[4]);
}
}
, {"userns", "pp", INVOKE{return MakeUserNamespace(TEXT(0), TEXT(1));
}
}
,
}
;
#undef INVOKE
#undef TEXT
#undef FD
#undef ARG

}  // namespace

uint32_t CallCount() { return sizeof kCalls / sizeof *kCalls; }

const Call& CallOf(uint32_t number) { return kCalls[number]; }

size_t OutSize(const Call& call) {
  if (strchr(call.signature, 'x')) return sizeof(uapi::statx);
  if (strchr(call.signature, 's')) return sizeof(struct statfs);
  return 0;
}

std::vector<std::string> ProgramCalls() {
  std::vector<std::string> names;
  for (uint32_t i = 0; i < CallCount(); i++) {
    names.push_back(std::string(CallOf(i).name) + ":" + CallOf(i).signature);
  }
  return names;
}
