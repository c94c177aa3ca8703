// The system calls of syscalls.h for JavaScript, 1:1 and synchronous, on the calling thread.
//
// Each answers the kernel's result, or -errno; what a result means is for lib/ to say. The
// functions here only bring structs and buffers into the shape of a call; marshal.h checks types.
#include <napi.h>
#include <string.h>

#include "constants.h"
#include "exports.h"
#include "marshal.h"
#include "syscalls.h"

namespace {

// What FSCONFIG_SET_* takes as its value: bytes whose length the kernel must be able to trust.
struct ParameterValue {
  const void* data;
};

// A BigInt64Array with room for the numbers of one struct statfs.
struct StatfsNumbers {
  static constexpr size_t kCount = 11;
  int64_t* data;
};

bool Take(const Napi::CallbackInfo& info, size_t index, ParameterValue* out) {
  out->data = nullptr;
  if (info[index].IsNull()) return true;
  unsigned command = 0;
  int aux = 0;
  Bytes bytes;
  if (!::Take(info, 1, &command) || !::Take(info, 4, &aux)) return false;
  if (!::Take(info, index, &bytes)) return false;
  const bool binary = command == FSCONFIG_SET_BINARY;
  if (binary && (aux < 0 || static_cast<size_t>(aux) > bytes.size)) {
    return Refuse(info, index, "as long as argument 5 says");
  }
  if (!binary && !IsCString(bytes)) {
    return Refuse(info, index, "null or a Uint8Array that ends in one NUL and holds no other");
  }
  out->data = bytes.data;
  return true;
}

bool Take(const Napi::CallbackInfo& info, size_t index, StatfsNumbers* out) {
  if (info[index].IsTypedArray()) {
    const Napi::TypedArray array = info[index].As<Napi::TypedArray>();
    if (array.TypedArrayType() == napi_bigint64_array &&
        array.ElementLength() >= StatfsNumbers::kCount) {
      out->data = array.As<Napi::BigInt64Array>().Data();
      return true;
    }
  }
  return Refuse(info, index, "a BigInt64Array of 11 elements or more");
}

long Fsconfig(int fs_fd, unsigned command, MaybeString key, ParameterValue value, int aux) {
  return sys_fsconfig(fs_fd, command, key.chars, value.data, aux);
}

long OpenTreeAttr(int dir_fd, const char* path, unsigned flags, uint64_t attr_set,
                  uint64_t attr_clr, uint64_t propagation, uint64_t userns_fd) {
  const uapi::mount_attr attr = {attr_set, attr_clr, propagation, userns_fd};
  return sys_open_tree_attr(dir_fd, path, flags, &attr);
}

long MountSetattr(int dir_fd, const char* path, unsigned flags, uint64_t attr_set,
                  uint64_t attr_clr, uint64_t propagation, uint64_t userns_fd) {
  const uapi::mount_attr attr = {attr_set, attr_clr, propagation, userns_fd};
  return sys_mount_setattr(dir_fd, path, flags, &attr);
}

long Mount(MaybeString source, const char* target, MaybeString type, uint64_t flags,
           MaybeString data) {
  return sys_mount(source.chars, target, type.chars, flags, data.chars);
}

long Read(int fd, Bytes buffer) { return sys_read(fd, buffer.data, buffer.size); }

long Getcwd(Bytes buffer) { return sys_getcwd(reinterpret_cast<char*>(buffer.data), buffer.size); }

long Readlinkat(int dir_fd, const char* path, Bytes buffer) {
  return sys_readlinkat(dir_fd, path, reinterpret_cast<char*>(buffer.data), buffer.size);
}

long Openat2(int dir_fd, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  const uapi::open_how how = {flags, mode, resolve};
  return sys_openat2(dir_fd, path, &how);
}

long Statx(int dir_fd, const char* path, int flags, unsigned mask, Bytes out) {
  uapi::statx result;
  if (out.size < sizeof(result)) return -ERANGE;
  const long status = sys_statx(dir_fd, path, flags, mask, &result);
  if (status >= 0) memcpy(out.data, &result, sizeof(result));
  return status;
}

long Statmount(uint64_t mount_id, uint64_t mask, Bytes out) {
  const uapi::mnt_id_req request = {sizeof(request), 0, mount_id, mask};
  return sys_statmount(&request, out.data, out.size);
}

long StatmountIn(uint64_t mount_namespace_id, uint64_t mount_id, uint64_t mask, Bytes out) {
  const uapi::mnt_id_req_ns request = {{sizeof(request), 0, mount_id, mask}, mount_namespace_id};
  return sys_statmount(&request.request, out.data, out.size);
}

long CopyStatfs(long status, const struct statfs& from, StatfsNumbers to) {
  if (status < 0) return status;
  int64_t fsid = 0;
  static_assert(sizeof(fsid) == sizeof(from.f_fsid), "two ints");
  memcpy(&fsid, &from.f_fsid, sizeof(fsid));
  const int64_t numbers[StatfsNumbers::kCount] = {
      from.f_type,
      from.f_bsize,
      static_cast<int64_t>(from.f_blocks),
      static_cast<int64_t>(from.f_bfree),
      static_cast<int64_t>(from.f_bavail),
      static_cast<int64_t>(from.f_files),
      static_cast<int64_t>(from.f_ffree),
      fsid,
      from.f_namelen,
      from.f_frsize,
      from.f_flags,
  };
  memcpy(to.data, numbers, sizeof(numbers));
  return status;
}

long Fstatfs(int fd, StatfsNumbers out) {
  struct statfs result;
  const long status = sys_fstatfs(fd, &result);
  return CopyStatfs(status, result, out);
}

long Statfs(const char* path, StatfsNumbers out) {
  struct statfs result;
  const long status = sys_statfs(path, &result);
  return CopyStatfs(status, result, out);
}

long Lgetxattr(const char* path, MaybeString name, Bytes buffer) {
  if (name.chars == nullptr) {
    return sys_llistxattr(path, reinterpret_cast<char*>(buffer.data), buffer.size);
  }
  return sys_lgetxattr(path, name.chars, buffer.data, buffer.size);
}

// strerror_r has two shapes: GNU's answers the text, POSIX's fills the buffer.
const char* ErrorText(const char* text, const char*) { return text; }
[[maybe_unused]] const char* ErrorText(int, const char* buffer) { return buffer; }

Napi::Value Strerror(const Napi::CallbackInfo& info) {
  int number = 0;
  if (!::Take(info, 0, &number)) return info.Env().Undefined();
  char buffer[128] = "";
  return Napi::String::New(info.Env(),
                           ErrorText(strerror_r(number, buffer, sizeof(buffer)), buffer));
}

struct Binding {
  const char* name;
  Napi::Value (*call)(const Napi::CallbackInfo&);
};

const Binding kBindings[] = {
    {"fsopen", Bind<sys_fsopen>},
    {"fsconfig", Bind<Fsconfig>},
    {"fsmount", Bind<sys_fsmount>},
    {"fspick", Bind<sys_fspick>},
    {"openTree", Bind<sys_open_tree>},
    {"openTreeAttr", Bind<OpenTreeAttr>},
    {"moveMount", Bind<sys_move_mount>},
    {"mountSetattr", Bind<MountSetattr>},
    {"mount", Bind<Mount>},
    {"umount", Bind<sys_umount2>},
    {"inotifyInit1", Bind<sys_inotify_init1>},
    {"read", Bind<Read>},
    {"close", Bind<sys_close>},
    {"getcwd", Bind<Getcwd>},
    {"readlinkat", Bind<Readlinkat>},
    {"openat2", Bind<Openat2>},
    {"statx", Bind<Statx>},
    {"statmount", Bind<Statmount>},
    {"statmountIn", Bind<StatmountIn>},
    {"mountNamespaceId", Bind<sys_mount_namespace_id>},
    {"fstatfs", Bind<Fstatfs>},
    {"statfs", Bind<Statfs>},
    {"setns", Bind<sys_setns>},
    {"unshare", Bind<sys_unshare>},
    {"fchdir", Bind<sys_fchdir>},
    {"lgetxattr", Bind<Lgetxattr>},
    {"strerror", Strerror},
};

template <size_t count>
Napi::Object ToObject(Napi::Env env, const NamedNumber (&numbers)[count]) {
  Napi::Object object = Napi::Object::New(env);
  for (const NamedNumber& number : numbers) {
    object.Set(number.name, Napi::Number::New(env, number.value));
  }
  return object;
}

}  // namespace

void InitSys(Napi::Env env, Napi::Object exports) {
  for (const Binding& binding : kBindings) {
    exports.Set(binding.name, Napi::Function::New(env, binding.call, binding.name,
                                                  const_cast<char*>(binding.name)));
  }

  exports.Set("constants", ToObject(env, kConstants));
  exports.Set("sizes", ToObject(env, kSizes));
}
