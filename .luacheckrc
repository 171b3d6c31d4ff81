-- Settings of luacheck, which tools/check-lua runs over the assembled scripts.
std = "lua51+store"
max_line_length = 100
-- A script may use a library without setting a variable of the library.
ignore = {"221"}
-- What the store gives to a script, beside Lua's own names.
stds.store = {
  globals = {},
  read_globals = {
    "KEYS", "ARGV", "cjson", "struct", "cmsgpack",
    bit = {fields = {"band", "bor", "bxor", "bnot", "lshift", "rshift", "tohex"}},
    redis = {fields = {
      "call", "pcall", "error_reply", "status_reply", "sha1hex", "log", "LOG_WARNING",
    }},
  },
}
