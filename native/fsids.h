// The ids that file access is checked with, for one thread and for a while.
#pragma once

#include <cstdint>

// prctl(PR_GET_DUMPABLE), capget, setfsgid, setfsuid, capset: the calling thread's files are those
// of uid:gid from here on, and its effective capabilities stay as they are (setfsuid takes those
// away that speak of files). 0 or -errno; after an error everything is as before.
long AssumeFsIds(uint32_t uid, uint32_t gid);

// setfsuid, setfsgid, prctl(PR_SET_DUMPABLE): back to uid:gid, which were the thread's own.
long RestoreFsIds(uint32_t uid, uint32_t gid);
