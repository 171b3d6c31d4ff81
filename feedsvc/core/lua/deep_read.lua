-- include: packed deep
-- Reads a slice of a feed's deep segment.
-- KEYS  the tag of the user's shard
-- ARGV  user, 'older' or 'newer', cursor, the greatest id below it, count, followees that are few
-- Returns {'segment', floor, ceiling, floor of the outboxes in it, {sources that are not in it}, {pulled followees}, {ids beyond
--         the cursor, nearest to it first}}; {'few', fields of the user's edges} if nobody needs a segment; or {'none'}
local user, older, cursor, count = ARGV[1], ARGV[2] == 'older', ARGV[3], tonumber(ARGV[5])
if redis.call('HLEN', key(EDGES, user)) <= tonumber(ARGV[6]) then
  return {'few', unpack(redis.call('HKEYS', key(EDGES, user)))}
end
local head, place = deep_serving(user, older, cursor, ARGV[4])
if not head then return {'none'} end
local deep, ids, sources = cache_key(DEEP, user), {}, {}
if older then
  local found = place > 2 and redis.call('LRANGE', deep, math.max(2, place - count), place - 1) or {}
  for i = #found, 1, -1 do ids[#ids + 1] = found[i] end
else
  ids = redis.call('LRANGE', deep, place, place + count - 1)
end
local floor, ceiling, outbox_floor = head:match('^(%d+) (%d+) (%d+)')
for source in head:gmatch('%z([^%z]+)') do sources[#sources + 1] = source end
return {'segment', floor, ceiling, outbox_floor, sources, redis.call('SMEMBERS', key(PULLED, user)), ids}
