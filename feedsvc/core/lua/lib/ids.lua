-- Activity ids: texts of 19 digits. The number holds milliseconds, 13 bits of a sequence and, in
-- the lowest byte, the shard. Lua's numbers are too short for an id: the functions work on the
-- first nine digits and the last ten. The layout of an id stands in core/ids.py.

-- Return the time of an id in Unix milliseconds.
local function id_ms(id) return math.floor(tonumber(id) / 2097152) end

-- Return the shard of an id. 10^10 is a multiple of 256.
local function id_shard(id) return tonumber(id:sub(-10)) % 256 end

-- Return the sequence and the shard of an id as one number. 2^21 divides 10^10 with this remainder.
local function id_low_bits(id)
  return (tonumber(id:sub(1, 9)) * 779264 + tonumber(id:sub(-10))) % 2097152
end

-- Return the next id above `id` in the shard of `proposed`; `id` may be of another shard.
local function id_above(id, proposed)
  local low = tonumber(id:sub(-10))
  low = low - low % 256 + id_shard(proposed)
  if low <= tonumber(id:sub(-10)) then low = low + 256 end
  if low < 1e10 then return id:sub(1, 9) .. string.format('%010.0f', low) end
  return string.format('%09.0f%010.0f', tonumber(id:sub(1, 9)) + 1, low - 1e10)
end

-- Return an id above `id` that is as much the caller's own as `proposed`: an id of the next
-- millisecond with the proposed sequence. The ids of activities that the store has lost are then
-- not used again.
local function id_above_by_time(id, proposed)
  local high = tonumber(id:sub(1, 9))
  local low = tonumber(id:sub(-10)) - id_low_bits(id) + 2097152 + id_low_bits(proposed)
  if low >= 1e10 then high, low = high + 1, low - 1e10 end
  if low < 0 then high, low = high - 1, low + 1e10 end
  return string.format('%09.0f%010.0f', high, low)
end

-- Return the proposed id, moved to another time. A product of 2^21 and milliseconds is too long for
-- a number; products with parts of the milliseconds are not.
local function id_at(ms, proposed)
  local high, low = math.floor(ms / 1e6) * 2097152, ms % 1e6 * 2097152 + id_low_bits(proposed)
  low = high % 1e4 * 1e6 + low
  return string.format('%09.0f%010.0f', math.floor(high / 1e4) + math.floor(low / 1e10), low % 1e10)
end
