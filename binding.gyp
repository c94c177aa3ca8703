{
  "targets": [
    {
      "target_name": "overlayfd",
      "sources": [
        "native/addon.cc",
        "native/sys.cc",
        "native/program.cc",
        "native/arguments.cc",
        "native/run.cc",
        "native/step.cc",
        "native/calls.cc",
        "native/pool.cc",
        "native/environment.cc",
        "native/pools.cc",
        "native/jobs.cc",
        "native/userns.cc",
        "native/fsids.cc",
        "native/claims.cc",
        "native/claims_js.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_GNU_SOURCE"],
      "ldflags": ["-Wl,-z,nodelete"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden", "-O2"]
    }
  ]
}
