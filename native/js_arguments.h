// What the exports of pools and jobs make of their arguments. Types are checked here; lib/ has
// checked everything else.
#pragma once

#include <napi.h>

#include <cstring>
#include <vector>

inline Napi::Value Refuse(Napi::Env env, const char* what) {
  if (!env.IsExceptionPending()) Napi::TypeError::New(env, what).ThrowAsJavaScriptException();
  return env.Undefined();
}

inline uint32_t Number(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? info[index].As<Napi::Number>().Uint32Value() : 0;
}

inline std::vector<uint32_t> Words(const uint8_t* bytes, size_t size) {
  std::vector<uint32_t> words(size / 4);
  // The memory of an empty array is nullptr, which memcpy must not be given.
  if (!words.empty()) memcpy(words.data(), bytes, words.size() * 4);
  return words;
}

inline bool TakeBytes(const Napi::Value& value, Napi::Uint8Array* bytes) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return false;
  }
  *bytes = value.As<Napi::Uint8Array>();
  return true;
}
