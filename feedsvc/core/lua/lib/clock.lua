-- The store's clock: the one that all processes share. It may be set back.
local function clock_us()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

local function clock_ms() return math.floor(clock_us() / 1000) end
