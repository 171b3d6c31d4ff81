-- Notes in which shards entities have followers. Returns the mode of each.
-- KEYS  the tag of the entities' shard
-- ARGV  for each: entity, a shard of its followers
local modes = {}
for first = 1, #ARGV, 2 do
  local entity, shard = key(EDGES, ARGV[first]), tonumber(ARGV[first + 1])
  local found = redis.call('HMGET', entity, SHARDS, MODE)
  local bitmap, at, bit_of = found[1] or '', math.floor(shard / 8), 2 ^ (7 - shard % 8)
  bitmap = bitmap .. string.rep('\0', at + 1 - #bitmap)
  local byte = bitmap:byte(at + 1)
  if bit.band(byte, bit_of) == 0 then
    redis.call('HSET', entity, SHARDS, bitmap:sub(1, at) .. string.char(byte + bit_of) .. bitmap:sub(at + 2))
  end
  modes[#modes + 1] = found[2] or ''
end
return modes
