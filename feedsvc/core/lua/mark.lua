-- Mark in which shards entities have followers.
-- KEYS  the tag of the entities' shard
-- ARGV  for each mark: entity, number of a shard of its followers
-- Returns the mode of each entity
-- Repeat: finds the bits set and returns the modes.
local FIELDS = 2

local function mark(entity, shard)
  local edges = key(EDGES, entity)
  local bitmap, mode = unpack(redis.call('HMGET', edges, SHARDS, MODE))
  local index, mask = math.floor(shard / 8), 2 ^ (7 - shard % 8)
  bitmap = bitmap or ''
  bitmap = bitmap .. string.rep('\0', index + 1 - #bitmap)
  local byte = bitmap:byte(index + 1)
  if bit.band(byte, mask) == 0 then
    bitmap = bitmap:sub(1, index) .. string.char(byte + mask) .. bitmap:sub(index + 2)
    redis.call('HSET', edges, SHARDS, bitmap)
  end
  return mode or ''
end

local modes = {}
for first = 1, #ARGV, FIELDS do
  modes[#modes + 1] = mark(ARGV[first], tonumber(ARGV[first + 1]))
end
return modes
