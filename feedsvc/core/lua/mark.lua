-- Notes in which shards entities have followers.
-- KEYS  the tag of the entities' shard
-- ARGV  for each: entity, a shard of its followers
for first = 1, #ARGV, 2 do
  local entity, shard = key(EDGES, ARGV[first]), tonumber(ARGV[first + 1])
  local bitmap, at, bit_of = redis.call('HGET', entity, SHARDS) or '', math.floor(shard / 8), 2 ^ (7 - shard % 8)
  bitmap = bitmap .. string.rep('\0', at + 1 - #bitmap)
  local byte = bitmap:byte(at + 1)
  if bit.band(byte, bit_of) == 0 then
    redis.call('HSET', entity, SHARDS, bitmap:sub(1, at) .. string.char(byte + bit_of) .. bitmap:sub(at + 2))
  end
end
