-- include: arrays deep packed
-- End the build of a feed's deep segment: store the ids that were merged from the outboxes and the
-- ids that were delivered late since the build began.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, edge generation at the beginning, milliseconds to keep the segment, floor,
--       ceiling, floor of the outboxes, allowance, number of elements of the warm feed at the
--       beginning, number of sources that are not in the segment, then these sources, then the ids,
--       ascending
-- Returns 1, or 0 if another build, an expiry or a changed edge came between
-- Repeat: finds no marker and returns 0. The segment is stored already.
local user, nonce, generation, ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local floor, ceiling, outbox_floor, allowance, feed_length = unpack(ARGV, 5, 9)
local SOURCES = 11
local ids_from = SOURCES + tonumber(ARGV[10])
local deep = cache_key(DEEP, user)

local stored = redis.call('LRANGE', deep, 0, -1)
if stored[1] ~= '!' .. nonce then return 0 end
if not warm_head(user)
  or (redis.call('HGET', key(EDGES, user), GENERATION) or '') ~= generation then
  redis.call('DEL', deep)
  return 0
end
local head = table.concat({floor, ceiling, outbox_floor, allowance, feed_length}, ' ')
local is_left_out = {}
for i = SOURCES, ids_from - 1 do
  is_left_out[ARGV[i]] = true
  head = head .. '\0' .. ARGV[i]
end
local late_ids, spent = {}, tonumber(stored[2])
for i = 3, #stored do
  local id, source = stored[i]:match('^(%d+)%z(.*)$')
  if id > floor then spent = spent + 1 end
  if id <= ceiling and not is_left_out[source]
    and redis.call('SISMEMBER', key(PULLED, user), source) == 0 then
    late_ids[#late_ids + 1] = id
  end
end
table.sort(late_ids)
packed_rewrite(deep, packed_merge(late_ids, slice(ARGV, ids_from), floor), head .. '\0', spent)
redis.call('PEXPIRE', deep, ttl_ms)
return 1
