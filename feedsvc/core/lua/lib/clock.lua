-- The store's clock, which all processes share. An operator may set the clock back. A script sees
-- the same time from its first look at the clock to its end.
local script_us

local function clock_us()
  if not script_us then
    local now = redis.call('TIME')
    script_us = tonumber(now[1]) * 1000000 + tonumber(now[2])
  end
  return script_us
end

local function clock_ms() return math.floor(clock_us() / 1000) end
