// Turns the arguments of a JavaScript call into those of a C++ function, by the function's own
// parameter types: `Bind<sys_fsopen>` is a whole binding. A value of another type is a TypeError
// that names the function and the argument, never a crash; what the numbers mean is not looked at.
//
//   parameter             JavaScript value
//   int, unsigned         a whole number in range
//   uint64_t              a whole number from 0, or a bigint
//   const char*           CString: a Uint8Array that ends in one NUL and holds no other
//   MaybeString           a CString or null
//   Bytes                 a Uint8Array, of any length
#pragma once

#include <napi.h>
#include <string.h>

#include <string>
#include <tuple>
#include <utility>

struct MaybeString {
  const char* chars;
};

struct Bytes {
  uint8_t* data;
  size_t size;
};

inline bool Refuse(const Napi::CallbackInfo& info, size_t index, const char* expected) {
  const std::string text = std::string(static_cast<const char*>(info.Data())) + ": argument " +
                           std::to_string(index + 1) + " must be " + expected;
  Napi::TypeError::New(info.Env(), text).ThrowAsJavaScriptException();
  return false;
}

inline bool WholeNumber(const Napi::Value& value, double min, double max, double* out) {
  if (!value.IsNumber()) return false;
  *out = value.As<Napi::Number>().DoubleValue();
  return *out >= min && *out <= max && *out == static_cast<double>(static_cast<int64_t>(*out));
}

inline bool IsBytes(const Napi::Value& value, Bytes* out) {
  if (!value.IsTypedArray()) return false;
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array) return false;
  *out = {array.As<Napi::Uint8Array>().Data(), array.ByteLength()};
  return true;
}

inline bool IsCString(const Bytes& bytes) {
  return bytes.size > 0 && memchr(bytes.data, 0, bytes.size) == bytes.data + bytes.size - 1;
}

inline bool Take(const Napi::CallbackInfo& info, size_t index, int* out) {
  double number = 0;
  if (!WholeNumber(info[index], INT32_MIN, INT32_MAX, &number)) {
    return Refuse(info, index, "a signed 32-bit integer");
  }
  *out = static_cast<int>(number);
  return true;
}

inline bool Take(const Napi::CallbackInfo& info, size_t index, unsigned* out) {
  double number = 0;
  if (!WholeNumber(info[index], 0, UINT32_MAX, &number)) {
    return Refuse(info, index, "an unsigned 32-bit integer");
  }
  *out = static_cast<unsigned>(number);
  return true;
}

inline bool Take(const Napi::CallbackInfo& info, size_t index, uint64_t* out) {
  constexpr double kMaxSafe = 9007199254740991;
  double number = 0;
  if (WholeNumber(info[index], 0, kMaxSafe, &number)) {
    *out = static_cast<uint64_t>(number);
    return true;
  }
  bool lossless = false;
  if (info[index].IsBigInt()) *out = info[index].As<Napi::BigInt>().Uint64Value(&lossless);
  return lossless || Refuse(info, index, "an unsigned 64-bit integer (a safe number or a bigint)");
}

inline bool Take(const Napi::CallbackInfo& info, size_t index, Bytes* out) {
  return IsBytes(info[index], out) || Refuse(info, index, "a Uint8Array");
}

inline bool Take(const Napi::CallbackInfo& info, size_t index, const char** out) {
  Bytes bytes;
  if (!IsBytes(info[index], &bytes) || !IsCString(bytes)) {
    return Refuse(info, index, "a Uint8Array that ends in one NUL and holds no other");
  }
  *out = reinterpret_cast<const char*>(bytes.data);
  return true;
}

inline bool Take(const Napi::CallbackInfo& info, size_t index, MaybeString* out) {
  out->chars = nullptr;
  return info[index].IsNull() || Take(info, index, &out->chars);
}

template <typename... Args, size_t... Index>
Napi::Value Invoke(const Napi::CallbackInfo& info, long (*function)(Args...),
                   std::index_sequence<Index...>) {
  std::tuple<Args...> args;
  if (!(Take(info, Index, &std::get<Index>(args)) && ...)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(function(std::get<Index>(args)...)));
}

template <typename... Args>
Napi::Value Invoke(const Napi::CallbackInfo& info, long (*function)(Args...)) {
  return Invoke(info, function, std::index_sequence_for<Args...>());
}

template <auto function>
Napi::Value Bind(const Napi::CallbackInfo& info) {
  return Invoke(info, function);
}
