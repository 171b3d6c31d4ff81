-- include: deep
-- Read a page's ids from a feed's deep segment.
-- KEYS  the tag of the user's shard
-- ARGV  user, 'older' or 'newer', cursor, top: the greatest id below the cursor, count, most edges
--       with which a reader merges the outboxes itself
-- Returns {'segment', floor, ceiling, floor of the outboxes in the segment, {sources that are not
--         in the segment}, {PULL followees}, {ids beyond the cursor, nearest to it first}}; {'few',
--         fields of the user's edges} if no reader needs a segment; or {'none'} if no segment
--         serves the cursor
-- Repeat: only reads.
local user, is_older, cursor, top = ARGV[1], ARGV[2] == 'older', ARGV[3], ARGV[4]
local count, few_edges = tonumber(ARGV[5]), tonumber(ARGV[6])
local edges, deep = key(EDGES, user), cache_key(DEEP, user)

if redis.call('HLEN', edges) <= few_edges then
  return {'few', unpack(redis.call('HKEYS', edges))}
end
local head, index = deep_serving(user, is_older, cursor, top)
if not head then return {'none'} end
local ids, sources = {}, {}
if is_older then
  local ascending = {}
  if index > 2 then
    ascending = redis.call('LRANGE', deep, math.max(2, index - count), index - 1)
  end
  for i = #ascending, 1, -1 do ids[#ids + 1] = ascending[i] end
else
  ids = redis.call('LRANGE', deep, index, index + count - 1)
end
local floor, ceiling, outbox_floor = head:match('^(%d+) (%d+) (%d+)')
for source in head:gmatch('%z([^%z]+)') do sources[#sources + 1] = source end
local pulled = redis.call('SMEMBERS', key(PULLED, user))
return {'segment', floor, ceiling, outbox_floor, sources, pulled, ids}
